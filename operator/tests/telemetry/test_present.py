"""Whatever numbers Prometheus answers, a reading is a load that can be planned for, or a named failure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.conditions import ConditionReason
from dopd.reconcile.reading import demand_at
from dopd.telemetry import queries
from dopd.telemetry.present import Asked, Gateway, LoadNow, load_now
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.signals import Found
from dopd.telemetry.windows import Timing, Windows

NOW = 1_800_000_000.0
ASKED = Asked("http://prometheus", ("ns", "m"), Windows(45.0, 22.5, 60.0))
SIGNALS = (*queries.PRESENT, *queries.LENGTHS, *queries.LATENCIES)
BUCKETS = (queries.PROMPT_LENGTHS, queries.ANSWER_LENGTHS, queries.TTFT, queries.ITL, queries.TOKEN_ITL)

NUMBERS = st.one_of(
    st.floats(0, 1e4), st.floats(), st.sampled_from([0.0, 1e-300, 1e300, -1.0, float("nan"), float("inf")])
)
LABELS = st.sampled_from([{}, {"pod": "g"}, {"instance": "10.0.0.1:29000"}, {"instance": "[::1]:1"}])


def scalar() -> st.SearchStrategy[list[dict[str, Any]]]:
    series = st.builds(lambda labels, value: {"metric": labels, "value": (NOW, value)}, LABELS, NUMBERS)
    return st.lists(series, max_size=2)


def histogram() -> st.SearchStrategy[list[dict[str, Any]]]:
    bound = st.sampled_from(["1", "1.0", "0.05", "2", "1000", "+Inf", "-1", "NaN", "", "x", "1e308"])
    series = st.builds(lambda le, value: {"metric": {"le": le}, "value": (NOW, value)}, bound, NUMBERS)
    return st.lists(series, max_size=6)


WORLDS = st.fixed_dictionaries({s: histogram() if s in BUCKETS else scalar() for s in SIGNALS})


def present(world: dict[queries.Signal, list[dict[str, Any]]], gateways: list[Gateway]) -> LoadNow:
    found = {signal: Found(signal, series) for signal, series in world.items()}
    return load_now(ASKED, found, Timing(), gateways, NOW, ttft_seconds=1.0, itl_seconds=0.05)


@given(WORLDS, st.sampled_from([[], [Gateway("g", "10.0.0.1", NOW - 1e4)], [Gateway("g", "::1", NOW + 60)]]))
def test_any_answer_is_a_load_or_a_named_failure(world: Any, gateways: list[Gateway]):
    try:
        found = present(world, gateways)
    except QueryFailed:
        return
    demand_at(found.requests_per_second, found.lengths)
    assert found.late_share is None or 0 <= found.late_share <= 1


KNOWN: dict[queries.Signal, Any] = {
    signal: [{"metric": {"le": le}, "value": (NOW, 10.0)} for le in ("1000", "+Inf")]
    if signal in BUCKETS
    else [{"metric": {}, "value": (NOW, 1.0 if signal in (queries.GATEWAYS, queries.COPIES_OF_GATEWAYS) else 10.0)}]
    for signal in SIGNALS
} | {queries.FIRST_COUNTS: []}


def test_what_is_there_is_read():
    assert present(KNOWN, []).lengths


@pytest.mark.parametrize("signal", [s for s in queries.LENGTHS if s not in BUCKETS], ids=lambda s: s.name)
def test_a_length_that_is_no_number_is_named(signal: queries.Signal):
    with pytest.raises(QueryFailed, match=signal.name) as failure:
        present({**KNOWN, signal: [{"metric": {}, "value": (NOW, float("nan"))}]}, [])
    assert failure.value.reason is ConditionReason.NOT_A_NUMBER
