"""The published DOPD algorithm (arXiv 2511.20982), as the paper intends it.

Concurrency of one decode worker from its memory, decode workers from the predicted concurrency, prefill workers
from the ratio at which producers and consumers of KV cache keep pace, mean lengths throughout, no head-room and no
hysteresis; every ten seconds, with an emergency threshold on queues and KV use between.

Where the authors' public code departs from their text it is mended, so that the baseline is not weaker than its
idea: it takes arrivals of an interval for concurrency (here: rate x length x ITL), and it does not multiply the
ratio by the number of decode workers. Its ARIMA search is replaced by ARIMA(1,1,0) on the same window of 50 points.
It knows no prefix cache: prompts count with their whole length.
"""

from math import ceil, floor

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.replay.policies.arima import ArimaSeries
from dopd.replay.policies.base import Setting
from dopd.replay.policies.static import counts
from dopd.replay.telemetry import Telemetry

INTERVAL_SECONDS = 10.0
KV_BLOCK_TOKENS = 64
EMERGENCY_KV_USE = 0.9
EMERGENCY_WAITING_PROMPTS = 5.0


class Paper:
    """Equations (1) to (6) of the paper each interval."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._rate, self._input, self._output = ArimaSeries(), ArimaSeries(), ArimaSeries()

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Predict the next interval, balance the ratio, and obey the emergency thresholds."""
        demand = telemetry.demand(INTERVAL_SECONDS)
        if demand.requests_per_second == 0:
            return counts(telemetry), INTERVAL_SECONDS
        rate = self._rate.next(demand.requests_per_second)
        input_tokens, output_tokens = self._input.next(demand.input_tokens), self._output.next(demand.output_tokens)
        observed_itl = telemetry.itl_seconds(INTERVAL_SECONDS)
        prefill, decode = ratio_counts(
            self.setting, rate, input_tokens, output_tokens, observed_itl, telemetry.workers(Role.DECODE).serving
        )
        queue, slots = telemetry.workers(Role.PREFILL), telemetry.workers(Role.DECODE)
        if (queue.waiting_tokens or 0) > EMERGENCY_WAITING_PROMPTS * input_tokens * max(1, queue.serving):
            prefill = max(prefill, queue.supply + (1 if not queue.starting else 0))
        if (slots.kv_use or 0) > EMERGENCY_KV_USE or slots.waiting_requests:
            decode = max(decode, slots.supply + (1 if not slots.starting else 0))
        return (min(prefill, self.setting.most), min(decode, self.setting.most)), INTERVAL_SECONDS


def ratio_counts(
    setting: Setting,
    rate: float,
    input_tokens: float,
    output_tokens: float,
    observed_itl_seconds: float | None = None,
    serving_decode: int = 0,
) -> Pair:
    """Prefill and decode workers by the paper's ratio.

    C = floor(KV blocks / ceil((ISL + OSL/2) / block)), capped by the engine's limit; R = C T_P(ISL) / (OSL TPOT(C));
    N_D = ceil(rate OSL TPOT / C); N_P = ceil(R N_D).
    """
    model = setting.model
    context = input_tokens + output_tokens / 2
    blocks = model.kv_tokens // KV_BLOCK_TOKENS
    concurrency = max(1, min(floor(blocks / ceil(context / KV_BLOCK_TOKENS)), model.max_running_requests))
    itl = model.itl_seconds(concurrency, context)
    if observed_itl_seconds and serving_decode:
        running = rate * output_tokens * observed_itl_seconds / serving_decode
        expected = model.itl_seconds(running, context)
        itl *= observed_itl_seconds / expected
    exact_decode = rate * output_tokens * itl / concurrency
    decode = max(1, ceil(exact_decode))
    ratio = concurrency * model.prefill_seconds(input_tokens) / (output_tokens * itl)
    return max(1, ceil(ratio * exact_decode)), decode
