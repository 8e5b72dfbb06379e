"""One fault under load: what clients saw, which conditions came, and how long it took until all was well."""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from e2e.cluster.docker import Docker
from e2e.endurance.cap import held, pod_events
from e2e.endurance.field import Field
from e2e.endurance.run import stuck
from e2e.load import Arrival, BackgroundLoad, Schedule, Target
from e2e.load.client import Result
from e2e.stack import Stack, wait_for

Json = dict[str, Any]
LOAD_SECONDS = 1500.0
AFTER_SECONDS = 15.0
"""So long the load goes on once all seems well: some faults show late."""


@dataclass
class Trial:
    """A resource under load, and all that is noticed meanwhile.

    Attributes:
        ground: the resource.
        docker: where the nodes are.
        rate: requests a second.
        answer_tokens: shortest and longest answer.
        conditions: those that were not so before the fault, as TYPE=STATUS (REASON), with seconds from the fault to the
            first look at them.
        results: all requests, once the trial is over.
        most_gpus: the most that were held at an event of the audit log.
        stuck: what engines still hold half a minute after the last answer.
    """

    ground: Field
    docker: Docker
    rate: float = 6.0
    answer_tokens: tuple[int, int] = (20, 500)
    conditions: dict[str, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    most_gpus: int = 0
    stuck: dict[str, Json] = field(default_factory=dict)
    _began: float = 0.0
    _before: frozenset[str] = frozenset()

    @property
    def stack(self) -> Stack:
        """The cluster."""
        return self.ground.stack

    def __enter__(self) -> Self:
        self._since = datetime.now().astimezone()
        chance, at, arrivals, engines = random.Random(1), 0.0, [], self.ground.engines
        while at < LOAD_SECONDS:
            at += chance.expovariate(self.rate)
            arrivals.append(Arrival(at, chance.randint(*engines.prompt_tokens), chance.randint(*self.answer_tokens)))
        self.load = BackgroundLoad(Target(self.stack.gateway_url, engines.model), Schedule(tuple(arrivals)))
        self.load.start()
        wait_for(lambda: len(self.load.results) >= 10, "the load flows", timeout_seconds=90)
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self.begin()
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            time.sleep(AFTER_SECONDS)
        self._over.set()
        self._watch.join()
        self.results = self.load.stop()
        if error is not None:
            return
        self.stuck = stuck(self.ground)
        events = [h for h in held(pod_events(self.stack, self.docker), self.ground.name) if h.at >= self._since]
        self.most_gpus = max((h.gpus for h in events), default=0)

    def begin(self) -> None:
        """The fault happens now."""
        self._before = frozenset(self._conditions())
        self._began = time.monotonic()
        self.conditions.clear()

    def since(self) -> float:
        """Seconds since the fault."""
        return time.monotonic() - self._began

    def until(self, look: Callable[[], Any], what: str, seconds: float = 180.0) -> float:
        """Wait until something holds, whatever the API server answers meanwhile; seconds since the fault."""

        def careful() -> Any:
            try:
                return look()
            except Exception:  # it is away on purpose
                return None

        try:
            wait_for(careful, what, timeout_seconds=seconds, every_seconds=0.2)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; seen meanwhile: {self.conditions}") from None
        return self.since()

    def until_settled(self, workers: tuple[int, int], seconds: float = 180.0) -> float:
        """Wait until exactly so many workers serve; seconds since the fault."""
        return self.until(lambda: self.ground.settled(workers), f"{workers} serve", seconds)

    @property
    def lost(self) -> list[Result]:
        """Requests that were not answered in whole."""
        return [r for r in self.results if r.outcome != "ok" or r.got_tokens != r.asked_tokens]

    def users_saw(self) -> str:
        """What became of the requests, in words."""
        if not self.lost:
            return f"nothing: {len(self.results)} requests, all answered in whole"
        reasons = Counter(f"{r.outcome} ({r.status or 'no answer'}): {_short(r.error)}" for r in self.lost)
        told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        return f"{len(self.lost)} of {len(self.results)} requests lost: {told}"

    def dopd_said(self) -> str:
        """The conditions that told of it, in words."""
        said = [f"{name} after {seconds:.0f} s" for name, seconds in self.conditions.items()]
        return ", ".join(said) or "no condition changed"

    def _look(self) -> None:
        while not self._over.wait(0.4):
            try:
                found = self._conditions()
            except Exception:  # the API server is away on purpose
                continue
            for name in found:
                if name not in self._before:
                    self.conditions.setdefault(name, self.since())

    def _conditions(self) -> list[str]:
        found = self.ground.resource.get("status", {}).get("conditions", [])
        return [f"{each['type']}={each['status']} ({each['reason']})" for each in found]


def _short(error: str) -> str:
    """An error in a cell: of a gateway's JSON its message."""
    with contextlib.suppress(ValueError, KeyError, TypeError):  # others are plain, or cut
        error = json.loads(error)["error"]["message"]
    words = " ".join(error.replace("|", "/").split())
    return words if len(words) <= 110 else f"{words[:107]}..."
