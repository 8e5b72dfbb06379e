"""Loads of our own making, as totals of each minute: `generated:NAME`. Seeded and pure.

Requests are drawn from them as from a file of totals (`dopd.replay.trace`), so that lengths and arrivals vary alike.
Sizes are for the 8B profile at `--rate-scale 1`, where they keep one to a dozen workers of a role busy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PREFIX = "generated:"
DAY_SECONDS, HOUR_SECONDS = 86_400.0, 3600.0
NOISE_CV, NOISE_MEMORY = 0.05, 0.6
"""Of the rate from minute to minute beyond Poisson, as a first-order autoregression: between those of azure2024-conv's
minutes (0.03 to 0.08 within an hour)."""
INPUT_TOKENS, OUTPUT_TOKENS = 1200.0, 220.0


@dataclass(frozen=True)
class Totals:
    """Requests and tokens of equal intervals, as the columns of a file of totals.

    Attributes:
        columns: begin of each, requests, prompt tokens, answer tokens.
        width_seconds: of an interval.
    """

    columns: tuple[Floats, Floats, Floats, Floats]
    width_seconds: float


def totals(name: str, seed: int) -> Totals:
    """A load by name, without `generated:`.

    Raises:
        ValueError: no load of this name.
    """
    if name not in LOADS:
        raise ValueError(f"{PREFIX}{name}: expected one of {', '.join(PREFIX + known for known in LOADS)}")
    return LOADS[name](np.random.default_rng([seed, *name.encode()]))


def office_day(generator: np.random.Generator, weeks: int = 3) -> Totals:
    """Monday to Sunday, `weeks` times: tenfold within twenty minutes each weekday morning, quiet weekends.

    From 08:30 to 08:50 the load rises from 4 to 40 requests/s, sinks by a quarter over lunch, and falls from 17:30 on
    within an hour. From 12:00 to 12:30 a batch of long prompts with short answers comes on top.
    """
    minutes = np.arange(weeks * 7 * 1440)
    hour, day = minutes % 1440 / 60, minutes // 1440 % 7
    office = np.interp(hour, [8.5, 8 + 50 / 60, 12.0, 12.5, 13.5, 17.5, 18.5], [0.1, 1.0, 1.0, 0.75, 0.95, 0.9, 0.1])
    level = np.where(day < 5, office, 0.1)
    rates = 40.0 * level * _noise(generator, len(minutes))
    batch = np.where((day < 5) & (hour >= 12.0) & (hour < 12.5), 12.0, 0.0)
    return _totals(60.0, rates + batch, rates * INPUT_TOKENS + batch * 4000.0, rates * OUTPUT_TOKENS + batch * 40.0)


def quiet_nights(generator: np.random.Generator, weeks: int = 3) -> Totals:
    """An internal tool, Monday to Sunday, `weeks` times: nothing from 20:00 to 07:00 and on weekends.

    In between the load rises to 2 requests/s until 09:00, and falls from 17:00 on.
    """
    minutes = np.arange(weeks * 7 * 1440)
    hour, day = minutes % 1440 / 60, minutes // 1440 % 7
    level = np.interp(hour, [7.0, 9.0, 17.0, 20.0], [0.05, 1.0, 1.0, 0.05])
    awake = (day < 5) & (hour >= 7.0) & (hour < 20.0)
    rates = np.where(awake, 2.0 * level * _noise(generator, len(minutes)), 0.0)
    return _totals(60.0, rates, rates * INPUT_TOKENS, rates * OUTPUT_TOKENS)


def bursts(generator: np.random.Generator) -> Totals:
    """Six hours: from silence to the work of some eleven workers within 45 s, two to six minutes, silence again."""
    width = 15.0
    rates = np.zeros(int(6 * HOUR_SECONDS / width))
    at = 2
    while at < len(rates):
        steps = int(generator.integers(8, 24))
        top = 170.0 * generator.uniform(0.85, 1.15)
        shape = np.concatenate(([top / 3, top * 2 / 3], np.full(steps, top), [top / 2]))
        end = min(len(rates), at + len(shape))
        rates[at:end] = shape[: end - at]
        at = end + int(generator.integers(8, 40))
    return _totals(width, rates, rates * INPUT_TOKENS, rates * OUTPUT_TOKENS)


def jumps(generator: np.random.Generator) -> Totals:
    """Six hours of levels between 8 and 80 requests/s that last 3 to 40 minutes each, and no way between them."""
    rates = np.zeros(360)
    at = 0
    while at < len(rates):
        minutes = int(generator.integers(3, 41))
        rates[at : at + minutes] = 8.0 * 10 ** generator.uniform(0, 1)
        at += minutes
    rates *= _noise(generator, len(rates))
    return _totals(60.0, rates, rates * INPUT_TOKENS, rates * OUTPUT_TOKENS)


def steps(generator: np.random.Generator) -> Totals:
    """Six hours of stairs: up by 15 requests/s each 20 minutes to 75, and down again."""
    stairs = np.array([15.0, 30.0, 45.0, 60.0, 75.0, 60.0, 45.0, 30.0, 15.0])
    rates = np.repeat(np.resize(stairs, 18), 20) * _noise(generator, 360)
    return _totals(60.0, rates, rates * INPUT_TOKENS, rates * OUTPUT_TOKENS)


def flat(generator: np.random.Generator) -> Totals:
    """Six hours at 40 requests/s."""
    rates = np.full(360, 40.0)
    return _totals(60.0, rates, rates * INPUT_TOKENS, rates * OUTPUT_TOKENS)


def mix(generator: np.random.Generator) -> Totals:
    """Two weeks: each hour of the day has its mix of prompt and answer tokens, their sum is the same all the time.

    At one end nine tenths of the tokens are those of prompts, at the other half of them; the way between takes ten
    minutes.
    """
    minutes = np.arange(14 * 1440)
    shares = np.resize([0.9, 0.5, 0.75, 0.9, 0.6, 0.5, 0.8, 0.55], 24)
    share = np.interp(minutes % 1440 / 60, np.arange(24).repeat(2) + np.tile([0.0, 5 / 6], 24), shares.repeat(2))
    tokens = 36_000.0 * _noise(generator, len(minutes))
    rates = tokens / 1500.0
    return _totals(60.0, rates, tokens * share, tokens * (1 - share))


LOADS: dict[str, Callable[[np.random.Generator], Totals]] = {
    "office-day": office_day, "quiet-nights": quiet_nights,
    "bursts": bursts, "jumps": jumps, "steps": steps, "flat": flat, "mix": mix,
}  # fmt: skip


def _noise(generator: np.random.Generator, count: int) -> Floats:
    """Factors with mean 1 that remember the one before."""
    shocks = generator.standard_normal(count) * np.sqrt(1 - NOISE_MEMORY**2)
    values, value = np.empty(count), 0.0
    for k in range(count):
        value = NOISE_MEMORY * value + shocks[k]
        values[k] = value
    factors: Floats = np.exp(NOISE_CV * values - NOISE_CV**2 / 2)
    return factors


def _totals(width_seconds: float, rates: Floats, input_tokens: Floats, output_tokens: Floats) -> Totals:
    starts = np.arange(len(rates), dtype=np.float64) * width_seconds
    return Totals(
        (starts, rates * width_seconds, input_tokens * width_seconds, output_tokens * width_seconds), width_seconds
    )
