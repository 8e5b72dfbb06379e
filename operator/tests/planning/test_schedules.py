from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec, Scaling
from dopd.api.limits import Bounds, GpuBudget, Schedule
from dopd.api.names import Role
from dopd.planning import PerRole, Policy, RoleBounds
from dopd.planning.schedules import is_active, last_seconds, limits_ahead, limits_at, reserved_ahead

BERLIN = "Europe/Berlin"


def at(text, zone="UTC", fold=0):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def schedule(**fields):
    common = {"name": "office", "timeZone": BERLIN, "start": "0 7 * * 1-5", "prefill": {"min": 4, "max": 9}}
    ends = {} if "duration" in fields else {"end": "0 19 * * 1-5"}
    return Schedule.model_validate(common | ends | fields)


def scaling(*schedules, **fields):
    return Scaling.model_validate(
        {
            "prefill": {"min": 1, "max": 6},
            "decode": {"min": 2, "max": 8},
            "profileRef": {"name": "p"},
            "schedules": list(schedules),
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("when", "active"),
    [
        ("2026-11-24 06:59:59", False),
        ("2026-11-24 07:00:00", True),  # a Tuesday
        ("2026-11-24 18:59:59.9", True),
        ("2026-11-24 19:00:00", False),
        ("2026-11-28 12:00:00", False),  # a Saturday
        ("2026-07-01 07:00:00", True),  # in summer time, by the clock on the wall
    ],
)
def test_a_schedule_holds_from_its_start_up_to_its_end_by_the_clock_of_its_zone(when, active):
    assert is_active(schedule(), at(when, BERLIN)) is active


def test_a_duration_ends_it_across_midnight_and_an_end_does_too():
    for ends in ({"duration": "9h"}, {"end": "0 7 * * *"}):
        night = schedule(start="0 22 * * *", **ends)
        assert is_active(night, at("2026-11-25 03:00", BERLIN))
        assert is_active(night, at("2026-11-25 06:59", BERLIN))
        assert not is_active(night, at("2026-11-25 07:00", BERLIN))
        assert not is_active(night, at("2026-11-24 21:59", BERLIN))


def test_the_hour_that_is_left_out_in_spring_begins_right_after_it():
    early = schedule(start="30 2 * * *", duration="1h")
    assert not is_active(early, at("2026-03-29 01:59:59", BERLIN))
    assert is_active(early, at("2026-03-29 03:00", BERLIN)), "there is no half past two: 01:59 is followed by 03:00"
    assert not is_active(early, at("2026-03-29 04:00", BERLIN))


def test_the_hour_that_comes_twice_in_autumn_begins_once_and_a_duration_is_real_time():
    early = schedule(start="45 2 * * *", duration="1h")
    assert not is_active(early, at("2026-10-25 02:30", BERLIN))
    assert is_active(early, at("2026-10-25 02:45", BERLIN))
    assert is_active(early, at("2026-10-25 02:30", BERLIN, fold=1)), "45 minutes later, though the clock shows less"
    assert not is_active(early, at("2026-10-25 02:45", BERLIN, fold=1)), "it does not begin a second time"


def test_a_night_across_the_clock_change_has_an_hour_less_or_more():
    night = schedule(start="0 22 * * *", end="0 6 * * *")

    def hours_from(day):
        noon = at(f"{day} 12:00", BERLIN)
        return sum(is_active(night, noon + 60 * minute) for minute in range(24 * 60)) / 60

    assert [hours_from(day) for day in ("2026-03-27", "2026-03-28", "2026-10-24")] == [8, 7, 9]


@given(
    st.sampled_from(["0 7 * * 1-5", "30 2 * * *", "*/20 * * * *", "0 0 29 2 *", "15 1,13 1-7 * MON", "59 23 L * *"]),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    st.integers(int(at("2024-01-01")), int(at("2027-01-01"))),
)
def test_the_last_start_is_never_ahead_and_never_moves_backward(cron, zone, now):
    moments = [last_seconds(cron, ZoneInfo(zone), now + 600.0 * step) for step in range(6)]
    assert all(moment <= now + 600.0 * step for step, moment in enumerate(moments))
    assert all(before <= after for before, after in pairwise(moments))


def test_outside_of_every_schedule_the_limits_are_those_of_scaling():
    limits = limits_at(scaling(schedule(), gpuBudget={"min": 3, "max": 12}), at("2026-11-28 12:00"))
    assert (limits.prefill, limits.decode) == (Bounds(min=1, max=6), Bounds(min=2, max=8))
    assert limits.gpu_budget == GpuBudget(min=3, max=12)
    assert limits.schedules == ()


def test_an_active_schedule_replaces_what_it_names_and_nothing_else():
    limits = limits_at(scaling(schedule(), gpuBudget={"max": 12}), at("2026-11-24 12:00"))
    assert limits.prefill == Bounds(min=4, max=9), "above the max of scaling: the schedule says so"
    assert limits.decode == Bounds(min=2, max=8)
    assert limits.gpu_budget == GpuBudget(max=12)
    assert limits.schedules == ("office",)


def test_of_overlapping_schedules_the_greatest_min_and_the_greatest_max_count():
    batch = schedule(name="batch", prefill={"min": 2, "max": 20}, gpuBudget={"min": 5, "max": 9})
    sale = schedule(name="sale", prefill={"min": 6, "max": 7}, gpuBudget={"max": 30})
    for order in ((batch, sale), (sale, batch)):
        limits = limits_at(scaling(*order), at("2026-11-24 12:00"))
        assert limits.prefill == Bounds(min=6, max=20)
        assert limits.gpu_budget == GpuBudget(min=5, max=30)


def test_spare_workers_are_held_at_all_times_and_more_where_a_schedule_says_so():
    bounds = {"prefill": {"min": 1, "max": 6, "spare": 1}}
    office = schedule(prefill={"min": 4, "max": 9}), schedule(name="sale", prefill={"min": 4, "max": 9, "spare": 3})
    assert limits_at(scaling(office[0], **bounds), at("2026-11-24 12:00")).prefill == Bounds(min=4, max=9, spare=1)
    assert limits_at(scaling(*office, **bounds), at("2026-11-24 12:00")).prefill == Bounds(min=4, max=9, spare=3)
    assert limits_at(scaling(*office, **bounds), at("2026-11-28 12:00")).prefill == Bounds(min=1, max=6, spare=1)
    leads = {role: 3600.0 for role in Role}
    soon = limits_ahead(scaling(office[0], **bounds), at("2026-11-24 05:30"), leads)
    assert soon.prefill == Bounds(min=4, max=6, spare=1)


def test_the_policy_of_a_resource_is_that_of_the_time():
    spec = DisaggregatedInferenceSpec.model_validate(
        {
            "model": "m",
            "engine": {"image": "i"},
            "prefill": {"gpus": 2},
            "decode": {"gpus": 1},
            "router": {"image": "r"},
            "scaling": scaling(schedule(gpuBudget={"min": 24, "max": 24}), gpuBudget={"min": 6, "max": 16}).model_dump(
                by_alias=True, exclude_none=True
            ),
        }
    )
    weekend = Policy.from_spec(spec, at("2026-11-28 12:00"))
    assert (weekend.prefill, weekend.gpu_budget_min, weekend.gpu_budget) == (RoleBounds(1, 6, 2), 6, 16)
    weekday = Policy.from_spec(spec, at("2026-11-24 12:00"))
    assert (weekday.prefill, weekday.gpu_budget_min, weekday.gpu_budget) == (RoleBounds(4, 9, 2), 24, 24)
    assert weekday.schedules == ("office",)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timeZone", "Europe/Berln", "Europe/Berln is no time zone that is known here; expected an IANA name"),
        ("timeZone", "Europe", "Europe is no time zone"),
        ("start", "0 0 31 2 *", r"0 0 31 2 \* never comes"),
        ("end", "0 19-7 * * *", r"0 19-7 \* \* \* never comes .*expected five cron fields"),
    ],
)
def test_what_only_the_calendar_knows_to_be_wrong_is_refused_by_field_value_and_cure(field, value, message):
    with pytest.raises(ValidationError, match=message) as refused:
        schedule(**{field: value})
    assert refused.value.errors()[0]["loc"] == (field,)


