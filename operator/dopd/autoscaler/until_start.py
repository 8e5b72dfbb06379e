"""What both roles need together until a worker that is started now serves, where workers may change their role."""

from collections.abc import Callable
from dataclasses import dataclass

from dopd.api.names import Role
from dopd.autoscaler.outlook import Outlook
from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.sizing import Size
from dopd.planning.switching import Into


@dataclass(frozen=True)
class UntilStart:
    """What is expected of each role and of their sum until then.

    Attributes:
        each: of each role.
        both: of both together, whose peaks need not come at the same time.
    """

    each: PerRole[Outlook]
    both: Outlook

    def workers(self, size_at: Callable[[float], Size], deviations: float = 0.0) -> int:
        """Workers of both together that are enough however the greatest load of both is divided between them.

        Neither role gets more of it than its own peak: so this is never more than both would hold by themselves. It is
        most where one of them is at its peak, and the other has the rest.

        Args:
            size_at: the workers for a rate of requests of the lengths of now.
            deviations: of its noise, that every load may be greater.
        """
        prefill, decode, both = (one.peak + deviations * one.deviation for one in (*self.each, self.both))
        prompts_first = self._pair(size_at, prefill, min(decode, max(0.0, both - prefill)))
        answers_first = self._pair(size_at, min(prefill, max(0.0, both - decode)), decode)
        return max(sum(prompts_first), sum(answers_first))

    def apart(self, size_at: Callable[[float], Size]) -> Pair:
        """Workers that each role would need by itself."""
        return self._pair(size_at, self.each.prefill.peak, self.each.decode.peak)

    def _pair(self, size_at: Callable[[float], Size], prefill_load: float, decode_load: float) -> Pair:
        prompts, answers = self.each.prefill.rate(prefill_load), self.each.decode.rate(decode_load)
        return size_at(prompts or 0.0).prefill, size_at(answers or 0.0).decode


def leads_of(model: EngineModel, policy: Policy, into: Into) -> PerRole[float]:
    """When a decision of now takes effect, seconds: what one look misses waits for the next."""

    def of(role: Role) -> float:
        seconds = into[role]
        return (model.startup_seconds[role] if seconds is None else seconds) + policy.interval_seconds

    return PerRole.of(of)


def leads_with_sum(leads: PerRole[float]) -> tuple[float, float, float]:
    """Those of each role and of both together: a worker of their sum may be the one that takes longer."""
    return leads.prefill, leads.decode, max(leads)
