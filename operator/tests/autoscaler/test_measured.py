"""What was measured of engines and load: heeded where it can be true, refused by name where it can not."""

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.autoscaler import Autoscaler, EngineSample, Sample
from dopd.autoscaler.lengths import SlowLengths
from dopd.perf.online import Counters
from dopd.planning import Demand, PerRole, Workers

from .worlds import POLICY, alone, bins, demand, look, workers


@pytest.mark.parametrize("engines", ["slow", "as profiled"])
def test_the_loop_plans_for_the_engines_that_run_and_not_for_their_profile(model, engines):
    pace, autoscaler = 2.0 if engines == "slow" else 1.0, Autoscaler(forecaster=None)
    load = demand(40)
    for index in range(40):
        busy = 10.0 * index * pace * model.prefill_seconds(1000)
        counted = EngineSample("a", Role.PREFILL, 900.0, Counters(10_000.0 * index, busy, (0.0,) * 5))
        autoscaler.observe(Sample(30.0 * index, Demand(40, 1000.0, 1e6, 200.0), engines=[counted]), model, POLICY)
        decision = autoscaler.decide(workers(), 30.0 * index, model, POLICY)
    profiled = alone(model, load).needed[0]
    assert (decision.needed[0] > profiled) == (engines == "slow")


def finite(most):
    return st.floats(0, most) | st.none()


def queues():
    return st.builds(
        Workers,
        serving=st.integers(0, 50),
        starting=st.integers(0, 50),
        draining=st.integers(0, 50),
        waiting_tokens=finite(1e12),
        waiting_requests=finite(1e9),
        waiting_tokens_growth=st.floats(0, 1e9),
        kv_use=finite(1),
    )


loads = st.builds(
    lambda rps, tokens, cv, out, share: Demand(rps, tokens, tokens**2 * (1 + cv**2), out, share),
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 5), st.floats(0, 1e6), st.floats(0, 1),
)  # fmt: skip


def numbers(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


@settings(max_examples=30, deadline=None)
@given(
    looks=st.lists(st.tuples(st.none() | loads, queues(), queues(), finite(1)), min_size=1, max_size=4),
    past=st.lists(loads, max_size=4),
    switch=st.booleans(),
)
def test_whatever_can_be_measured_gives_numbers_that_can_be_used(model, looks, past, switch):
    autoscaler, policy = Autoscaler(forecaster=None), replace(POLICY, role_switching=switch)
    for index, (load, prefill, decode, late) in enumerate(looks):
        decision = look(autoscaler, load, model, policy, index * 30.0, PerRole(prefill, decode), late, bins(past, 0.0))
        told = asdict(decision)
        told.pop("flips")  # negative in one direction
        assert autoscaler.miss is None or 0 < autoscaler.miss < 1
        if told["expected"]:
            assert told["expected"].pop("ttft_seconds") >= 0, "infinite where the queue does not end, never NaN"
        assert all(math.isfinite(number) and number >= 0 for number in numbers(told))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("name", ["waiting_tokens", "waiting_tokens_growth", "waiting_requests", "kv_use"])
def test_what_no_engine_can_report_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"workers: {name} is {value}; expected a finite number"):
        Workers(2, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("late_share", math.nan),
        ("late_share", 1.1),
        ("late_share", -0.1),
        ("window_seconds", 0.0),
        ("window_seconds", math.inf),
        ("at_seconds", math.nan),
    ],
)
def test_what_no_telemetry_can_report_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"sample: {name} is {value}; expected"):
        Sample(**{"at_seconds": 0.0, "demand": demand(1), name: value})


def test_lengths_too_small_to_be_multiplied_are_of_no_request():
    slow = SlowLengths(600.0)
    slow.add(0.0, 45.0, Demand(2e-106, 1e-293, 0.0, 0.0, 0.0))
    assert slow.at(1.0).uncached_share == 1.0
