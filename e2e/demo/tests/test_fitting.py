from pathlib import Path

import pytest

from e2e.demo import fitting
from e2e.demo.story import BUNDLED_TRACE, SPEEDUP, Settings, prepare
from e2e.load import Arrival, Schedule, TraceError, read_trace


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.from_manifests()


def test_the_bundled_trace_moves_both_roles_and_fits_as_it_is(settings: Settings) -> None:
    schedule = read_trace(BUNDLED_TRACE).compressed(SPEEDUP)
    fitting_schedule, share = fitting.fit(schedule, settings.model, settings.policy)
    assert (fitting_schedule, share) == (schedule, 1.0)
    needs = fitting.needs(schedule, settings.model, settings.policy)
    for counts in ([n.prefill for n in needs], [n.decode for n in needs]):
        assert min(counts) < max(counts)
        assert max(counts) > 2


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
        prepare(trace, settings)
