"""Whether the decisions are what the cluster did."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from e2e.endurance.cap import Held
from e2e.endurance.plan import Pair
from e2e.soak.agreement import MARGIN_SECONDS, Decision, Disagreement, There, agreement, workers_there

BEGAN = datetime(2026, 11, 24, 10, tzinfo=UTC)
FIRST = Decision(-20.0, (0, 0), (2, 2), "Start")
MORE = Decision(100.0, (2, 2), (3, 2), "DemandRose")
LESS = Decision(300.0, (3, 2), (2, 2), "DemandFell")
LOG = [FIRST, MORE, LESS]
FOLLOWED = [There(-19.0, (2, 2)), There(101.0, (3, 2)), There(330.0, (2, 2))]


def test_workers_are_counted_by_role_after_each_event() -> None:
    def held(seconds: float, pod: str, gpus: int) -> Held:
        return Held(BEGAN + timedelta(seconds=seconds), pod, gpus)

    events = [
        held(-20, "m-prefill-a", 1),
        held(-19, "m-decode-b", 2),
        held(5, "m-decode-c", 3),
        held(9, "m-prefill-a", 2),
        held(9.5, "m-decode-c", 1),
    ]
    found = [(each.at_seconds, each.workers) for each in workers_there(events, "m", BEGAN)]
    assert found == [(-20, (1, 0)), (-19, (1, 1)), (5, (1, 2)), (9, (0, 2)), (9.5, (0, 1))]


def test_a_cluster_that_follows_agrees() -> None:
    found = agreement(LOG, FOLLOWED, [], 500.0)
    assert found.disagreements == []
    assert (found.decisions, found.checked) == (3, 3)
    assert found.checked_seconds == (100 - MARGIN_SECONDS - 40) + (300 - MARGIN_SECONDS - 160) + (500 - 360)


def test_a_worker_too_many_or_too_few_is_told_with_its_time() -> None:
    late = [*FOLLOWED[:2], There(370.0, (2, 2))]
    assert agreement(LOG, late, [], 500.0).disagreements == [Disagreement(360.0, (2, 2), (3, 2))]
    lost = [*FOLLOWED, There(400.0, (2, 1)), There(410.0, (2, 2))]
    assert agreement(LOG, lost, [], 500.0).disagreements == [Disagreement(400.0, (2, 2), (2, 1))]
    assert agreement(LOG, [], [], 500.0).disagreements[0].there == (0, 0)


def test_nothing_is_compared_while_a_fault_lasts() -> None:
    lost = [*FOLLOWED, There(400.0, (2, 1)), There(410.0, (2, 2))]
    found = agreement(LOG, lost, [(399.0, 411.0)], 500.0)
    assert found.disagreements == []
    assert found.checked_seconds == agreement(LOG, lost, [], 500.0).checked_seconds - 12.0
    assert agreement(LOG, lost, [(0.0, 500.0)], 500.0).checked == 0


def test_a_decision_that_did_not_stand_is_not_compared() -> None:
    quick = [FIRST, MORE, Decision(130.0, (3, 2), (2, 2), "DemandFell")]
    assert agreement(quick, [There(-19.0, (2, 2))], [], 150.0).checked == 1


def test_a_hole_in_the_log_is_a_disagreement() -> None:
    found = agreement([FIRST, LESS], [There(-19.0, (2, 2))], [], 500.0)
    assert found.disagreements == [Disagreement(300.0, (2, 2), (3, 2), "a decision is missing")]


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 100)), max_size=6), st.tuples(*[st.integers(1, 4)] * 2))
def test_whatever_is_disturbed_no_second_is_compared_within_it(
    faults: list[tuple[float, float]], workers: Pair
) -> None:
    disturbed = [(begin, begin + length) for begin, length in faults]
    there = [There(-19.0, (2, 2)), *(There(begin + length / 2, workers) for begin, length in sorted(faults))]
    there += [There(begin + length, (2, 2)) for begin, length in faults]
    found = agreement([FIRST], sorted(there, key=lambda each: each.at_seconds), disturbed, 500.0)
    within = [d for d in found.disagreements if any(b < d.at_seconds < e for b, e in disturbed)]
    assert within == []
    assert 0 <= found.checked_seconds <= 460.0
