"""spec.rollout: how workers are replaced when what they are made from changes, and what a start may cost."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Duration, Model, Within


class OnFailure(StrEnum):
    """What happens when workers of a new revision do not come up."""

    HOLD = "Hold"
    ROLL_BACK = "RollBack"


class RoleRollout(Model):
    """How the workers of one role are replaced."""

    max_surge_gpus: Annotated[int, Field(ge=0, le=100_000, alias="maxSurgeGPUs")] = 0
    """GPUs beyond those of the target that new workers may take before old ones leave, within spec.scaling.gpuBudget.
    With 0 an old worker leaves first, and its successor takes its GPUs. A role of one worker starts the successor first
    in either case, since it must not be without a worker: see allowOutage."""
    max_unavailable: Annotated[int, Field(ge=0, le=1000)] = 1
    """Workers below the target that may be missing at a time. One worker stays whatever it says."""


class Rollout(Model):
    """How workers are replaced when image, arguments, template or another part of what they are made from changes."""

    prefill: RoleRollout = RoleRollout()
    """The prefill workers."""
    decode: RoleRollout = RoleRollout()
    """The decode workers."""
    allow_outage: bool = False
    """Whether a rollout may leave nobody to serve. Without, one that finds no GPUs for a first new worker of each role
    beside the last old ones waits for them. With, the last old ones leave first where there are none (by the budget, or
    unknown without one), finish what they have, and new requests fail until the successors serve."""
    on_failure: OnFailure = OnFailure.HOLD
    """What happens when a new worker does not come up. Hold: no further old worker leaves, and the new ones stay to be
    looked at. RollBack: the workers become those of the revision before, until the spec changes again."""
    start_deadline: Annotated[Duration, Within("10s", "24h")] = "70m"
    """A new worker that is not ready after this long counts as one that does not come up."""
    pending_deadline: Annotated[Duration, Within("10s", "24h")] = "10m"
    """A worker that has found no node after this long is given back: its pod is deleted, and the next one is tried
    after the same time. Must be longer than an autoscaler of nodes takes. A worker of several nodes is given back whole
    when one of its pods has none by then."""
