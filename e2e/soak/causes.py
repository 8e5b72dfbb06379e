"""What each kind of fault does to the cluster, and how it is seen that all is well again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster.docker import Docker
from e2e.endurance import moves
from e2e.endurance.field import ROLES, Field
from e2e.endurance.plan import Kind as Move
from e2e.endurance.plan import Step
from e2e.faults import nodes
from e2e.faults.control_plane import LEASES_PATH, kill_operator
from e2e.soak.ground import GATEWAYS, OTHER_BOUNDS, set_bounds
from e2e.soak.plan import Kind
from e2e.stack import OPERATOR_PODS_PATH, PROMETHEUS_NAMESPACE, Stack, condition, wait_for

Json = dict[str, Any]
PROMETHEUS_PODS_PATH = f"/api/v1/namespaces/{PROMETHEUS_NAMESPACE}/pods"
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 4.0, 12.0
_ANY = (2, 2)
"""Numbers of workers in a step of which the move takes no notice."""


@dataclass(frozen=True)
class Caused:
    """What a fault did.

    Attributes:
        hit: what, in words.
        gone: uids of pods that must be gone before all is well.
        over: what must hold beside that.
    """

    hit: str
    gone: frozenset[str] = frozenset()
    over: Callable[[], bool] = field(default=lambda: True)


@dataclass(frozen=True)
class Place:
    """Where faults happen.

    Attributes:
        ground: the resource.
        docker: where the nodes are.
    """

    ground: Field
    docker: Docker

    @property
    def stack(self) -> Stack:
        """The cluster."""
        return self.ground.stack

    def well(self) -> bool:
        """Whether as many workers serve as were decided on, and operator, gateways and Prometheus are there."""
        resource = self.ground.resource
        status: Json = resource.get("status", {})
        wanted = tuple(status[role]["desired"] for role in ROLES)
        if not self.ground.settled((wanted[0], wanted[1])):
            return False
        if condition(resource, "MetricsAvailable").get("status") != "True":
            return False
        operators = self.stack.items(OPERATOR_PODS_PATH)
        gateways = self.stack.pods(self.ground.name, "router")
        acting = {pod["metadata"]["name"] for pod in operators if nodes.ready(pod)}
        return len(gateways) == GATEWAYS and all(map(nodes.ready, gateways)) and self._holder() in acting

    def uids(self) -> set[str]:
        """Of all pods that a fault may end."""
        of_resource = self.stack.pods(self.ground.name)
        others = self.stack.items(OPERATOR_PODS_PATH) + self.stack.items(PROMETHEUS_PODS_PATH)
        return {pod["metadata"]["uid"] for pod in of_resource + others}

    def _holder(self) -> str:
        """The operator's pod that acts: the Lease's holder is named by pod and process."""
        spec: Json = (self.stack.read(f"{LEASES_PATH}/dopd") or {}).get("spec", {})
        return str(spec.get("holderIdentity") or "").rpartition("_")[0]


def until_well(place: Place, caused: Caused, seconds: float) -> None:
    """Wait until all is well again after a fault, whatever the API server answers meanwhile.

    Raises:
        TimeoutError: it did not come to that in time; holds what is not well.
    """

    def look() -> bool:
        try:
            return caused.over() and not caused.gone & place.uids() and place.well()
        except Exception:  # it is away on purpose
            return False

    try:
        wait_for(look, f"all is well after {caused.hit}", timeout_seconds=seconds, every_seconds=1.0)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {place.ground.troubles()}") from None


def _operator_killed(place: Place, _: random.Random) -> Caused:
    pod = kill_operator(place.stack, place.docker)
    return Caused(pod["metadata"]["name"], _uids([pod]))


def _gateway_deleted(place: Place, chance: random.Random) -> Caused:
    pod = chance.choice(place.stack.pods(place.ground.name, "router"))
    name = pod["metadata"]["name"]
    place.stack.kubectl("delete", "pod", name, "--wait=false")
    return Caused(name, _uids([pod]))


def _moved(kind: Move, hit: str) -> Callable[[Place, random.Random], Caused]:
    """A disturbance of the endurance run."""

    def cause(place: Place, chance: random.Random) -> Caused:
        names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in place.ground.pods()}
        gone = moves.MOVES[kind](place.ground, Step(kind, _ANY, _ANY), chance)
        told = ", ".join(sorted(names.get(uid, uid) for uid in gone)) if len(gone) < len(names) else "all workers"
        return Caused(f"{hit}{told}", frozenset(gone))

    return cause


def _prometheus_restarted(place: Place, _: random.Random) -> Caused:
    pods = place.stack.items(PROMETHEUS_PODS_PATH, labelSelector="app.kubernetes.io/name=prometheus")
    names = [pod["metadata"]["name"] for pod in pods]
    place.stack.kubectl("-n", PROMETHEUS_NAMESPACE, "delete", "pod", *names)
    place.stack.kubectl("-n", PROMETHEUS_NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=90s")
    return Caused(", ".join(names), _uids(pods))


def _api_paused(place: Place, chance: random.Random) -> Caused:
    seconds = chance.uniform(SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    with nodes.paused(place.docker, place.stack.cluster.control_plane, "kube-apiserver"):
        time.sleep(seconds)
    return Caused(f"for {seconds:.0f} s")


def _engine_killed(place: Place, chance: random.Random) -> Caused:
    role = chance.choice(ROLES)
    pod = chance.choice([pod for pod in place.ground.pods(role) if nodes.ready(pod)])
    name, uid, before = pod["metadata"]["name"], pod["metadata"]["uid"], nodes.restarts(pod)
    load = place.ground.load(name)
    held = load.get("num_running_reqs", 0) + load.get("num_waiting_reqs", 0)
    nodes.kill_container(place.docker, pod)

    def back() -> bool:
        now = next((each for each in place.ground.pods(role) if each["metadata"]["uid"] == uid), None)
        return now is None or nodes.restarts(now) > before

    return Caused(f"{name}, which held {held} requests at the look before", over=back)


def _bounds_changed(place: Place, chance: random.Random) -> Caused:
    bounds = chance.choice(OTHER_BOUNDS)
    set_bounds(place.ground, bounds)
    prefill, decode = (f"{of['min']} to {of['max']}" for of in bounds)
    return Caused(f"prefill {prefill}, decode {decode}")


CAUSES: dict[Kind, Callable[[Place, random.Random], Caused]] = {
    Kind.OPERATOR_KILL: _operator_killed,
    Kind.GATEWAY_DELETE: _gateway_deleted,
    Kind.EVICTION: _moved(Move.EVICTION, ""),
    Kind.NODE_DRAIN: _moved(Move.NODE_DRAIN, "the node of "),
    Kind.ROLLOUT: _moved(Move.ROLLOUT, ""),
    Kind.PROMETHEUS_RESTART: _prometheus_restarted,
    Kind.API_PAUSE: _api_paused,
    Kind.ENGINE_KILL: _engine_killed,
    Kind.BOUNDS: _bounds_changed,
}


def _uids(pods: list[Json]) -> frozenset[str]:
    return frozenset(pod["metadata"]["uid"] for pod in pods)
