"""Gateway pods, as the plan of a rollout sees them and as the reading of the load needs them. Pure."""

from collections.abc import Mapping, Sequence

from dopd.api.names import ROUTER_POOL, Role
from dopd.api.pairs import ANY, Pair
from dopd.cluster import kinds
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Pod
from dopd.rollout import Gateway as PairGateway
from dopd.telemetry.present import Gateway as ScrapedGateway
from dopd.workloads.router import Gateway, gateway_names

LEFT_SECONDS = 15.0
"""So long after the begin of its end a gateway may still take a request: until every node's rules leave it out (its
preStop waits 5 s for that) and it has closed its port (SMG does 5 s after its own end began)."""


def pair_of(pod: Pod) -> Pair:
    """The pair of revisions that a gateway pod sends to."""
    return Pair.of_labels(pod["metadata"].get("labels") or {})


def pair_gateways(observed: Observed, now_seconds: float) -> list[PairGateway]:
    """The gateways by the pair that they send to, those that are leaving included."""
    deployments = observed.gateway_deployments()
    pods, closing = observed.pods[ROUTER_POOL], [p for p in observed.closing if not _left(p, now_seconds)]
    return [
        PairGateway(
            pair,
            replicas=deployments[pair].get("spec", {}).get("replicas", 1) if pair in deployments else 0,
            ready=sum(pod_reading.ready(pod) for pod in pods if pair_of(pod) == pair),
            open=sum(pair_of(pod) == pair for pod in (*pods, *closing)),
        )
        for pair in sorted({*deployments, *map(pair_of, pods), *map(pair_of, closing)})
    ]


def named(observed: Observed, wanted: Mapping[Pair, int]) -> list[Gateway]:
    """The gateways that there should be: those that are there keep their names, and the plain one is taken if free."""
    live = {pair: item["metadata"]["name"] for pair, item in observed.gateway_deployments().items()}
    taken, found = set(live.values()), []
    for pair, replicas in sorted(wanted.items()):
        if pair == ANY:  # of an earlier version: it stays as it is, or leaves
            continue
        name = live.get(pair) or next(n for n in gateway_names(observed.owner, pair) if n not in taken)
        taken.add(name)
        found.append(Gateway(name, replicas, pair))
    return found


def _left(pod: Pod, now_seconds: float) -> bool:
    """Whether a gateway that is being deleted takes no request any more. Its time of deletion is the end of grace."""
    meta = pod["metadata"]
    began = pod_reading.epoch_seconds(meta["deletionTimestamp"]) - meta.get("deletionGracePeriodSeconds", 0)
    return bool(now_seconds - began >= LEFT_SECONDS)


def kept_gateways(observed: Observed, wanted: Mapping[Pair, int] | None) -> set[tuple[str, str]]:
    """Gateways that stay as they are: all while it is not known what workers are made from; else those of before."""
    return {
        (kinds.DEPLOYMENT.kind, item["metadata"]["name"])
        for pair, item in observed.gateway_deployments().items()
        if wanted is None or (pair in wanted and pair == ANY)
    }


def answers_unready(observed: Observed, targets: Mapping[Role, int]) -> bool:
    """Whether clients are to reach gateways that are not ready: they have no workers, and say so with 503.

    Else a client of a resource that sleeps, or wakes, finds no endpoint, and nobody learns of its request.
    """
    scaling = observed.spec.scaling if observed.spec else None
    if scaling is None or scaling.idle is None:
        return False
    return not any(targets.values()) or not any(pod_reading.ready(pod) for pod in observed.pods[ROUTER_POOL])


def serving_gateways(pods: Sequence[Pod]) -> list[ScrapedGateway]:
    """The gateways among pods that are ready, with the time at which their counters began."""
    return [
        ScrapedGateway(pod["metadata"]["name"], address, pod_reading.epoch_seconds(started))
        for pod in pods
        if pod_reading.ready(pod) and (address := pod.get("status", {}).get("podIP")) and (started := _started(pod))
    ]


def _started(pod: Pod) -> str | None:
    """When its newest container started, else the pod."""
    status = pod.get("status", {})
    running = [c.get("state", {}).get("running", {}).get("startedAt") for c in status.get("containerStatuses", [])]
    started: str | None = max(filter(None, running), default=status.get("startTime"))
    return started