def test_the_time_is_a_point_on_the_time_line_and_not_of_the_machine():
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
    assert is_active(schedule(timeZone="UTC"), noon)
    assert not is_active(schedule(timeZone="Asia/Tokyo"), noon), "nine in the evening there"


LEADS = {Role.PREFILL: 300.0, Role.DECODE: 600.0}


def minima(found):
    return found.prefill.min, found.decode.min


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("06:49", (1, 2)),
        ("06:50", (1, 5)),  # decode workers take ten minutes
        ("06:55", (4, 5)),
        ("07:00", (4, 5)),
        ("18:59", (4, 5)),
        ("19:00", (1, 2)),
    ],
)
def test_a_minimum_is_heeded_by_each_roles_lead_before_it_begins(when, expected):
    both = scaling(schedule(decode={"min": 5, "max": 8}))
    assert minima(limits_ahead(both, at(f"2026-11-24 {when}", BERLIN), LEADS)) == expected


def test_a_minimum_that_comes_back_when_a_schedule_ends_is_heeded_too():
    quiet = schedule(start="0 22 * * *", duration="8h", prefill={"min": 1, "max": 2})
    found = limits_ahead(scaling(quiet, prefill={"min": 3, "max": 6}), at("2026-11-25 05:58", BERLIN), LEADS)
    assert found.prefill == Bounds(min=3, max=3), "above the maximum of the night, as far as the day needs"
    ends = schedule(start="0 22 * * *", end="0 6 * * *", prefill={"min": 1, "max": 2})
    assert limits_ahead(scaling(ends, prefill={"min": 3, "max": 6}), at("2026-11-25 05:58", BERLIN), LEADS) == found


