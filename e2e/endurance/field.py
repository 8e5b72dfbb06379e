"""The ground of a run: one resource whose numbers of workers the driver sets, within a budget of GPUs."""

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from e2e.endurance.engines import SIMULATED, Engines
from e2e.endurance.plan import Pair
from e2e.stack import Stack, condition, wait_for
from e2e.tests.resources import GATEWAY_NODE_PORT, changed

Json = dict[str, Any]
ROLES = ("prefill", "decode")
_SETTLED = ("RolledOut", "WorkersAvailable", "RouterInSync")


class Field:
    """A DisaggregatedInference in mode Auto whose bounds leave the planner no choice.

    Attributes:
        stack: the cluster.
        name: of the resource.
        gpus: its budget; every worker has one.
        engines: what its workers are.
    """

    def __init__(
        self, stack: Stack, name: str, *, gpus: int, gateways: int = 1, engines: Engines = SIMULATED, **changes: Any
    ) -> None:
        self.stack, self.name, self.gpus, self.engines = stack, name, gpus, engines
        own = {
            "router__replicas": gateways,
            "router__service": {"type": "NodePort", "nodePort": GATEWAY_NODE_PORT},
            "scaling__gpuBudget": {"max": gpus},
            "scaling__behavior__scaleDownStabilization": "1s",
        }
        self._resource = changed(engines.resource(name), own | changes)
        self._rollouts = 0

    @property
    def resource(self) -> Json:
        """The live resource."""
        return self.stack.inference(self.name) or {}

    def create(self, workers: Pair) -> None:
        """Apply what the engines need and the resource, and wait until so many workers serve."""
        self.engines.put(self.stack)
        self.scale(workers)
        self.until_settled(workers)

    def scale(self, workers: Pair) -> None:
        """Ask for so many workers of each role."""
        bounds = {f"scaling__{role}": {"min": n, "max": n} for role, n in zip(ROLES, workers, strict=True)}
        self.change(**bounds)

    def change(self, **changes: Any) -> None:
        """Apply the resource with other values; `decode__gpus=2` is spec.decode.gpus."""
        self._resource = changed(self._resource, changes)
        self.stack.apply(self._resource)

    def new_revision(self) -> None:
        """Change what workers are made from."""
        self._rollouts += 1
        env = [e for e in self._resource["spec"]["engine"]["env"] if e["name"] != "ROLLED_OUT"]
        self.change(engine__env=[*env, {"name": "ROLLED_OUT", "value": f"{self._rollouts}-{time.time():.0f}"}])

    def pods(self, role: str = "") -> list[Json]:
        """The workers that are there, of one role or both, whatever they do."""
        return [pod for each in ((role,) if role else ROLES) for pod in self.stack.pods(self.name, each)]

    def uids(self) -> set[str]:
        """Of the workers that are there."""
        return {pod["metadata"]["uid"] for pod in self.pods()}

    def settled(self, workers: Pair) -> bool:
        """Whether exactly so many workers are there, serve, and are of the newest revision."""
        resource = self.resource
        status: Json = resource.get("status", {})
        if status.get("observedGeneration") != resource.get("metadata", {}).get("generation"):
            return False
        if not all(condition(resource, kind).get("status") == "True" for kind in _SETTLED):
            return False
        there = tuple(len(self.pods(role)) for role in ROLES)
        desired = tuple(status.get(role, {}).get("desired") for role in ROLES)
        return there == workers == desired

    def until_settled(
        self, workers: Pair, *, gone: AbstractSet[str] = frozenset(), seconds: float | None = None
    ) -> float:
        """Wait until that holds, and none of the workers `gone` is there any more; returns how long it took, seconds.

        It may take what the engines need, or the seconds that are given.

        Raises:
            TimeoutError: it did not in time; holds the conditions that do not say so.
        """
        began = time.monotonic()

        def look() -> bool:
            return not gone & self.uids() and self.settled(workers)

        most = self.engines.settle_seconds if seconds is None else seconds
        try:
            wait_for(look, f"{self.name} at {workers[0]}+{workers[1]}", timeout_seconds=most, every_seconds=0.3)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.troubles()}") from None
        return time.monotonic() - began

    def troubles(self) -> list[str]:
        """Conditions that are not True, and pods with their phase."""
        said = self.resource.get("status", {}).get("conditions", [])
        bad = [f"{c['type']}={c['reason']}: {c.get('message', '')}" for c in said if c["status"] != "True"]
        return [*bad, *(f"{p['metadata']['name']} {p['status'].get('phase')}" for p in self.pods())]

    def until(self, look: Callable[[], Any], what: str, seconds: float = 180.0) -> float:
        """Wait until something holds; returns how long it took, seconds."""
        began = time.monotonic()
        wait_for(look, what, timeout_seconds=seconds, every_seconds=0.2)
        return time.monotonic() - began

    def loads(self) -> dict[str, Json]:
        """What the engines report of their load, by pod; a pod that does not answer is absent."""
        names = [pod["metadata"]["name"] for pod in self.pods()]
        return {name: load for name in names if (load := self.load(name))}

    def load(self, pod: str) -> Json:
        """What one engine reports of its load; nothing when it does not answer."""
        try:
            answer = self.stack.engine_load(pod) or {"loads": [{}]}
        except Exception:  # a pod that starts or ends answers in many ways
            return {}
        found: Json = answer["loads"][0]
        return found

    def delete(self) -> None:
        """Delete it with all its pods."""
        self.stack.kubectl("delete", "pdi", self.name, "--ignore-not-found")
        wait_for(lambda: not self.stack.pods(self.name), "its pods are gone", timeout_seconds=120)
