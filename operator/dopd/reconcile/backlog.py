"""Between two passes: look at what waits in the engines, and wake the resource whose queue needs more workers.

A pass reads everything around a resource from the API server, which is too much for every second or two. This reads
`/v1/loads` of the workers that the last pass saw, and where none runs for want of requests what the gateways have
counted; it decides nothing and writes nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from dopd.api.names import ROUTER_POOL, Role
from dopd.cluster import PodHttp, WithKey
from dopd.planning import PerRole
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.observe import Observed
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import ScalingLoop
from dopd.telemetry.engines import read_loads
from dopd.telemetry.gateway_requests import read_requests

_LOG = logging.getLogger(__name__)

TICK_SECONDS = 0.25


@dataclass
class _Watched:
    observed: Observed
    loop: ScalingLoop
    every_seconds: float
    due_seconds: float
    polling: bool = False


class BacklogWatch:
    """Polls the engines of all resources that scale.

    Args:
        http: reaches pods.
        now: seconds since the epoch.
    """

    def __init__(self, http: PodHttp, now: Callable[[], float]) -> None:
        self._http, self._now = http, now
        self._watched: dict[Key, _Watched] = {}

    def watch(self, key: Key, observed: Observed, loop: ScalingLoop, every_seconds: float) -> None:
        """Look after a resource as a pass has just seen it; the same look again changes nothing."""
        known = self._watched.get(key)
        if known is not None and known.observed is observed and known.loop is loop:
            return
        self._watched[key] = _Watched(observed, loop, every_seconds, self._now() + every_seconds)

    def forget(self, key: Key) -> None:
        """Look after it no more."""
        self._watched.pop(key, None)

    async def run(self, wake: Callable[[Key], None]) -> None:
        """Poll for ever, each resource at its own period, and call `wake` for those that need more workers."""
        async with asyncio.TaskGroup() as group:
            while True:
                for key, watched in list(self._watched.items()):
                    if not watched.polling and self._now() >= watched.due_seconds:
                        watched.polling = True
                        group.create_task(self._poll(key, watched, wake))
                await asyncio.sleep(TICK_SECONDS)

    async def _poll(self, key: Key, watched: _Watched, wake: Callable[[Key], None]) -> None:
        try:
            if await self.needs_more(watched.observed, watched.loop) and self._watched.get(key) is watched:
                wake(key)
        except Exception:  # one resource in trouble must not stop the others
            _LOG.exception("%s: the queues of its engines can not be judged", key)
        finally:
            watched.polling = False
            watched.due_seconds = self._now() + watched.every_seconds

    async def needs_more(self, observed: Observed, loop: ScalingLoop) -> bool:
        """Whether what waits now, or a first request, needs more workers than the last plan."""
        engines = [pod for role in Role for pod in observed.pods[role] if pod_reading.ready(pod)]
        fresh = replace(observed, loads=await read_loads(WithKey(self._http, observed.api_key), engines))
        counted = await read_requests(self._http, observed.pods[ROUTER_POOL]) if loop.asleep else None
        return loop.would_grow(PerRole.of(fresh.role_counts), self._now(), counted)
