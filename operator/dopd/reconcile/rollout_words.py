"""What condition RolledOut says where a rollout lacks GPUs: what is in the way, and the fields that clear it. Pure."""

from collections.abc import Iterator, Mapping

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.rollout import RoleRollout
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed


def no_spare_gpu(observed: Observed, moved: Moved) -> str:
    """Why nothing is replaced, and each thing that a person can do about it."""
    assert observed.spec
    first = [role for role in Role if role in moved.waiting]
    gpus = sum(_gpus(observed.spec, role) for role in first)
    named = " and ".join(f"a {role} worker" for role in first)
    what = f"there are no GPUs for {named} of the new revision ({gpus} GPUs) beside the old ones that must serve"
    return f"nothing is replaced: {what}. Any of these helps: {'; '.join(_remedies(observed, observed.spec, gpus))}"


def outage(old: Mapping[Role, int]) -> str:
    """That nobody serves for now, and what it waits for; `old` are workers of before that are there still."""
    leave = " and ".join(f"{count} {role} workers" for role, count in old.items() if count)
    now = f"{leave} of before leave first and finish what they have" if leave else "those of before have left"
    return (
        "nobody serves until a prefill and a decode worker of the new revision do, and requests fail: "
        f"there are no GPUs for them beside the last ones of before, and spec.rollout.allowOutage accepts it. Now {now}"
    )


def _remedies(observed: Observed, spec: DisaggregatedInferenceSpec, gpus: int) -> Iterator[str]:
    if spec.gpu_pool:
        yield f"let GpuPool {spec.gpu_pool.name} grant {gpus} GPUs more"
    if spec.topology and spec.topology.domains:
        yield f"raise gpus of a domain in spec.topology.domains, so that {gpus} are free in it"
    if spec.scaling and spec.scaling.gpu_budget:
        yield f"raise spec.scaling.gpuBudget.max, so that {gpus} are free"
    for role in Role:
        most = _of_role(spec, role).max_unavailable
        if most == 0:
            yield f"set spec.rollout.{role}.maxUnavailable to 1"
        elif sum(worker.labelled for worker in observed.workers[role]) > most + 1:
            yield f"raise spec.rollout.{role}.maxUnavailable, which is {most}"
    if not spec.rollout.allow_outage:
        first = "the last old workers then leave first, and requests fail until their successors serve"
        yield f"set spec.rollout.allowOutage to true: {first}"


def _of_role(spec: DisaggregatedInferenceSpec, role: Role) -> RoleRollout:
    return spec.rollout.prefill if role is Role.PREFILL else spec.rollout.decode


def _gpus(spec: DisaggregatedInferenceSpec, role: Role) -> int:
    return (spec.prefill if role is Role.PREFILL else spec.decode).gpus
