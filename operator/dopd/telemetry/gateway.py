"""What the gateway believes: its list of workers (SMG `GET /workers`), compared with what should be there."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.names import ROUTER_PORT
from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.addresses import listed_address


@dataclass(frozen=True)
class GatewayView:
    """Workers as the gateway pods list them.

    Attributes:
        listed: addresses (host:port, see `addresses`) that any gateway pod lists, draining ones included.
        roles: for each gateway pod, address to role of the workers that it routes to.
        silent: gateway pods that did not answer.
    """

    listed: frozenset[str]
    roles: tuple[dict[str, str], ...]
    silent: tuple[str, ...]

    def registered(self, address: str | None) -> bool | None:
        """Whether some gateway may still send requests to an address; None when that is not known."""
        if address in self.listed:
            return True
        return None if self.silent else False


async def read_gateways(http: PodHttp, pods: Sequence[dict[str, Any]]) -> GatewayView:
    """Ask every gateway pod for its workers."""

    async def one(pod: dict[str, Any]) -> list[dict[str, Any]] | None:
        try:
            answer: list[dict[str, Any]] = (await http.get_json(pod, ROUTER_PORT, "/workers"))["workers"]
            return answer
        except (PodHttpError, KeyError, TypeError):
            return None

    # A gateway pod without an address never got a request and knows no worker.
    asked = [pod for pod in pods if pod.get("status", {}).get("podIP")]
    answers = await asyncio.gather(*(one(pod) for pod in asked))
    listed: set[str] = set()
    roles = []
    for workers in answers:
        if workers is None:
            continue
        listed.update(_address(worker) for worker in workers)
        roles.append({_address(w): str(w["worker_type"]) for w in workers if w.get("status") != "draining"})
    silent = tuple(p["metadata"]["name"] for p, answer in zip(asked, answers, strict=True) if answer is None)
    return GatewayView(frozenset(listed), tuple(roles), silent)


def _address(worker: dict[str, Any]) -> str:
    return listed_address(str(worker["url"]))
