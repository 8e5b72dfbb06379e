"""A recorded run, replayed, gives the decisions that were made."""

import gzip
import json
import os
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from dopd.api.names import Role
from dopd.autoscaler import EngineSample, Sample
from dopd.autoscaler.transcript import Recorded, replay
from dopd.perf.online import Counters
from dopd.planning import Ratio
from dopd.planning.policy import Fallback
from dopd_forecasting import Forecaster
from dopd_forecasting.models.naive import LastValue, MovingAverage

from .worlds import POLICY, bins, demand, workers


def recorded(model, looks=40, forecaster=None):
    """A run with all that may happen in one, as lines."""
    lines: list[str] = []
    loop, chance, pair = Recorded(lines.append, 0.1, forecaster), random.Random(2), (2, 2)
    past = bins([demand(30 + 20 * (index % 5)) for index in range(300)], end_seconds=1e9)
    policy = replace(POLICY, ratio=Ratio(Fraction(1, 3), Fraction(3)), fallback=Fallback(600.0, 2, 3))
    for index in range(looks):
        at = 30.0 * index
        past = [*past[1:], *bins([demand(60 + index)], end_seconds=1e9 + 60.0 * (index + 1))]
        load = None if index % 9 == 8 else demand(60 + chance.uniform(-30, 30))
        counted = Counters(1e4 * index, index * model.prefill_seconds(1000) * 15, (0.0,) * 5)
        engines = (EngineSample("a", Role.PREFILL, 900.0, counted),)
        now = replace(model, startup_seconds={"prefill": 60.0 + index, "decode": 90.0})
        loop.observe(Sample(at, load, chance.uniform(0, 0.05), engines=engines), now, policy, past, -1e9)
        for back in (2.0, 0.0):
            queue = chance.uniform(0, 2e5)
            loop.preview(workers(*pair, waiting_tokens=queue), at - back, now, policy)
        pair = loop.decide(workers(*pair, waiting_tokens=queue), at, now, policy).pair
        if index == looks // 2:
            policy = replace(policy, gpu_budget=9)
    return lines


def test_a_replay_gives_the_decisions_of_the_run(model):
    pairs = list(replay(recorded(model)))
    assert [then for then, _ in pairs] == [now for _, now in pairs]
    assert len({(then.prefill, then.decode) for then, _ in pairs}) > 3, "it had something to decide"
    assert {then.reason for then, _ in pairs} > {"Backlog", "TelemetryFailed"}


def test_a_history_is_written_once(model):
    """Weeks of it with each reading would be gigabytes."""
    past = [len(entry["observe"]["past"]) for line in recorded(model) if "observe" in (entry := json.loads(line))]
    assert past == [300] + [1] * 39


def test_a_replay_tells_where_another_decision_is_made(model):
    lines = recorded(model)
    index = next(index for index, line in enumerate(lines) if line.startswith('{"decide"'))
    entry = json.loads(lines[index])
    entry["decide"]["answer"]["prefill"] += 1
    lines[index] = json.dumps(entry)
    different = [then.at_seconds for then, now in replay(lines) if then != now]
    assert different == [entry["decide"]["answer"]["at_seconds"]]


def test_a_forecast_is_made_again(model):
    lines = recorded(model, 3, lambda: Forecaster((LastValue, MovingAverage)))
    assert json.loads(lines[0])["begin"]["forecasts"]
    pairs = list(replay(lines, lambda: Forecaster((LastValue, MovingAverage))))
    assert [then for then, _ in pairs] == [now for _, now in pairs]


@pytest.mark.parametrize("line", ["[]", "{}", '{"sample": 1}', "1", '{"model": 1, "policy": 2}'])
def test_what_is_no_transcript_is_refused_with_its_line(model, line):
    with pytest.raises(ValueError, match="transcript: line 2 begins"):
        list(replay([recorded(model, 1)[0], line]))


RECORDINGS = sorted((Path(__file__).parent / "recordings").glob("*.jsonl.gz"))
"""Of operators on kind, each by `make demo RECORD=FILE`, gzipped."""


def test_there_is_a_run_of_an_operator_with_a_life_of_its_own():
    pairs = [pair for path in RECORDINGS for pair in replay(lines_of(path))]
    assert len({(then.prefill, then.decode) for then, _ in pairs}) > 5
    assert {then.reason for then, _ in pairs} >= {"Steady", "Backlog", "DemandRose", "DemandFell", "TelemetryFailed"}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_what_an_operator_decided_on_a_cluster_is_decided_again(path):
    """After a wanted change run pytest with DOPD_WRITE_GOLDEN=1: then the answers are those of now."""
    pairs = list(replay(lines_of(path)))
    if os.environ.get("DOPD_WRITE_GOLDEN"):
        text = "".join(f"{line}\n" for line in with_answers(lines_of(path), [now for _, now in pairs]))
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    for then, now in pairs:
        assert (now.prefill, now.decode, now.reason) == (then.prefill, then.decode, then.reason), then.at_seconds


def lines_of(path):
    """The lines of a recording."""
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def with_answers(lines, answers):
    """The same transcript with other answers."""
    rest = iter(answers)
    for line in lines:
        entry = json.loads(line)
        if "decide" in entry:
            entry["decide"]["answer"] = vars(next(rest))
        yield json.dumps(entry, separators=(",", ":"))
