"""What a plan does not tell of a resource: its sleep, its batch, and what a pool or the domains have no room for."""

from collections.abc import Iterator
from datetime import datetime

from dopd.api.status import GrantStatus
from dopd.cli.output import painted
from dopd.cli.resource import Found, age
from dopd.planning.bounds import Pair


def asleep_lines(found: Found, at: datetime) -> Iterator[str]:
    """What a person is shown of a resource whose roles are at zero: its plan is that of before."""
    scaling = found.readable_spec.scaling
    after = scaling.idle.after if scaling and scaling.idle else "a while"
    yield f"{painted(str(found.key), bold=True)}: asleep, 0 prefill + 0 decode workers"
    if found.status.decisions:
        last = found.status.decisions[0]
        yield f"last change: {last.from_} to {last.to} {age(last.time, at)} ago, {last.reason}: {last.message}"
    yield f"why: no request came for {after} (spec.scaling.idle.after)"
    yield "what wakes it: a request, a schedule that reserves workers, or a forecast of one within the lead time"
    yield f"now: {found.asleep}"


def not_planned(found: Found) -> Iterator[str]:
    """What a plan does not tell: what a batch adds to it, and what of it a pool or the domains have no room for."""
    spec, status = found.readable_spec, found.status
    if spec.scheduling.batch:
        share = spec.scaling.batch_share if spec.scaling else 0.0
        adds = f"add up to {share:.0%} to every load above, while any waits (spec.scaling.batchShare)"
        yield f"batch: requests without a deadline {adds if share else 'are in no load above, and add no worker'}"
    if grant := status.gpu_pool:
        yield f"GPU pool: {given(grant)} that are wanted"
    if status.domains:
        parts = [f"{one.name or 'none'} {one.prefill.desired}+{one.decode.desired}" for one in status.domains]
        yield f"domains: {', '.join(parts)}"
        rest = unplaced(found)
        if any(rest):
            yield f"  no domain has room for {rest[0]} prefill and {rest[1]} decode workers of the target: raise gpus"
            yield "  of a domain, list another (spec.topology.domains), or lower spec.scaling.gpuBudget.max"


def unplaced(found: Found) -> Pair:
    """Workers that should serve and for which no domain of spec.topology has room."""
    status = found.status
    if not status.domains or not status.prefill or not status.decode:
        return 0, 0
    return (
        max(0, status.prefill.desired - sum(one.prefill.desired for one in status.domains)),
        max(0, status.decode.desired - sum(one.decode.desired for one in status.domains)),
    )


def given(grant: GrantStatus) -> str:
    """What a GpuPool gives, of what is wanted."""
    wanted, share = grant.wanted, grant.share
    return f"{grant.name} gives {share.prefill}+{share.decode} of {wanted.prefill}+{wanted.decode} workers"
