"""The bootstrap server of a prefill engine: an HTTP registry in which decode engines look up where to pull from.

As in SGLang (disaggregation/common/conn.py: CommonKVBootstrapServer) it belongs to the process, not to the role: a
role switch replaces the address that it gives out and leaves the server up. That is what keeps an outdated address
alive in the caches of decode engines (see decode_transfer.py).
"""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

_ROUTE_QUERY = ("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank")


@dataclass(frozen=True)
class PrefillRank:
    """Where a prefill engine accepts requests for KV cache. `host` None: the address under which it was asked."""

    host: str | None
    port: int


class BootstrapServer:
    """Serves /health and /route on a port of its own."""

    def __init__(self, host: str, port: int, *, http_port: int, page_size: int) -> None:
        self.host = host
        self.port = port
        self.rank: PrefillRank | None = None
        self._info = {
            "attn_tp_size": 1, "attn_cp_size": 1, "dp_size": 1, "pp_size": 1, "page_size": page_size,
            "kv_cache_dtype": "auto", "follow_bootstrap_room": True, "enable_dsa_cache_layer_split": False,
            "decode_allocation_policy": "early", "enable_kv_cache_sharding": False, "prefill_http_port": http_port,
        }  # fmt: skip
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/route", self._route)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _route(self, request: web.Request) -> web.Response:
        try:
            wanted = [int(request.query[name]) for name in _ROUTE_QUERY]
        except (KeyError, ValueError):
            return web.Response(text="Missing inputs for bootstrap server.", status=400)
        if self.rank is None:
            return web.Response(text="Prefill server not fully registered yet (0 workers registered).", status=503)
        if wanted == [-1, -1, -1, -1]:
            return web.json_response(self._info)
        if wanted != [0, 0, 0, 0]:
            dp, cp, tp, pp = wanted
            text = f"Bootstrap info not found for dp_rank={dp} cp_rank={cp} tp_rank={tp} pp_rank={pp}"
            return web.Response(text=text, status=404)
        return web.json_response({"rank_ip": self.rank.host or _own_address(request), "rank_port": self.rank.port})


def _own_address(request: web.Request) -> str:
    assert request.transport is not None  # a request that is being answered has one
    own: tuple[Any, ...] = request.transport.get_extra_info("sockname")
    return str(own[0])
