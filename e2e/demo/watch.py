"""What the operator reports while the demo plays: workers and decisions, sampled each second from the status."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Json = dict[str, Any]
PERIOD_SECONDS = 1.0


@dataclass(frozen=True)
class Workers:
    """Workers of one role at one moment."""

    desired: int
    ready: int
    starting: int
    draining: int

    @classmethod
    def of(cls, status: Json) -> "Workers":
        """Read `status.prefill` or `status.decode`."""
        return cls(status["desired"], status["ready"], status.get("starting", 0), status.get("draining", 0))

    @property
    def present(self) -> int:
        """Workers that hold GPUs."""
        return self.ready + self.starting + self.draining


@dataclass(frozen=True)
class Sample:
    """Both roles at one moment, seconds since the watching began."""

    at_seconds: float
    prefill: Workers
    decode: Workers


@dataclass(frozen=True)
class SeenDecision:
    """A change of the target.

    Attributes:
        at_seconds: when it was first seen, since the watching began; a second late at most.
        before: workers before, prefill+decode.
        to: workers after, prefill+decode.
        reason: why, in one word.
        message: why, with the numbers.
    """

    at_seconds: float
    before: str
    to: str
    reason: str
    message: str

    @property
    def target(self) -> tuple[int, int]:
        """Prefill and decode workers decided on."""
        prefill, decode = map(int, self.to.split("+"))
        return prefill, decode


class Watcher:
    """Samples a resource in a thread of its own, from creation until `stop`.

    Attributes:
        samples: what was seen, oldest first.
        decisions: changes of the target, oldest first.
    """

    def __init__(self, read: Callable[[], Json | None], period_seconds: float = PERIOD_SECONDS) -> None:
        self.samples: list[Sample] = []
        self.decisions: list[SeenDecision] = []
        self._read, self._period = read, period_seconds
        self._zero = time.monotonic()
        self._known: set[tuple[str, str, str]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def seconds(self) -> float:
        """Seconds since the watching began."""
        return time.monotonic() - self._zero

    def stop(self) -> None:
        """End the watching."""
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Take one sample."""
        status = (self._read() or {}).get("status", {})
        if "prefill" not in status or "decode" not in status:
            return
        now = self.seconds
        self.samples.append(Sample(now, Workers.of(status["prefill"]), Workers.of(status["decode"])))
        for item in reversed(status.get("decisions", [])):
            identity = (item["time"], item["from"], item["to"])
            if identity not in self._known:
                self._known.add(identity)
                self.decisions.append(SeenDecision(now, item["from"], item["to"], item["reason"], item["message"]))

    def _run(self) -> None:
        while not self._over.wait(self._period):
            try:
                self.look()
            except Exception as error:  # the API server may be slow for a moment; the next look tells
                print(f"  (status not read: {error})", flush=True)


def served_after_seconds(decision: SeenDecision, samples: Sequence[Sample]) -> float | None:
    """Seconds from a decision until as many workers as it asked for served, or no more than it asked for were left."""
    for sample in samples:
        if sample.at_seconds < decision.at_seconds:
            continue
        roles = zip(decision.target, (sample.prefill, sample.decode), strict=True)
        if (sample.prefill.desired, sample.decode.desired) != decision.target:
            return None  # superseded before it was reached
        if all(workers.ready == wanted == workers.present for wanted, workers in roles):
            return sample.at_seconds - decision.at_seconds
    return None


def journey(counts: Sequence[int]) -> str:
    """Where a count started, how high it went, and where it ended: `1->3->1`."""
    return f"{counts[0]}->{max(counts)}->{counts[-1]}" if counts else "unknown"


def gpu_seconds(samples: Sequence[Sample], gpus_of_worker: tuple[int, int]) -> float:
    """GPU time that workers held, starting and draining ones included, in seconds of the clock."""
    return sum(
        (later.at_seconds - sample.at_seconds)
        * sum(
            workers.present * gpus
            for workers, gpus in zip((sample.prefill, sample.decode), gpus_of_worker, strict=True)
        )
        for sample, later in pairwise(samples)
    )
