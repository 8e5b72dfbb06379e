"""What each constant of `Tuning` does, in numbers that stand here and not there; with half or twice it is not so.

`make mutants` changes the defaults themselves and runs these tests.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from math import e

import numpy as np
import pytest

from dopd.autoscaler import Autoscaler, Knob, PeakForecast, Sample, Tuning
from dopd.autoscaler.records import weights_of_time
from dopd.autoscaler.stabilization import Stabilization, windows_of_starts
from dopd.autoscaler.voices import Near
from dopd.perf import EngineModel
from dopd.planning import Objectives, Policy

from .worlds import POLICY, demand

HOUR, DAY = 3600.0, 86_400.0
Check = Callable[[Tuning, EngineModel], None]
CHECKS: dict[str, Check] = {}


def constant(check: Check) -> Check:
    """Register what a constant does under its name."""
    CHECKS[check.__name__] = check
    return check


def observed(peak: PeakForecast, loads: list[float] | np.ndarray, every_seconds: float) -> PeakForecast:
    for index, load in enumerate(loads):
        peak.observe(index * every_seconds, float(load))
    return peak


def first_miss(tuning: Tuning, on_time_first: bool) -> float:
    """Where the knob begins if 1 % may be late."""
    policy = Policy(objectives=Objectives(attainment=0.99), on_time_first=on_time_first)
    return Knob(tuning).observe(policy, None, 0.0, 75.0)


def miss_after(tuning: Tuning, miss: float, late_share: float, looks: int) -> float:
    """The knob's share after looks of 15 s with a lead of 75 s, if 1 % may be late."""
    policy = Policy(objectives=Objectives(attainment=0.99), on_time_first=True)
    knob = Knob(tuning, miss)
    knob.observe(policy, None, 0.0, 75.0)
    for _ in range(looks):
        knob.observe(policy, late_share, 15.0, 75.0)
    assert knob.miss
    return knob.miss


@constant
def spacing_seconds(tuning: Tuning, model: EngineModel) -> None:
    """A look 14.5 s after a sample is one, and a look after 10 s is none."""
    for seconds, now in ((14.5, 20.0), (10.0, 10.0)):
        assert observed(PeakForecast(tuning, 180.0), [10.0, 20.0], seconds).now == now


@constant
def memory_seconds(tuning: Tuning, model: EngineModel) -> None:
    """Six hours after rises have ended they count 1/e^2: one lead in fifty is held for them, one in ten is not."""
    jumpy, calm = np.tile([10.0] * 8 + [20.0] * 2, 48), np.full(360, 10.0)
    peak = observed(PeakForecast(replace(tuning, spacing_seconds=60.0), 600.0), np.concatenate([jumpy, calm]), 60.0)
    assert peak.quantile(0.02) > 15
    assert peak.quantile(0.1) < 11


@constant
def belief_seconds(tuning: Tuning, model: EngineModel) -> None:
    """What a voice lost at this time two weeks ago counts 1/e of what it lost a week ago."""
    before, later = weights_of_time(14 * DAY, np.array([0.0, 7 * DAY]), tuning)
    assert before / later == pytest.approx(1 / e, rel=0.1)


@constant
def phase_seconds(tuning: Tuning, model: EngineModel) -> None:
    """What was an hour later on the day before counts 0.6 of what was at this time."""
    later, same = weights_of_time(3 * DAY, np.array([2 * DAY + HOUR, 2 * DAY]), tuning)
    assert later / same == pytest.approx(0.607, rel=0.05)


@constant
def level_seconds(tuning: Tuning, model: EngineModel) -> None:
    """Half an hour after prompts have doubled, 1 - 1/e of that is believed."""
    loop = Autoscaler(tuning, forecaster=None)
    for index in range(21):
        told = demand(40.0, 1000.0 if index < 18 else 2000.0)
        loop.observe(Sample(600.0 * index, told, window_seconds=600.0), model, POLICY)
    assert loop.demand
    assert loop.demand.input_tokens == pytest.approx(1000 * (2 - 1 / e), rel=0.02)


@constant
def prior_leads(tuning: Tuning, model: EngineModel) -> None:
    """After twenty leads of a load that stands still, pretended errors still count as much as real ones."""
    peak = observed(PeakForecast(tuning, 75.0), [10.0] * (20 * 5), 15.0)
    assert peak.quantile(0.25) == pytest.approx(10.6, rel=0.02)


