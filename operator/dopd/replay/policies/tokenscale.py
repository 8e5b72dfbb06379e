"""TokenScale (arXiv 2512.03416): workers of each role by the rate of tokens over the velocity of a worker.

Prefill: prompt tokens per second / min(V_P, V_N), the most that a worker computes and that it can hand over. Decode:
tokens (prompt and answer) per second / V_D, the rate at which a full worker gives tokens of finished requests free
again; of mean lengths, since no bucket of lengths is visible in rates. Arrivals lead and queues lag, so it looks at
short windows.

Convertible decoders are decode workers that take prompts in a burst. Here they are decode workers held beyond the need,
that turn into prefill workers (`flips`) when prompts come faster than prefill workers can compute, and back; a worker
finishes its answers before it does, which the paper's, that mixes both, need not.
"""

from math import ceil

from dopd.api.names import Role
from dopd.planning import Demand
from dopd.planning.bounds import Pair
from dopd.planning.queueing import largest_batch
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry

INTERVAL_SECONDS = 5.0
HOLD_SECONDS = 60.0


class TokenScale:
    """The autoscaler.

    Args:
        setting: what every policy is told.
        share: of its velocity that a worker is counted with.
        convertible: decode workers that may turn into prefill workers.
        window_seconds: over which rates are measured.
    """

    def __init__(
        self, setting: Setting, share: float = 1.0, convertible: int = 0, window_seconds: float = 15.0
    ) -> None:
        self.setting, self._share, self._window = setting, share, window_seconds
        self._convertible = convertible
        self._needed: list[tuple[float, Pair]] = []
        self.flips = 0

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One look: grow at once, shrink when nothing of the last minute needed it."""
        self.flips = 0
        now = telemetry.now_seconds
        held = (telemetry.workers(Role.PREFILL).supply, telemetry.workers(Role.DECODE).supply)
        demand = telemetry.demand(self._window)
        if not demand.requests_per_second or telemetry.seen_seconds < self._window:
            self._needed = [(now, held)]
            return held, INTERVAL_SECONDS
        prefill, decode = needed(self.setting, demand, self._share)
        decode += self._convertible
        self._needed = [one for one in self._needed if one[0] > now - HOLD_SECONDS] + [(now, (prefill, decode))]
        most = [max(pair[role] for _, pair in self._needed) for role in range(2)]
        if self._convertible:
            serving = telemetry.workers(Role.PREFILL).serving
            spare = telemetry.workers(Role.DECODE).serving - (decode - self._convertible)
            self.flips = max(0, min(prefill - serving, spare, self._convertible))
            # What turned into a prefill worker is counted there until the burst is over.
            most = [max(most[0], prefill), max(most[1] - self.flips, 1)]
        return (min(most[0], self.setting.most), min(most[1], self.setting.most)), INTERVAL_SECONDS


def needed(setting: Setting, demand: Demand, share: float) -> Pair:
    """Workers of both roles by token velocities, of which a share is counted with."""
    model = setting.model
    prefill_tokens = demand.uncached_tokens / model.prefill_seconds(demand.uncached_tokens)
    prefill_velocity = min(prefill_tokens, model.transfer_tokens_per_second)
    context = demand.input_tokens + demand.output_tokens / 2
    most = max(1, min(int(model.kv_tokens // context), model.max_running_requests))
    batch = largest_batch(model.itl_curve(context), setting.objectives.itl_seconds, most)
    released = batch * (demand.input_tokens + demand.output_tokens)
    decode_velocity = released / (demand.output_tokens * model.itl_seconds(batch, context))
    rate = demand.requests_per_second / share
    prefill = ceil(rate * demand.uncached_tokens / prefill_velocity)
    decode = ceil(rate * (demand.input_tokens + demand.output_tokens) / decode_velocity)
    return max(1, prefill), max(1, decode)
