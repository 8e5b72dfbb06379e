"""Fixed counts, and the policy that knows the future: the bounds between which every other policy lies."""

import numpy as np

from dopd.api.names import Role
from dopd.planning import Demand, size
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace

PEAK_WINDOW_SECONDS = 60.0
LOOK_SECONDS = 15.0
LEAST_STRETCH_SECONDS = 1.0
"""What arrives at one moment is a rate over so long."""


class Fixed:
    """The same counts all the time."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Nothing to decide."""
        return self.pair, 3600.0


class Oracle:
    """Knows every request in advance, and the start-up time: holds what the next start-up time will need.

    The need of a moment is dopd's own sizing for the demand around it, so what remains between dopd and the oracle
    is the price of not knowing the future.

    Args:
        setting: what every policy is told.
        trace: all of it.
        load_factor: by which the load is taken to be greater.
    """

    def __init__(self, setting: Setting, trace: Trace, load_factor: float = 1.0) -> None:
        self.setting = setting
        self.needs = needs(setting, trace, LOOK_SECONDS, smooth_seconds=30.0, load_factor=load_factor)

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """The most that any moment needs until a worker started at the next look could serve."""
        first = int(telemetry.now_seconds // LOOK_SECONDS)
        last = int((telemetry.now_seconds + self.setting.startup_seconds) // LOOK_SECONDS) + 2
        prefill, decode = (
            self.needs[first : max(last, first + 1)].max(axis=0) if first < len(self.needs) else self.needs[-1]
        )
        return (int(prefill), int(decode)), LOOK_SECONDS


def peak(setting: Setting, trace: Trace, load_factor: float = 1.0) -> Pair:
    """Counts sized for the busiest minute of the trace: what a careful team provisions, with hindsight."""
    prefill, decode = needs(setting, trace, PEAK_WINDOW_SECONDS, PEAK_WINDOW_SECONDS, load_factor).max(axis=0)
    return int(prefill), int(decode)


def one_to_three(pair: Pair, setting: Setting) -> Pair:
    """One prefill worker to three decode workers, of at least the GPUs of `pair`: a default often advised."""
    gpus = pair[0] * setting.prefill_gpus + pair[1] * setting.decode_gpus
    unit = setting.prefill_gpus + 3 * setting.decode_gpus
    units = max(1, -(-gpus // unit))
    return units, 3 * units


def first_counts(setting: Setting, trace: Trace, seconds: float = 300.0) -> Pair:
    """Counts that every policy starts with: sized for the busiest of the first minutes.

    A trace begins in the middle of a service's life, with a fleet that serves; its first minutes are no cold start.
    """
    return peak(setting, trace.between(0.0, seconds)) if trace.duration_seconds > seconds else peak(setting, trace)


def needs(
    setting: Setting, trace: Trace, step_seconds: float, smooth_seconds: float, load_factor: float = 1.0
) -> np.ndarray:
    """Workers that the true demand, times a factor, needs at each step, shape (steps, 2)."""
    steps = int(trace.duration_seconds // step_seconds) + 1
    around = (smooth_seconds - step_seconds) / 2
    return np.array(
        [
            needed(
                setting,
                true_demand(trace, k * step_seconds - around, (k + 1) * step_seconds + around).scaled(load_factor),
            )
            for k in range(steps)
        ]
    )


def true_demand(trace: Trace, start_seconds: float, end_seconds: float) -> Demand:
    """The demand of the requests that arrive in [start, end), of prompts as a first replay found them cached.

    A stretch that reaches beyond the trace is moved back to its end: the last moment alone tells no rate.
    """
    beyond = max(0.0, end_seconds - trace.duration_seconds)
    start_seconds -= beyond
    first, last = np.searchsorted(trace.arrival_seconds, [start_seconds, end_seconds])
    if first == last:
        return Demand.none()
    inputs = trace.input_tokens[first:last].astype(float)
    outputs = trace.output_tokens[first:last].astype(float)
    stretch = min(end_seconds, trace.duration_seconds) - max(0.0, start_seconds)
    uncached = 1.0
    if trace.uncached_tokens is not None:
        uncached = float(trace.uncached_tokens[first:last].sum() / inputs.sum())
    return Demand(
        requests_per_second=float(last - first) / max(stretch, LEAST_STRETCH_SECONDS),
        input_tokens=float(inputs.mean()),
        input_tokens_second_moment=float((inputs**2).mean()),
        output_tokens=float(outputs.mean()),
        uncached_share=uncached,
        output_tokens_second_moment=float((outputs**2).mean()),
    )


def busy_workers(setting: Setting, demand: Demand) -> tuple[float, float]:
    """Prefill and decode workers that a demand keeps busy, not rounded and without room: their ratio."""
    answer = size(demand, setting.model, setting.objectives, setting.prefill_gpus, setting.decode_gpus)
    return answer.prefill_exact, answer.decode_exact


def needed(setting: Setting, demand: Demand) -> Pair:
    """Prefill and decode workers that a demand needs."""
    answer = size(demand, setting.model, setting.objectives, setting.prefill_gpus, setting.decode_gpus)
    return answer.prefill, answer.decode


def counts(telemetry: Telemetry) -> Pair:
    """Workers that serve or will."""
    return telemetry.workers(Role.PREFILL).supply, telemetry.workers(Role.DECODE).supply
