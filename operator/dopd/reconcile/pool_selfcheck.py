"""Whether the GpuPools that resources name are there and fit them: for `dopd doctor`, and for the log of a start."""

from collections.abc import AsyncIterator, Iterator, Sequence
from http import HTTPStatus
from math import inf

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.cluster.client import in_cluster
from dopd.planning.pool import Pool
from dopd.planning.sharing import Claim, Entry
from dopd.reconcile.grants import Ledger, named_twice, read_ledger, types_of
from dopd.reconcile.queue import Key
from dopd.telemetry.selfcheck import Check, Verdict

Named = tuple[Key, DisaggregatedInferenceSpec]
"""A resource that names a pool."""
_SHOWN = 5
"""So many resources are named in a line."""


async def check_pools(kubernetes: Kubernetes, resources: Sequence[Named]) -> AsyncIterator[Check]:
    """All checks of the pools that resources name; each pool is read once.

    Args:
        kubernetes: where they are.
        resources: with spec.gpuPool.
    """
    of_pool: dict[str, list[Named]] = {}
    for key, spec in resources:
        assert spec.gpu_pool
        of_pool.setdefault(spec.gpu_pool.name, []).append((key, spec))
    for name, members in sorted(of_pool.items()):
        ledger = await _read(kubernetes, name, members)
        for check in [ledger] if isinstance(ledger, Check) else [_check_pool(name, ledger), *_fits(ledger, members)]:
            yield check


async def _read(kubernetes: Kubernetes, name: str, members: Sequence[Named]) -> Ledger | Check:
    subject = f"GpuPool {name}"
    try:
        stored = await kubernetes.get(kinds.GPU_POOL, "", name)
    except ApiError as error:
        found = f"{error.status} {error.reason}: {error.message}"
        if error.status == HTTPStatus.FORBIDDEN and not in_cluster():
            return Check(subject, "pool", Verdict.SKIPPED, f"not to be read with your rights ({error.reason})")
        fix = "Install the CRDs, and with the chart's watchNamespaces set gpuPools.enabled"
        return Check(subject, "pool", Verdict.FAIL, found, "a pool that the operator may read", fix)
    if stored is None:
        who = ", ".join(str(key) for key, _ in members[:_SHOWN])
        who += f" and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
        found = f"there is none of that name; named by {who}, which get no GPU beyond what they were granted last"
        return Check(subject, "pool", Verdict.FAIL, found, "one", "Apply it, or correct spec.gpuPool.name")
    if twice := named_twice(stored):
        found = f"{', '.join(twice)} named twice, so nothing of the pool is used"
        return Check(subject, "members", Verdict.FAIL, found, "each once", "Remove one of the entries")
    try:
        return read_ledger(stored)
    except ValueError as error:
        return Check(subject, "pool", Verdict.FAIL, str(error), "a GpuPool of this version", "Apply it anew")


def _check_pool(name: str, ledger: Ledger) -> Check:
    """Whether what is guaranteed is there."""
    subject, pool = f"GpuPool {name}", ledger.pool
    sums = {kind: sum(entry.guaranteed.get(kind, 0) for entry in pool.entries.values()) for kind in pool.caps}
    over = [f"{sums[kind]} {kind} GPUs of {cap}" for kind, cap in pool.caps.items() if sums[kind] > cap]
    if over:
        fix = "Lower guaranteed of some, or raise gpus"
        return Check(subject, "guarantees", Verdict.FAIL, f"they add up to {', '.join(over)}", "at most the cap", fix)
    told = ", ".join(f"{cap} {kind} GPUs of which {sums[kind]} are guaranteed" for kind, cap in pool.caps.items())
    return Check(subject, "pool", Verdict.OK, f"{told}; {len(pool.entries)} entries")


def _fits(ledger: Ledger, members: Sequence[Named]) -> Iterator[Check]:
    for key, spec in members:
        found = next(_misfits(key, spec, ledger), None)
        yield found or Check(str(key), "GpuPool", Verdict.OK, f"a member of {spec.gpu_pool and spec.gpu_pool.name}")


def _misfits(key: Key, spec: DisaggregatedInferenceSpec, ledger: Ledger) -> Iterator[Check]:
    """What keeps a resource from what it may want, the worst first."""
    pool, subject, name = ledger.pool, str(key), "GpuPool"
    entry = pool.entry_of(subject)
    if entry is None:
        fix = "Add an entry to spec.members of the pool, or name another pool"
        yield Check(subject, name, Verdict.FAIL, "no entry is about it or its namespace, so it gets no GPU", "one", fix)
        return
    types, problem = types_of(spec, ledger.spec.gpu_types)
    if problem:
        fix = "Correct gpuResource or the nodeSelector in the template of the role, or name another pool"
        yield Check(subject, name, Verdict.FAIL, problem, "GPUs that the pool has", fix)
        return
    most = _most(pool, pool.entries[entry], types)
    scaling = spec.scaling
    if scaling:
        pair, field = (scaling.prefill.min, scaling.decode.min), "spec.scaling.prefill.min and spec.scaling.decode.min"
    else:
        told = (spec.prefill.replicas, spec.decode.replicas)
        pair, field = (1 if told[0] is None else told[0], 1 if told[1] is None else told[1]), "replicas of both roles"
    cost = Claim(subject, entry, pair, gpus=(spec.prefill.gpus, spec.decode.gpus), types=types).cost(pair)
    short = {kind: gpus for kind, gpus in cost.items() if gpus > most[kind]}
    if short:
        found = f"{field} take {_gpus(short)}"
        so = "so nothing starts" if scaling else "so not all of them start"
        fix = f"Lower them, or raise max of the entry {entry} or gpus of the pool"
        yield Check(subject, name, Verdict.FAIL, f"{found}, {so}", f"at most {_gpus(most)}", fix)
    budget = scaling.gpu_budget.max if scaling and scaling.gpu_budget else 0
    if budget > sum(most.values()):
        fix = f"Lower it, or raise max of the entry {entry} or gpus of the pool"
        found = f"spec.scaling.gpuBudget.max is {budget}, more than the pool ever gives it"
        yield Check(subject, name, Verdict.FAIL, found, f"at most {_gpus(most)}", fix)


def _most(pool: Pool, entry: Entry, types: tuple[str, str]) -> dict[str, int]:
    """GPUs by type that a pool ever gives the resources of an entry."""
    return {kind: int(min(pool.caps[kind], entry.most.get(kind, inf))) for kind in types}


def _gpus(of_types: dict[str, int]) -> str:
    return " and ".join(f"{gpus} {kind} GPUs" for kind, gpus in of_types.items())
