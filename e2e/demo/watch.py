"""Watching the resource while the load plays: one sample a second, and every decision."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from dopd.api.text import plain
from e2e.demo.seen import Load, Sample, SeenDecision, Workers
from e2e.looking import Looking

Json = dict[str, Any]
PERIOD_SECONDS = 1.0


class Watcher(Looking):
    """Samples a resource in a thread of its own, from creation until `stop`.

    Decisions that the first look finds are older than the watching, and are left out.

    Args:
        read: the resource.
        held_gpus: GPUs that its pods hold.
        load: what the operator knows of its load.
        period_seconds: between two looks.

    Attributes:
        samples: what was seen, oldest first.
        decisions: changes of the target, oldest first.
    """

    def __init__(
        self,
        read: Callable[[], Json | None],
        held_gpus: Callable[[], int] = lambda: 0,
        load: Callable[[], Load] = Load,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self.samples: list[Sample] = []
        self.decisions: list[SeenDecision] = []
        self._read, self._held_gpus, self._load = read, held_gpus, load
        self._period = period_seconds
        self._known: set[tuple[str, str, str]] = set()
        super().__init__()

    def look(self) -> None:
        """Take one sample."""
        status = (self._read() or {}).get("status", {})
        if "prefill" not in status or "decode" not in status:
            return
        first, now = not self.samples, self.seconds
        workers = Workers.of(status["prefill"]), Workers.of(status["decode"])
        self.samples.append(Sample(now, *workers, self._held_gpus(), self._load()))
        for item in reversed(status.get("decisions", [])):
            identity = (item["time"], item["from"], item["to"])
            if identity not in self._known and not first:
                self.decisions.append(SeenDecision(now, item["from"], item["to"], item["reason"], item["message"]))
            self._known.add(identity)

    def run(self) -> None:
        """Look once a period."""
        while True:
            try:
                self.look()
            except Exception as error:  # the API server may be slow for a moment; the next look tells
                print(plain(f"  (status not read: {error})"), flush=True)
            if self._over.wait(self._period):
                return


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


def gpu_seconds(samples: Sequence[Sample], start_seconds: float, end_seconds: float) -> float:
    """GPU time that pods held between two moments, in seconds of the clock."""
    return sum(
        sample.gpus * max(0.0, min(later.at_seconds, end_seconds) - max(sample.at_seconds, start_seconds))
        for sample, later in pairwise(samples)
    )
