"""Sleep and wake: what it takes to fall asleep, what wakes, and that the two never chase each other."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.autoscaler import Autoscaler, PastLoad, Reason, Sample
from dopd.autoscaler.idle import Facts, Idle, Silence, Wake, grown, silence
from dopd.autoscaler.transcript import Recorded, replay
from dopd.planning import PerRole, Workers

from .worlds import POLICY, bins, demand, workers

AFTER = 600.0
ASLEEP = replace(POLICY, idle_after_seconds=AFTER)
SILENT = {"gateway": 7.0}


def facts(now_seconds=0.0, **changes):
    return Facts(
        **{"now_seconds": now_seconds, "after_seconds": AFTER, "counted": SILENT, "arriving": False, **changes}
    )


def silent_until(seconds, **changes):
    """The state after looks in which nothing came, each minute."""
    state = Idle()
    for minute in range(int(seconds // 60) + 1):
        state = state.look(facts(60.0 * minute, **changes))
    return state


def test_it_sleeps_once_no_request_came_for_as_long_as_the_field_says():
    assert not silent_until(AFTER - 60).asleep
    assert silent_until(AFTER).asleep


def test_without_the_field_it_never_sleeps():
    assert not silent_until(100 * AFTER, after_seconds=None).asleep


@pytest.mark.parametrize(
    "awake",
    [
        {"arriving": True},
        {"working": True},
        {"foreseen": True},
        {"reserved": True},
        {"arriving": None},
        {"counted": None},
        {"counted": {}},
        {"counted": {"gateway": 7.0, "other": None}},
    ],
    ids=[
        "load",
        "work in the engines",
        "foreseen",
        "a schedule",
        "load not known",
        "nobody asked",
        "no gateway",
        "one that does not tell",
    ],
)
def test_what_keeps_it_awake(awake):
    assert not silent_until(2 * AFTER, **awake).asleep


@pytest.mark.parametrize(
    ("news", "cause"),
    [
        ({"counted": {"gateway": 8.0}}, Wake.REQUEST),
        ({"counted": {"gateway": 7.0, "new": 1.0}}, Wake.REQUEST),
        ({"counted": {"gateway": 2.0}}, Wake.REQUEST),
        ({"counted": {"gateway": 8.0, "other": None}}, Wake.REQUEST),
        ({"arriving": True, "counted": None}, Wake.REQUEST),
        ({"reserved": True}, Wake.SCHEDULE),
        ({"foreseen": True}, Wake.FORESEEN),
        ({"after_seconds": None}, Wake.FIELD),
    ],
)
def test_what_wakes_it(news, cause):
    woken = silent_until(AFTER).look(facts(AFTER + 2, **news))
    assert (woken.asleep, woken.woken_by) == (False, cause)
    assert woken.look(facts(AFTER + 4)).woken_by is None, "told once"


@pytest.mark.parametrize(
    "news", [{"counted": {"gateway": 0.0}}, {"counted": {}}, {"counted": None}, {"arriving": None}]
)
def test_what_does_not_wake_it(news):
    """A gateway that began anew, one that left, one that does not tell, a Prometheus that is away."""
    assert silent_until(AFTER).look(facts(AFTER + 2, **news)).asleep


LOOKS = st.lists(
    st.fixed_dictionaries(
        {
            "pause": st.floats(0.5, 900.0),
            "arriving": st.sampled_from([None, False, False, False, True]),
            "requests": st.sampled_from([0, 0, 0, 1]),
            "told": st.sampled_from([True, True, True, False]),
            "working": st.sampled_from([False, False, False, True]),
            "foreseen": st.sampled_from([False, False, True]),
            "reserved": st.sampled_from([False, False, False, True]),
        }
    ),
    max_size=80,
)


@given(LOOKS)
def test_a_wake_holds_as_long_as_it_takes_to_fall_asleep_whatever_comes(looks):
    state, now, count, changes = Idle(), 0.0, 0.0, [(0.0, False)]
    for look in looks:
        now, count = now + look["pause"], count + look["requests"]
        told = {"counted": {"gateway": count} if look["told"] else None}
        flags = {name: look[name] for name in ("arriving", "working", "foreseen", "reserved")}
        state = state.look(facts(now, **told, **flags))
        if state.asleep != changes[-1][1]:
            changes.append((now, state.asleep))
        assert not (state.asleep and (look["arriving"] or look["working"])), "never asleep beside work"
        assert state.woken_by is None or not state.asleep
    for (woke, _), (slept, asleep) in pairwise(changes):
        assert not asleep or slept - woke >= AFTER


@given(LOOKS)
def test_a_request_that_a_gateway_counted_while_asleep_always_wakes(looks):
    state, count = silent_until(AFTER), 7.0
    for number, look in enumerate(looks):
        count += look["requests"]
        new = state.look(facts(AFTER + number, counted={"gateway": count} if look["told"] else None))
        assert not (state.asleep and new.asleep and grown(state.counted, {"gateway": count}) and look["told"])
        state = new


def test_a_gateway_that_was_silent_for_a_while_is_compared_with_what_it_told_before():
    silent = silent_until(AFTER).look(facts(AFTER + 2, counted={"gateway": None}))
    assert silent.look(facts(AFTER + 4, counted={"gateway": 7.0})).asleep
    assert not silent.look(facts(AFTER + 4, counted={"gateway": 8.0})).asleep


def test_counts_of_a_first_look_are_old():
    assert not grown({"gateway": None}, {"gateway": 5.0})
    assert not grown(None, {"gateway": 5.0})
    assert not grown({"gateway": 5.0}, None)
    assert not grown({"gateway": 5.0}, {"gateway": 5.0})
    assert grown({"gateway": 5.0}, {"gateway": 6.0})


def test_the_history_tells_since_when_it_is_quiet():
    past = bins([demand(3), demand(0), demand(0)], 1000.0)
    assert silence(past, 1010.0, 0.0) == Silence(880.0, after_request=True)
    assert silence(past, 1510.0, 500.0) == Silence(1380.0, after_request=True)
    assert silence(past, 5000.0, 0.0) is None, "what came since is not known"
    assert silence([], 0.0, 0.0) is None
    assert silence(bins([demand(0), demand(2)], 1000.0), 1010.0, 0.0) == Silence(1000.0, after_request=True)
    gap = [*bins([demand(1)], 100.0), *bins([demand(0)], 1000.0)]
    assert silence(gap, 1000.0, 0.0) == Silence(940.0, after_request=False)


def seen(seconds_ago, after_request=True):
    return facts(10_000.0, silence=Silence(10_000.0 - seconds_ago, after_request))


def test_a_restarted_operator_counts_the_silence_that_the_history_shows():
    assert Idle().look(seen(2 * AFTER)).look(facts(10_001.0)).asleep
    assert not Idle().look(seen(AFTER / 2)).look(facts(10_001.0)).asleep


def test_a_request_that_came_while_no_operator_ran_wakes():
    woken = Idle(asleep=True).look(seen(60))
    assert (woken.asleep, woken.woken_by) == (False, Wake.REQUEST)
    assert Idle(asleep=True).look(seen(2 * AFTER)).asleep
    assert Idle(asleep=True).look(seen(60, after_request=False)).asleep, "a history that began anew"


# --- the loop ------------------------------------------------------------------------------------------------------


def step(loop, model, now, rps, count, policy=ASLEEP, fleet=(1, 1), past=()):
    """One reading and one decision."""
    loop.observe(Sample(now, None if rps is None else demand(rps)), model, policy, past)
    pair = PerRole(Workers(fleet[0], kv_use=0.0), Workers(fleet[1], kv_use=0.0))
    return loop.decide(pair, now, model, policy, {"gateway": float(count)})


def asleep(model, policy=ASLEEP, loop=None, load=5.0):
    """A loop that has fallen asleep, and when."""
    loop = loop or Autoscaler(forecaster=None)
    step(loop, model, 0.0, load, 5, policy)
    for now in range(60, 20_000, 60):
        if not sum(step(loop, model, float(now), 0.0, 5, policy).pair):
            return loop, float(now)
    raise AssertionError("never asleep")


def test_both_roles_go_to_zero_together_and_come_back_together(model):
    loop, slept = asleep(model)
    assert loop.last.reason is Reason.IDLE
    assert slept >= AFTER
    woken = step(loop, model, slept + 2, None, 6, fleet=(0, 0))
    assert (woken.pair, woken.reason) == ((1, 1), Reason.FIRST_REQUEST)
    after = step(loop, model, slept + 4, 0.0, 6, fleet=(1, 1))
    assert after.pair == (1, 1), "held"


def test_bounds_ratio_and_step_hold_again_at_once_after_a_wake(model):
    policy = replace(ASLEEP, prefill=replace(POLICY.prefill, min=2), max_step=1, gpu_budget=3)
    loop, slept = asleep(model, policy, load=0.1)
    assert step(loop, model, slept + 2, None, 6, policy, fleet=(0, 0)).pair == (2, 1)


def test_a_load_that_is_not_known_leaves_a_sleeper_asleep(model):
    loop, slept = asleep(model)
    assert step(loop, model, slept + 30, None, 5, fleet=(0, 0)).pair == (0, 0)


def test_a_preview_with_one_more_request_asks_for_more_and_changes_nothing(model):
    loop, slept = asleep(model)
    none = PerRole(Workers(0), Workers(0))
    assert loop.preview(none, slept + 1, model, ASLEEP, {"gateway": 6.0}).pair == (1, 1)
    assert loop.preview(none, slept + 1, model, ASLEEP, {"gateway": 5.0}).pair == (0, 0)


def test_what_a_loop_without_the_field_decides_does_not_depend_on_counts(model):
    one, other = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    for now in range(0, 1200, 60):
        fleet = workers(1, 1)
        for loop, counted in ((one, None), (other, {"gateway": float(now)})):
            loop.observe(Sample(float(now), demand(0)), model, POLICY)
            decision = loop.decide(fleet, float(now), model, POLICY, counted)
        assert one.last == other.last
    assert decision.pair == (1, 1)


DAY = 86_400.0


def a_night_and_a_morning(second):
    """Requests a second: nothing from 22 to 7 o'clock."""
    return 8.0 if 7 * 3600 <= second % DAY < 22 * 3600 else 0.0