def test_a_schedule_within_the_lead_counts_even_if_it_is_over_by_then():
    short = schedule(start="2 7 * * *", duration="1m")
    assert limits_ahead(scaling(short), at("2026-11-24 06:59", BERLIN), LEADS).prefill.min == 4


def test_a_budget_of_later_is_not_spent_now():
    more = schedule(gpuBudget={"min": 10, "max": 16})
    found = limits_ahead(scaling(more, gpuBudget={"max": 8}), at("2026-11-24 06:58", BERLIN), LEADS)
    assert found.gpu_budget == GpuBudget(min=8, max=8)
    assert found.schedules == ("office",)
    free = limits_ahead(scaling(more), at("2026-11-24 06:58", BERLIN), LEADS)
    assert free.gpu_budget
    assert free.gpu_budget.min == 10


def test_a_policy_looks_ahead_by_the_lead_and_an_interval():
    spec = DisaggregatedInferenceSpec.model_validate(
        {
            "model": "m",
            "engine": {"image": "sglang"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg"},
            "scaling": scaling(schedule()).model_dump(by_alias=True, exclude_none=True),
        }
    )
    assert Policy.from_spec(spec, at("2026-11-24 06:54:46", BERLIN), LEADS).prefill.min == 4
    assert Policy.from_spec(spec, at("2026-11-24 06:54:44", BERLIN), LEADS).prefill.min == 1
    assert Policy.from_spec(spec, at("2026-11-24 06:59", BERLIN)).prefill.min == 1


@given(st.integers(0, 7 * 1440), st.integers(0, 3600))
def test_limits_ahead_are_the_greatest_minima_of_the_lead(minute, lead):
    night = schedule(name="night", start="30 22 * * *", duration="7h", prefill={"min": 2, "max": 9})
    both, now = scaling(schedule(), night), at("2026-03-27 00:00") + 60 * minute  # summer time begins within
    found = limits_ahead(both, now, dict.fromkeys(Role, float(lead)))
    looked = [limits_at(both, now + second).prefill.min for second in range(0, lead + 1, 60)]
    assert found.prefill.min == max(looked)


@pytest.mark.parametrize(
    ("when", "lead_seconds", "reserved"),
    [
        ("2026-11-24 12:00", 0.0, True),
        ("2026-11-24 06:59", 30.0, False),
        ("2026-11-24 06:59", 60.0, True),
        ("2026-11-24 19:00", 600.0, False),
        ("2026-11-27 20:00", 600.0, False),
    ],
)
def test_a_schedule_reserves_workers_while_it_holds_and_a_lead_before(when, lead_seconds, reserved):
    assert reserved_ahead(scaling(schedule()), at(when, BERLIN), lead_seconds) is reserved


def test_a_schedule_that_only_lowers_the_budget_reserves_nothing():
    cap = schedule(prefill=None, gpuBudget={"max": 4})
    floor = schedule(prefill=None, gpuBudget={"min": 2, "max": 4})
    noon = at("2026-11-24 12:00", BERLIN)
    assert not reserved_ahead(scaling(cap), noon, 0.0)
    assert reserved_ahead(scaling(floor), noon, 0.0)


def test_a_policy_takes_idle_and_what_a_schedule_reserves_within_the_lead():
    spec = DisaggregatedInferenceSpec.model_validate(
        {
            "model": "m",
            "engine": {"image": "i"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg", "replicas": 1},
            "scaling": scaling(schedule(), idle={"after": "30m"}).model_dump(by_alias=True, exclude_none=True),
        }
    )
    before = at("2026-11-24 06:58", BERLIN)
    assert Policy.from_spec(spec, before, PerRole(10.0, 20.0)).idle_after_seconds == 1800.0
    assert not Policy.from_spec(spec, before, PerRole(10.0, 20.0)).reserved
    assert Policy.from_spec(spec, before, PerRole(10.0, 110.0)).reserved, "an interval is added"
