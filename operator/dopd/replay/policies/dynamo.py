"""The planner of NVIDIA Dynamo 1.x, its formulas from the published source; docs/replay.md has the real one too.

Throughput layer: prefill = ceil(rate x service time of a prompt of mean length), decode = ceil(rate / request rate
of a worker at the largest batch within the ITL objective), at most 8 workers a step. Load layer, every 5 s, one
worker a step: up when every worker is estimated above the objective, down when the load of one worker less still
leaves a margin of 20 %; together with the throughput layer its answer is a floor. Nothing moves while a worker
starts. Prefill is sized by the tokens that no prefix cache holds, as the published source does with its router's hit
rate.
"""

from math import ceil

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.planning.demand import Demand
from dopd.planning.queueing import largest_batch
from dopd.replay.policies.arima import ArimaSeries
from dopd.replay.policies.base import Setting
from dopd.replay.policies.static import counts
from dopd.replay.telemetry import Telemetry

LOAD_SECONDS = 5.0
MOST_STEP = 8
DOWN_SENSITIVITY = 0.8


class DynamoSla:
    """Throughput layer as a floor, load layer above it.

    Args:
        setting: what every policy is told.
        interval_seconds: of the throughput layer; 180 is the default, shorter ones are tried in its favour.
        tightening: factor on both objectives as the planner sees them; below 1 it buys head-room.
        load_layer: whether the load layer runs.
    """

    def __init__(
        self, setting: Setting, interval_seconds: float = 180.0, tightening: float = 1.0, load_layer: bool = True
    ) -> None:
        self.setting, self._interval, self._load_layer = setting, interval_seconds, load_layer
        self._ttft = setting.objectives.ttft_seconds * tightening
        self._itl = setting.objectives.itl_seconds * tightening
        self._series = ArimaSeries(), ArimaSeries(), ArimaSeries()
        self._floor: Pair = (1, 1)
        self._due = 0.0

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """The floor when its interval is over, and the load layer every five seconds."""
        pair = counts(telemetry)
        if telemetry.now_seconds == 0:
            self._floor, self._due = (1, 1), self._interval
            return pair, LOAD_SECONDS
        if telemetry.now_seconds >= self._due:
            self._due += self._interval
            demand = telemetry.demand(self._interval)
            if demand.requests_per_second:
                self._floor = self._throughput(demand, pair)
                if not self._load_layer:
                    pair = self._floor
        starting = any(telemetry.workers(role).starting for role in Role)
        if self._load_layer and not starting:
            pair = self._load(telemetry, pair)
        if not starting:
            pair = (max(pair[0], self._floor[0]), max(pair[1], self._floor[1]))
        most = self.setting.most
        return (min(pair[0], most), min(pair[1], most)), LOAD_SECONDS if self._load_layer else self._interval

    def _throughput(self, demand: Demand, pair: Pair) -> Pair:
        values = (demand.requests_per_second, demand.input_tokens, demand.output_tokens)
        rate, inputs, outputs = (series.next(value) for series, value in zip(self._series, values, strict=True))
        wanted = throughput_counts(self.setting, rate, inputs, outputs, self._itl, demand.uncached_share)
        return tuple(  # type: ignore[return-value]
            max(1, min(had + MOST_STEP, max(had - MOST_STEP, want))) for want, had in zip(wanted, pair, strict=True)
        )

    def _load(self, telemetry: Telemetry, pair: Pair) -> Pair:
        return load_counts(self.setting, telemetry, pair, self._ttft, self._itl)


class DynamoLoad:
    """The load layer alone."""

    def __init__(self, setting: Setting, tightening: float = 1.0) -> None:
        self.setting = setting
        self._ttft = setting.objectives.ttft_seconds * tightening
        self._itl = setting.objectives.itl_seconds * tightening

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One worker up or down, unless one is starting."""
        pair = counts(telemetry)
        if telemetry.now_seconds > 0 and not any(telemetry.workers(role).starting for role in Role):
            pair = load_counts(self.setting, telemetry, pair, self._ttft, self._itl)
        return (min(pair[0], self.setting.most), min(pair[1], self.setting.most)), LOAD_SECONDS


def throughput_counts(
    setting: Setting, rate: float, inputs: float, outputs: float, itl_seconds: float, uncached_share: float = 1.0
) -> Pair:
    """ceil(rate / request rate of one worker) for both roles."""
    model = setting.model
    context = inputs + outputs / 2
    most = max(1, min(int(model.kv_tokens // context), model.max_running_requests))
    batch = largest_batch(model.itl_curve(context), itl_seconds, most)
    decode_rps = batch / (outputs * model.itl_seconds(batch, context))
    return max(1, ceil(rate * model.prefill_seconds(inputs * uncached_share))), max(1, ceil(rate / decode_rps))


def load_counts(setting: Setting, telemetry: Telemetry, pair: Pair, ttft_seconds: float, itl_seconds: float) -> Pair:
    """The load layer: the least loaded worker above the objective means one more, room on one less means one less."""
    model, demand = setting.model, telemetry.demand(60.0)
    prefill, decode = pair
    if demand.requests_per_second == 0:
        return pair
    queues = telemetry.prefill_waiting_tokens()
    if queues:
        own = model.prefill_seconds(demand.uncached_tokens)
        per_token = own / max(1.0, demand.uncached_tokens)
        estimates = [own + queue * per_token for queue in queues]
        if min(estimates) > ttft_seconds:
            prefill += 1
        elif prefill > 1 and all(
            (estimate - own) * prefill / (prefill - 1) < (ttft_seconds - own) * DOWN_SENSITIVITY
            for estimate in estimates
        ):
            prefill -= 1
    running = telemetry.decode_loads()
    if running:
        steps = [model.itl_seconds(n, kv / n if n else 0.0) for n, kv in running]
        more = decode / max(1, decode - 1)
        if min(steps) > itl_seconds or telemetry.workers(Role.DECODE).waiting_requests:
            decode += 1
        elif decode > 1 and all(
            kv * more < model.kv_tokens
            and n * more < model.max_running_requests
            and model.itl_seconds(n * more, kv / n if n else 0.0) < itl_seconds * DOWN_SENSITIVITY
            for n, kv in running
        ):
            decode -= 1
    return prefill, decode
