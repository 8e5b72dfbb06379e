"""Proofs of workers that are about to serve: a canary through each pair, and who is to blame for one that fails."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dopd.api.names import Role
from dopd.cluster import PodPost, PostWithKey
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.observe import Observed
from dopd.reconcile.places import outside
from dopd.rollout.proof import MOST_WITNESSES, Verdict, verdict
from dopd.rollout.worker import Worker
from dopd.telemetry.role_switch import Pair, broken_pairs

Json = dict[str, Any]


@dataclass(frozen=True)
class Proof:
    """What the canaries of one worker told.

    Attributes:
        verdict: who is to blame.
        partners: pods that it was tried with, by name.
        why: of each partner with which it failed, in words.
    """

    verdict: Verdict
    partners: dict[str, Json]
    why: dict[str, str]


async def prove(http: PodPost, observed: Observed, role: Role, pod: Json) -> Proof:
    """Try a worker with each worker of the other role that can take a request now; nothing is written.

    Args:
        http: the way to the engines.
        observed: the look at the cluster.
        role: of the worker.
        pod: the worker.
    """
    http = PostWithKey(http, observed.api_key)
    partners = {each["metadata"]["name"]: each for each, _ in _able(observed, role.other)}
    async with outside():
        why = await _failures(http, role, pod, list(partners.values()))
        others: dict[str, list[bool]] = {name: [] for name in why}
        for witness in _witnesses(observed, role, pod) if why else ():
            failed = await _failures(http, role, witness, [partners[name] for name in why])
            for name in why:
                others[name].append(name not in failed)
    return Proof(verdict({name: name not in why for name in partners}, others), partners, why)


async def _failures(http: PodPost, role: Role, pod: Json, partners: Sequence[Json]) -> dict[str, str]:
    """Partners that a worker gets no answer with, by name, and why."""

    def pair(partner: Json) -> Pair:
        prefill, decode = (pod, partner) if role is Role.PREFILL else (partner, pod)
        return Pair(prefill, decode, pod_reading.bootstrap_port(prefill))

    def partner_of(found: Pair) -> str:
        partner = found.decode if role is Role.PREFILL else found.prefill
        return str(partner["metadata"]["name"])

    return {partner_of(found): why for found, why in await broken_pairs(http, [pair(each) for each in partners])}


def _witnesses(observed: Observed, role: Role, pod: Json) -> list[Json]:
    """Others of a worker's role, the least busy first."""
    able = [each for each in _able(observed, role) if each[0]["metadata"]["name"] != pod["metadata"]["name"]]
    return [each for each, _ in sorted(able, key=lambda found: (found[1].load, found[1].name))][:MOST_WITNESSES]


def _able(observed: Observed, role: Role) -> list[tuple[Json, Worker]]:
    """Workers that serve and would take a request at once: a canary that waits tells nothing."""
    return [
        (pod, worker)
        for pod, worker in zip(observed.pods[role], observed.workers[role], strict=True)
        if worker.labelled and worker.ready and worker.in_role is not False and _has_room(observed, worker)
    ]


def _has_room(observed: Observed, worker: Worker) -> bool:
    load = observed.loads.get(worker.name)
    return load is not None and load.waiting_for_slot == 0