@constant
def prior_deviation(tuning: Tuning, model: EngineModel) -> None:
    """Before anything was seen, a load is expected to wander by 0.83 of itself in an hour, by 0.12 in 75 s."""
    peak = observed(PeakForecast(tuning, 75.0), [10.0], 15.0)
    assert peak.quantile(0.1) == pytest.approx(10 * (1 + 0.12 * (0.8 + 1.15)), rel=0.05)


@constant
def likeness(tuning: Tuning, model: EngineModel) -> None:
    """What came after loads that stood 0.3 ranks higher counts an eighth: at 5 % it is held for, and at 25 % not."""
    ranks = np.repeat([0.5, 0.8], 50)
    peaks = np.where(ranks > 0.6, 20.0, 10.0)
    same = np.full(100, 10.0)
    near = Near(
        same[:1], same[:1], np.array([0.5]), same[None], same[None], ranks[None], peaks[None], np.ones((1, 100)),
        np.zeros(1), 0.1,
    )  # fmt: skip
    rare, often = near.say(np.array([0.05, 0.25]), tuning.likeness)["alike"][0]
    assert (rare, often) == (20.0, 10.0)


@constant
def sharpness(tuning: Tuning, model: EngineModel) -> None:
    """On a load that goes to and fro *alike* loses 8 % less than *newest*, and has e^(8 x 0.08) times its say."""
    to_and_fro = np.tile([10.0] * 12 + [14.0] * 12, 12)
    peak = observed(PeakForecast(replace(tuning, spacing_seconds=60.0), 720.0), to_and_fro, 60.0)
    share = {voice.name: voice.share for voice in peak.voices}
    assert share["alike"] / share["newest"] == pytest.approx(1.89, rel=0.1)


@constant
def late_when_missed(tuning: Tuning, model: EngineModel) -> None:
    """In the order on-time-first, with 1 % that may be late, the load may exceed what is held in 40 % of the leads."""
    assert first_miss(tuning, on_time_first=True) == pytest.approx(0.4)


@constant
def late_when_missed_fcfs(tuning: Tuning, model: EngineModel) -> None:
    """And where prompts go as they come, in 10 %."""
    assert first_miss(tuning, on_time_first=False) == pytest.approx(0.1)


@constant
def least_miss(tuning: Tuning, model: EngineModel) -> None:
    """However many are late, no more is held than is exceeded in one lead of two thousand."""
    assert miss_after(tuning, 0.1, late_share=1.0, looks=200) == pytest.approx(5e-4)


@constant
def most_miss(tuning: Tuning, model: EngineModel) -> None:
    """However long none was late, what is held is exceeded in no more than four leads of five."""
    assert miss_after(tuning, 0.4, late_share=0.0, looks=2000) == pytest.approx(0.8)


@constant
def gain(tuning: Tuning, model: EngineModel) -> None:
    """A lead in which all are late divides the share by e."""
    assert miss_after(tuning, 0.4, late_share=1.0, looks=5) == pytest.approx(0.4 / e, rel=0.02)


@constant
def least_hold_seconds(tuning: Tuning, model: EngineModel) -> None:
    """Workers that start in 10 s are held for a minute after they were needed, and no longer."""
    quick = replace(model, startup_seconds={"prefill": 10.0, "decode": 10.0})
    lately = Stabilization()
    window = windows_of_starts(quick, replace(POLICY, scale_down_stabilization_seconds=None), tuning).prefill
    for seconds in range(-300, 1, 15):
        lately.note(float(seconds), 3, 600.0)
    assert lately.held(1, 3, 50.0, window) == 3
    assert lately.held(1, 3, 75.0, window) == 1


def test_there_are_no_more_than_fifteen_and_each_has_its_behaviour():
    names = [field.name for field in fields(Tuning)]
    assert sorted(names) == sorted(CHECKS)
    assert len(names) <= 15


@pytest.mark.parametrize("name", CHECKS)
def test_a_constant_does_what_is_said_of_it(name: str, model: EngineModel):
    CHECKS[name](Tuning(), model)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("name", CHECKS)
def test_another_value_does_not(name: str, factor: float, model: EngineModel):
    mutant = replace(Tuning(), **{name: factor * getattr(Tuning(), name)})
    with pytest.raises(AssertionError):
        CHECKS[name](mutant, model)