def the_past(days):
    return [PastLoad(60.0 * (n + 1), 60.0, demand(a_night_and_a_morning(60.0 * n))) for n in range(int(days * 1440))]


def sleeper_at(model, hour):
    """A loop that a restarted operator finds asleep at an hour of the fourth day, with five minutes of lead."""
    begin = 3 * DAY + 3600.0 * hour
    loop, past = Autoscaler(forecaster=None, asleep=True), the_past(begin / DAY)
    slow = replace(model, startup_seconds={"prefill": 300.0, "decode": 300.0})
    for number in range(60):
        now = begin + 30 * number
        decision = step(loop, slow, now, a_night_and_a_morning(now), 5, fleet=(0, 0), past=past)
        if decision.reason is not Reason.IDLE:
            return now % DAY, decision
    return None


def test_the_forecast_wakes_it_ahead_of_a_morning_that_came_before(model):
    woken = sleeper_at(model, 6.6)
    assert woken is not None
    at, decision = woken
    assert decision.reason is Reason.FORESEEN
    assert at <= 7 * 3600 - 300, "workers that start now serve the first request"


def test_the_forecast_lets_it_sleep_through_the_night(model):
    assert sleeper_at(model, 3.0) is None


def test_a_transcript_tells_counts_and_sleep(model):
    lines: list[str] = []
    loop = Recorded(lines.append, forecaster=None)
    asleep(model, loop=loop)
    step(loop, model, 20_000.0, None, 6, fleet=(0, 0))
    answers = list(replay(lines))
    assert all(then == now for then, now in answers)
    assert [then.prefill for then, _ in answers[-2:]] == [0, 1]
