"""Process: the Prometheus, gateways and engines that are played, for pods that kwok plays.

Pods have addresses of 127.0.0.0/8, all of which lead here: the address that a request came to tells which pod is asked.
So the operator keeps a connection to each of thousands of pods, as it would in a cluster. `/counts` tells what it was
asked.

Usage: python -m e2e.scale.player PORT NAMESPACES RESOURCES WORKERS, with KUBECONFIG.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter, defaultdict
from typing import Any

from aiohttp import web

from dopd.api.names import ENGINE_PORT, INSTANCE_LABEL, ROLE_LABEL, ROUTER_POOL
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.cluster.watch import events
from e2e.scale.series import Played, times_between
from e2e.scale.sizes import names

Json = dict[str, Any]
IDLE = {"num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, "token_usage": 0.0}
LOADS = json.dumps({"loads": [IDLE]}).encode()


class Player:
    """What is asked, and the answers."""

    def __init__(self, played: Played) -> None:
        self._played = played
        self._counts: Counter[str] = Counter()
        self._instance_of: dict[str, tuple[str, str]] = {}
        self._workers: dict[tuple[str, str], dict[str, Json]] = defaultdict(dict)

    def see(self, kind: str, pod: Json) -> None:
        """One event of a pod."""
        meta, address = pod["metadata"], pod.get("status", {}).get("podIP")
        labels = meta.get("labels", {})
        key = (meta["namespace"], labels.get(INSTANCE_LABEL, ""))
        if address:
            self._instance_of[address] = key
        listed = self._workers[key]
        gone = kind == "DELETED" or "deletionTimestamp" in meta or ROLE_LABEL not in labels or not address
        if gone or labels.get("dopd.dev/pool") == ROUTER_POOL:
            listed.pop(meta["name"], None)
        else:
            listed[meta["name"]] = {"url": f"http://{address}:{ENGINE_PORT}", "worker_type": labels[ROLE_LABEL]}

    async def follow(self) -> None:
        """Watch the pods for ever."""
        kubernetes = await Kubernetes.connect()
        while True:
            with contextlib.suppress(ApiError):
                found = await kubernetes.request("GET", kinds.POD.path(None), query={"labelSelector": INSTANCE_LABEL})
                for pod in found["items"] or ():
                    self.see("ADDED", pod)
                version = found["metadata"]["resourceVersion"]
                async for event in events(kubernetes, kinds.POD, None, INSTANCE_LABEL, version, whole=True):
                    if event and event["type"] != "BOOKMARK":
                        self.see(event["type"], event["object"])
            await asyncio.sleep(0.5)

    async def loads(self, _: web.Request) -> web.Response:
        """An engine without work."""
        self._counts["engines"] += 1
        return web.Response(body=LOADS, content_type="application/json")

    async def metrics(self, _: web.Request) -> web.Response:
        """An engine without a plugin."""
        self._counts["orders"] += 1
        return web.Response(text="")

    async def workers(self, request: web.Request) -> web.Response:
        """A gateway that follows the pods."""
        self._counts["gateways"] += 1
        assert request.transport
        address = request.transport.get_extra_info("sockname")[0]
        listed = self._workers[self._instance_of.get(address, ("", ""))]
        return web.json_response({"workers": list(listed.values())})

    async def query(self, request: web.Request) -> web.Response:
        """Both kinds of query."""
        self._counts["prometheus"] += 1
        asked = {**request.query, **(await request.post() if request.method == "POST" else {})}
        if "start" in asked:
            times = times_between(*(str(asked[name]) for name in ("start", "end", "step")))
        else:
            times = [float(str(asked.get("time") or time.time()))]
        body = json.dumps(self._played.answer(str(asked["query"]), times, ranged="start" in asked)).encode()
        self._counts["prometheus_bytes"] += len(body)
        return web.Response(body=body, content_type="application/json")

    async def counts(self, _: web.Request) -> web.Response:
        """What was asked so far."""
        return web.json_response(self._counts)


async def main(port: int, namespaces: int, resources: int, workers: int) -> None:
    """Serve until the process is ended."""
    player = Player(Played(names(resources, namespaces), workers))
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/loads", player.loads),
            web.get("/metrics", player.metrics),
            web.get("/workers", player.workers),
            web.get("/counts", player.counts),
            *(web.route("*", f"/api/v1/{kind}", player.query) for kind in ("query", "query_range")),
        ]
    )
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=300)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port, backlog=4096).start()
    await player.follow()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
