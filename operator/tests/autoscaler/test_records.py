import numpy as np

from dopd.autoscaler import Tuning
from dopd.autoscaler.minutes import Minutes
from dopd.autoscaler.origins import PERIODS, origins_of
from dopd.autoscaler.records import JUDGED_MISSES, Records, say


def minutes(load: np.ndarray) -> Minutes:
    found = Minutes()
    found.learn((np.arange(len(load)) + 1) * 60.0, np.full(len(load), 60.0), load)
    return found


def test_a_voice_says_nothing_before_it_knows_a_day():
    load = np.random.default_rng(1).uniform(5, 6, 2 * 1440)
    origins = origins_of(minutes(load), 600.0, Tuning())
    rows = np.arange(len(origins))
    said = say(origins, rows, JUDGED_MISSES, Tuning(), 600.0)
    spoken = np.isfinite(said["day"]).all(axis=1)
    assert not spoken[:230].any()
    assert spoken[250:].all()
    assert not np.isfinite(said["week"]).any()


def test_a_voice_without_a_record_gets_no_credit_for_its_silence():
    """Each day is the one before, with jumps at odd times, so that all but the day err; the week was not heard yet."""
    load = np.tile(np.repeat(np.random.default_rng(3).uniform(5, 40, 72), 20), 3)
    origins = origins_of(minutes(load), 600.0, Tuning())
    records = Records(Tuning(), 600.0, tuple(PERIODS))
    records.extend(origins)
    shares = records.shares(float(origins.seconds[-1]), ("newest", "level", "alike", "day", "week"))
    assert shares["week"] < 0.2
    assert max(shares, key=shares.__getitem__) == "day"


def test_judging_in_steps_is_judging_at_once():
    load = np.random.default_rng(2).uniform(1, 9, 3 * 1440)
    at_once, in_steps = (Records(Tuning(), 600.0, tuple(PERIODS)) for _ in range(2))
    at_once.extend(origins_of(minutes(load), 600.0, Tuning()))
    for end in (1000, 1440, 2000, 3 * 1440):
        in_steps.extend(origins_of(minutes(load[:end]), 600.0, Tuning()))
    now, names = 3 * 86_400.0, ("newest", "level", "alike", "day")
    one, other = at_once.shares(now, names), in_steps.shares(now, names)
    assert {name: round(share, 2) for name, share in one.items()} == {
        name: round(share, 2) for name, share in other.items()
    }
