import json
import os

import pytest

from dopd_scheduling import ServiceTimes
from dopd_sglang.prefill_order.settings import Scheduling, SettingsFile, parse

WHOLE = {
    "version": 1,
    "policy": "fcfs",
    "ttftSeconds": 1.4,
    "lateShare": 0.25,
    "latePrompts": "Refuse",
    "predictedTokens": 700,
    "mostUnfinished": 2,
    "times": {
        "passPoints": [{"tokens": 1, "seconds": 0.02}, {"tokens": 2000, "seconds": 0.1}],
        "attentionSeconds": 1e-9,
        "transferSeconds": 0.03,
    },
}


def test_all_fields_are_read():
    times = ServiceTimes(((1, 0.02), (2000, 0.1)), 1e-9, 0.03)
    assert parse(json.dumps(WHOLE)) == Scheduling("fcfs", 1.4, 0.25, True, 700.0, 2, times)


def test_what_is_absent_has_its_default():
    assert parse('{"version": 1}') == Scheduling()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": 2}, "version 2"),
        ({"policy": "lifo"}, "policy 'lifo'"),
        ({"ttftSeconds": 0}, "ttftSeconds 0"),
        ({"ttftSeconds": 10**400}, "ttftSeconds 10"),
        ({"ttftSeconds": float("nan")}, "ttftSeconds nan"),
        ({"lateShare": 1.5}, "lateShare 1.5"),
        ({"lateShare": None}, "lateShare None"),
        ({"latePrompts": "Drop"}, "latePrompts 'Drop'"),
        ({"mostUnfinished": 0}, "mostUnfinished 0"),
        ({"predictedTokens": True}, "predictedTokens True"),
        ({"times": {"tokenSeconds": 0.1}}, "passPoints None"),
        ({"times": {"passPoints": []}}, r"passPoints \[\]"),
        ({"times": {"passPoints": [{"tokens": 0, "seconds": 1}]}}, "tokens 0: expected a number above 0"),
        ({"times": {"passPoints": [{"tokens": 9, "seconds": 1}, {"tokens": 9, "seconds": 1}]}}, "tokens 9"),
        ({"times": {"passPoints": [{"tokens": 8, "seconds": 1}, {"tokens": 9, "seconds": 0.9}]}}, "seconds 0.9"),
        ({"times": {"passPoints": [{"tokens": 8, "seconds": 0}]}}, "seconds are 0"),
        ({"times": 3}, "times 3"),
    ],
)
def test_a_bad_field_is_named_with_its_value(change, named):
    with pytest.raises(ValueError, match=named):
        parse(json.dumps(WHOLE | change))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match=r"expected an object|not JSON"):
        parse(text)


@pytest.fixture
def file(tmp_path):
    return SettingsFile(str(tmp_path / "scheduling.json"))


def write(file, **fields):
    new = file.path.with_suffix(".new")
    new.write_text(json.dumps({"version": 1, **fields}))
    os.replace(new, file.path)


def test_without_a_file_the_defaults_hold(file):
    assert not file.refresh(0.0)
    assert file.current == Scheduling()
    assert file.error is None


def test_a_change_is_seen_a_second_later_and_not_before(file):
    write(file, ttftSeconds=1)
    assert file.refresh(10.0)
    write(file, ttftSeconds=3)
    assert not file.refresh(10.9)
    assert file.refresh(11.0)
    assert file.current.ttft_seconds == 3


def test_an_unchanged_file_is_not_read_again(file):
    write(file, ttftSeconds=1)
    assert file.refresh(0.0)
    assert not file.refresh(1.0)


def test_a_bad_file_leaves_the_last_good_settings(file):
    write(file, ttftSeconds=1)
    file.refresh(0.0)
    write(file, ttftSeconds=-1)
    assert file.refresh(1.0)
    assert file.current.ttft_seconds == 1
    assert "ttftSeconds -1" in file.error
    write(file, ttftSeconds=2)
    assert file.refresh(2.0)
    assert file.error is None


def test_a_file_that_goes_away_leaves_the_last_good_settings(file):
    write(file, ttftSeconds=1)
    file.refresh(0.0)
    file.path.unlink()
    assert not file.refresh(1.0)
    assert file.current.ttft_seconds == 1


def test_the_path_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DOPD_SCHEDULING_FILE", str(tmp_path / "x.json"))
    assert SettingsFile().path == tmp_path / "x.json"


@pytest.mark.parametrize(
    ("batch", "message"),
    [(3, "batch 3: expected an object"), ({"maxWaitSeconds": 0}, "maxWaitSeconds 0: expected a number above 0")],
)
def test_a_bad_batch_is_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        parse(json.dumps({"version": 1, "batch": batch}))
