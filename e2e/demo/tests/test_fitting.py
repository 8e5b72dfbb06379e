from pathlib import Path

import pytest

from e2e.demo import fitting
from e2e.demo.scenario import FIRST_LIGHT, SCENARIOS, Scenario, Settings, prepare
from e2e.load import Arrival, Schedule, TraceError, read_trace


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.of(FIRST_LIGHT)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_a_bundled_trace_moves_both_roles_and_fits_as_it_is(scenario: Scenario) -> None:
    prepared = prepare(scenario, Settings.of(scenario), scenario.trace)
    trace = read_trace(scenario.trace).window(0.0, scenario.trace_seconds).compressed(scenario.speedup)
    assert (prepared.share, prepared.left_out) == (1.0, 0)
    played = prepared.schedule.window(scenario.lead_in_seconds)
    assert [a.at_seconds for a in played] == pytest.approx([a.at_seconds for a in trace])
    for counts in ([n.prefill for n in prepared.needs], [n.decode for n in prepared.needs]):
        assert min(counts) < max(counts)
        assert max(counts) > 2


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_engines_are_as_much_faster_as_the_trace_is(scenario: Scenario) -> None:
    profile = (scenario.manifests / "profile.yaml").read_text()
    factor = next(float(line.split()[1]) for line in profile.splitlines() if line.strip().startswith("correction:"))
    assert factor * scenario.speedup == pytest.approx(1.0, rel=1e-4)


def test_a_denser_trace_is_thinned_until_the_workers_carry_it(settings: Settings) -> None:
    dense = Schedule.steady(requests_per_second=200, seconds=60, input_tokens=1000, output_tokens=200)
    thinned, share = fitting.fit(dense, settings.model, settings.policy)
    assert len(thinned) == pytest.approx(share * len(dense), rel=0.1)
    for need in fitting.needs(thinned, settings.model, settings.policy):
        assert need.prefill <= settings.policy.prefill.max
        assert need.decode <= settings.policy.decode.max
        assert need.demand.requests_per_second <= fitting.MOST_REQUESTS_PER_SECOND


def test_what_no_engine_holds_is_left_out() -> None:
    schedule = Schedule((Arrival(0, 100, 10), Arrival(1, fitting.LONGEST_TOKENS, 1)), speedup=2.0)
    assert fitting.without_longest(schedule) == Schedule((Arrival(0, 100, 10),), speedup=2.0)


def test_a_trace_with_nothing_to_play_is_refused(settings: Settings, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(f"arrival_s,input_tokens,output_tokens\n0,{fitting.LONGEST_TOKENS},1\n")
    with pytest.raises(TraceError, match=r"trace\.csv"):
        prepare(FIRST_LIGHT, settings, trace)
