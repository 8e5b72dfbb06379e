"""Gateways against pods: whom each gateway lists, whom it should, and since when the two differ.

A gateway follows the pods by itself, within seconds. What differs for longer is a gateway that lost an event, a worker
that it can not reach, or somebody who writes to its control plane.
"""

from collections.abc import Iterable
from typing import NamedTuple

from dopd.api.names import ROUTER_POOL, Role
from dopd.api.pairs import ANY, Pair
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.gateways import pair_of
from dopd.reconcile.observe import Observed
from dopd.reconcile.queue import Key
from dopd.rollout import Door
from dopd.telemetry.addresses import engine_address

LASTING_SECONDS = 10.0
"""A difference that lasts longer is worth telling: a change of a label takes a gateway two to six seconds."""

REPAIR_SECONDS = 30.0
"""One that lasts longer is repaired. A gateway that missed an event may find it by itself (SMG compares its list with
all pods each minute), and one that lost the API server needs some seconds to come back."""

FORGIVEN_SECONDS, MOST_DOUBLINGS = 7200.0, 6
"""A gateway that is wrong again after it was replaced is not what is wrong, so repairs become rarer, down to one in
half an hour; after so long without one they begin anew."""


class Difference(NamedTuple):
    """One entry of one gateway that is not as the pods are.

    Attributes:
        gateway: name of the gateway's pod.
        worker: name of the worker's pod; its address where there is no such pod.
        listed: role in which the gateway lists it; "" where it does not.
        expected: role in which it should; "" where it should not.
    """

    gateway: str
    worker: str
    listed: str
    expected: str

    def __str__(self) -> str:
        if not self.listed:
            return f"{self.gateway} does not list {self.expected} {self.worker}"
        if not self.expected:
            return f"{self.gateway} lists {self.listed} {self.worker}, which should get nothing"
        return f"{self.gateway} lists {self.worker} as {self.listed} and not as {self.expected}"


def differences(observed: Observed) -> list[Difference]:
    """What each gateway that answered lists otherwise than the pods are, in order of names. Pure."""
    names = {
        engine_address(pod): pod["metadata"]["name"]
        for role in Role
        for pod in (*observed.ending[role], *observed.pods[role])
    }
    pairs = {pod["metadata"]["name"]: pair_of(pod) for pod in observed.pods[ROUTER_POOL]}
    found = []
    for gateway, listed in zip(observed.gateway.answered, observed.gateway.roles, strict=True):
        expected = _expected(observed, pairs.get(gateway, ANY))
        found += [
            Difference(gateway, names.get(address) or address, listed.get(address, ""), expected.get(address, ""))
            for address in expected.keys() | listed.keys()
            if listed.get(address) != expected.get(address)
        ]
    return sorted(found)


def _expected(observed: Observed, pair: Pair) -> dict[str, str]:
    """Address to role of the workers that the gateway of a pair should list."""
    return {
        address: str(role)
        for role in Role
        for pod, worker in zip(observed.pods[role], observed.workers[role], strict=True)
        if worker.labelled and worker.ready and pair.has(role, worker.revision, worker.domain)
        if (address := engine_address(pod))
    }


def doors(observed: Observed, found: Iterable[Difference], overdue: Iterable[Difference]) -> list[Door]:
    """The gateway pods, and which of them list others than they should. Pure."""
    differ, lasting = ({difference.gateway for difference in some} for some in (found, overdue))
    return [
        Door(
            name := pod["metadata"]["name"],
            pair_of(pod),
            ready=pod_reading.ready(pod),
            known=name in observed.gateway.answered,
            differs=name in differ,
            lasting=name in lasting,
        )
        for pod in observed.pods[ROUTER_POOL]
    ]


class GatewayWatch:
    """Remembers since when gateways and pods differ. An operator that was restarted begins to count anew."""

    def __init__(self) -> None:
        self._since: dict[Key, dict[Difference, float]] = {}
        self._repairs: dict[Key, tuple[int, float]] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._since.pop(key, None)
        self._repairs.pop(key, None)

    def lasting(self, key: Key, found: Iterable[Difference], now_seconds: float) -> list[Difference]:
        """Those of the differences of now that have lasted."""
        before = self._since.get(key, {})
        self._since[key] = {difference: before.get(difference, now_seconds) for difference in found}
        return self._longer(key, now_seconds, LASTING_SECONDS)

    def overdue(self, key: Key, now_seconds: float) -> list[Difference]:
        """Those that have lasted so long that the gateway is to be replaced: twice as long after each repair."""
        repairs, newest = self._repairs.get(key, (0, now_seconds))
        if now_seconds - newest > FORGIVEN_SECONDS:
            repairs = 0
        return self._longer(key, now_seconds, REPAIR_SECONDS * 2 ** min(repairs, MOST_DOUBLINGS))

    def repaired(self, key: Key, gateways: int, now_seconds: float) -> None:
        """Note how many gateways were replaced a moment ago."""
        if gateways:
            repairs, newest = self._repairs.get(key, (0, now_seconds))
            recent = repairs if now_seconds - newest <= FORGIVEN_SECONDS else 0
            self._repairs[key] = (recent + gateways, now_seconds)

    def _longer(self, key: Key, now_seconds: float, least_seconds: float) -> list[Difference]:
        since = self._since.get(key, {})
        return [difference for difference, began in since.items() if now_seconds - began >= least_seconds]
