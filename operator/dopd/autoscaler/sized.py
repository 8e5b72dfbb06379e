"""The workers for the loads of a sample, by the queueing model."""

from dataclasses import dataclass

from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.until_start import UntilStart
from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.sizing import Load, Size

DEVIATIONS_KEPT = 2.0
"""A worker is given up only if the rest would do for a load that is greater by so many deviations of its own noise:
else a load that stands still next to what a worker carries starts one for each wave."""


@dataclass(frozen=True)
class Sized:
    """Workers of each role.

    Attributes:
        now: for what arrives now.
        peak: for the greatest load until a decision of now takes effect.
        kept: for that and its noise; fewer are not kept.
        together: both roles together until a start serves, and the same with its noise; None without role switching.
        apart: what each role would need by itself until then; None likewise.
    """

    now: PerRole[Size]
    peak: PerRole[Size]
    kept: PerRole[Size]
    together: tuple[int, int] | None
    apart: Pair | None

    @classmethod
    def of(
        cls,
        demand: Demand,
        outlook: PerRole[Outlook],
        both: UntilStart | None,
        engine: EngineModel,
        policy: Policy,
    ) -> "Sized":
        """Size both roles.

        Args:
            demand: requests of the lengths of now.
            outlook: what is expected of each role.
            both: what is expected until a start serves; None without role switching.
            engine: performance of one engine, corrected as far as it was measured.
            policy: objectives and GPUs of a worker.
        """
        load = Load.of(demand, engine, policy.objectives, on_time_first=policy.on_time_first)

        def at(requests_per_second: float) -> Size:
            return load.at(requests_per_second).size(policy.prefill.gpus, policy.decode.gpus)

        def to_keep(role: Outlook) -> Size:
            return at(role.rate(role.peak + DEVIATIONS_KEPT * role.deviation) or 0.0)

        return cls(
            now=outlook.map(lambda role: at(role.rate(role.now) or 0.0)),
            peak=outlook.map(lambda role: at(role.requests_per_second)),
            kept=outlook.map(to_keep),
            together=(both.workers(at), both.workers(at, DEVIATIONS_KEPT)) if both else None,
            apart=both.apart(at) if both else None,
        )
