"""A look at the cluster each ten seconds: workers, the decision log, and the memory of the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dopd.api.names import Role
from e2e.demo.seen import Workers, held_gpus
from e2e.faults import nodes
from e2e.looking import Looking
from e2e.soak.agreement import Decision
from e2e.soak.memory import Reading
from e2e.stack import OPERATOR_PODS_PATH, Stack

Json = dict[str, Any]
PERIOD_SECONDS = 10.0
MEMORY, STARTED = "process_resident_memory_bytes", "process_start_time_seconds"
MOST_TOLD = 300
_MIB = 2**20


@dataclass(frozen=True)
class Look:
    """What one look saw.

    Attributes:
        at_seconds: since the load began.
        prefill: workers that are wanted, and those that are there by what they do.
        decode: the same.
        gpus: held by pods.
    """

    at_seconds: float
    prefill: Workers
    decode: Workers
    gpus: int


def decisions(status: Json, began: datetime) -> list[Decision]:
    """The decisions that a status tells, oldest first."""
    return [
        Decision(
            (datetime.fromisoformat(item["time"]) - began).total_seconds(),
            _pair(item["from"]),
            _pair(item["to"]),
            item["reason"],
        )
        for item in reversed(status.get("decisions", []))
    ]


def process_memory(pod: str, text: str) -> tuple[str, float]:
    """Which process of a pod answers, and its resident memory in MiB, from its metrics.

    Raises:
        ValueError: the metrics do not tell.
    """
    values = {family.name: family.samples[0].value for family in text_string_to_metric_families(text) if family.samples}
    if not {MEMORY, STARTED} <= set(values):
        raise ValueError(f"metrics of {pod}: {MEMORY} and {STARTED} expected; they come on Linux alone")
    return f"{pod} since {datetime.fromtimestamp(values[STARTED]).astimezone():%H:%M:%S}", values[MEMORY] / _MIB


class Watch(Looking):
    """Looks from creation until `stop`, in a thread of its own.

    Args:
        stack: the cluster.
        name: of the resource.
        began: when the load did, by the wall clock.
        say: told of what could not be read.

    Attributes:
        looks: what was seen, oldest first.
        readings: of the operator's memory, oldest first.
        decisions: that the status told, oldest first.
        missed: looks that failed, with why; the API server is away at times.
    """

    def __init__(self, stack: Stack, name: str, began: datetime, say: Callable[[str], None]) -> None:
        self.looks: list[Look] = []
        self.readings: list[Reading] = []
        self.decisions: list[Decision] = []
        self.missed: list[str] = []
        self._stack, self._name, self._began, self._say = stack, name, began, say
        super().__init__()

    def look(self) -> None:
        """Look at the resource: its workers and its decisions."""
        status = (self._stack.inference(self._name) or {}).get("status", {})
        known = set(self.decisions)
        self.decisions += [each for each in decisions(status, self._began) if each not in known]
        workers = Workers.of(status["prefill"]), Workers.of(status["decode"])
        gpus = held_gpus(self._stack.pods(self._name), dict.fromkeys(Role, 1))
        self.looks.append(Look(self.seconds, *workers, gpus))

    def read(self) -> None:
        """Read the operator's memory."""
        pods = self._stack.items(OPERATOR_PODS_PATH)
        ready = [pod["metadata"]["name"] for pod in pods if nodes.ready(pod)]
        if not ready:
            raise ValueError("no pod of the operator is ready")
        text = self._stack.kubectl("get", "--raw", f"{OPERATOR_PODS_PATH}/{ready[0]}:8080/proxy/metrics")
        self.readings.append(Reading(self.seconds, *process_memory(ready[0], text)))

    def run(self) -> None:
        """Look each ten seconds, and a last time at the end."""
        last = False
        while not last:
            last = self._over.is_set()
            for part in (self.look, self.read):
                try:
                    part()
                except Exception as error:  # it is away on purpose at times; the next look tells
                    self.missed.append(f"{self.seconds:.0f} s: {type(error).__name__}: {error}"[:MOST_TOLD])
                    self._say(f"  (not seen at {self.missed[-1]})")
            if not last:
                self._over.wait(PERIOD_SECONDS)


def _pair(text: str) -> tuple[int, int]:
    prefill, _, decode = text.partition("+")
    return int(prefill), int(decode)
