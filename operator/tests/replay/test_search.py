"""Searches over knobs find what they say, and runs that can not reach the objective end early."""

from dataclasses import replace

import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.policies import catalogue
from dopd.replay.policies.base import Setting
from dopd.replay.runner import NO_LIMITS, Limits, run
from dopd.replay.search import Try, attempt, best, explore, highest, highest_pair, least
from dopd.replay.seeds import Seed, choose, mean
from dopd.replay.workers import Settings

GOAL = 0.99


@pytest.fixture
def result(model, poisson):
    done = run(poisson(5, 50), model, Objectives(1.5, 0.05, GOAL), (1, 1), Settings({r: 60.0 for r in Role}))
    return lambda attainment, hours=1.0, stopped=None: replace(
        done, attainment=attainment, gpu_hours=hours, stopped_seconds=stopped
    )


def drive(search, attained, result):
    """Run a search on a table of attainments by label; returns what was run, and what the search returned."""
    tried, answer = [], None
    while True:
        try:
            one = next(search) if answer is None else search.send(answer)
        except StopIteration as end:
            return tried, end.value
        tried.append(one.label)
        answer = result(attained(one.label))


def named(*knobs: int) -> Try:
    return Try(",".join(map(str, knobs)), (1, 1), None)


@pytest.mark.parametrize("limit", range(-1, 8))
def test_the_highest_index_that_reaches_the_objective(result, limit):
    search = highest(lambda k: attempt(named(k), GOAL), -1, 8)
    tried, found = drive(search, lambda label: float(int(label) <= limit), result)
    assert found == limit
    assert len(tried) <= 4


@pytest.mark.parametrize("needed", [1, 2, 9, 10, 11, 30, 399, 401])
def test_the_least_number_from_a_guess_on(result, needed):
    search = least(lambda n: attempt(named(n), GOAL), 10, 1, 400)
    tried, found = drive(search, lambda label: float(int(label) >= needed), result)
    assert found == (needed if needed <= 400 else None)
    assert len(set(tried)) == len(tried)


def test_a_pair_is_raised_together_then_each_alone(result):
    tried, found = drive(
        highest_pair(named, 10, GOAL), lambda label: float(int(label[0]) <= 4 and int(label[2]) <= 7), result
    )
    assert found == (4, 7)
    assert len(tried) < 12
    assert drive(highest_pair(named, 10, GOAL), lambda label: 0.0, result)[1] is None


def test_the_best_run_is_the_cheapest_that_reaches_it_and_never_one_that_was_given_up(result):
    runs = [
        (named(1), result(0.995, 5.0)),
        (named(2), result(0.991, 3.0)),
        (named(3), result(0.999, 1.0, stopped=10.0)),
        (named(4), result(0.95, 1.0)),
    ]
    assert best(runs, GOAL)[0].label == "2"
    assert best(runs[2:], GOAL)[0].label == "4"


def test_a_run_ends_once_it_can_not_reach_the_objective(model, poisson):
    trace, settings = poisson(60, 6000), Settings({r: 60.0 for r in Role})
    whole = run(trace, model, Objectives(1.5, 0.05, GOAL), (1, 1), settings)
    part = run(trace, model, Objectives(1.5, 0.05, GOAL), (1, 1), settings, limits=Limits(late=100))
    assert whole.stopped_seconds is None
    assert part.stopped_seconds < trace.duration_seconds
    assert whole.attainment <= part.attainment < GOAL
    assert not part.reaches(GOAL)


def test_where_all_are_given_up_the_one_that_came_furthest_is_finished(result):
    limits_seen = []

    def serve(one, limits):
        limits_seen.append(limits)
        if limits == NO_LIMITS:
            return result(0.5)
        return result(0.9, stopped=float(one.label))

    def search():
        for k in (3, 7, 5):
            yield named(k)

    found = explore(search(), serve, GOAL, 1000)
    assert best(found, GOAL)[0].label == "7"
    assert limits_seen[-1] == NO_LIMITS
    assert limits_seen[0].late == pytest.approx(1.3 * 10 + 10)


def test_the_fixed_counts_are_the_cheapest_that_reach_the_objective(model, poisson):
    setting, trace = Setting(model, Objectives(1.5, 0.05, GOAL), 60.0), poisson(60, 6000, outputs=200)
    settings = Settings({r: 60.0 for r in Role})

    def serve(one, limits):
        return run(trace, model, setting.objectives, one.start, settings, limits=limits)

    found = best(explore(catalogue.search("fixed", setting, trace), serve, GOAL, len(trace)), GOAL)[0].start
    reached = {
        (p, d)
        for p in range(1, 5)
        for d in range(1, 5)
        if run(trace, model, setting.objectives, (p, d), settings).attainment >= GOAL
    }
    assert found in reached
    assert sum(found) == min(map(sum, reached))


def test_over_seeds_the_mean_counts_and_knobs_are_searched_with_the_first(result):
    attained = {(1, "cheap"): 0.992, (2, "cheap"): 0.98, (1, "sure"): 0.999, (2, "sure"): 0.995}

    def seed(number):
        def serve(one, limits):
            return result(attained[number, one.label], 1.0 if one.label == "cheap" else 2.0)

        def search(name):
            assert number == 1, "knobs are those of the first"
            for label in ("cheap", "sure"):
                yield Try(label, (1, 1), None)

        return Seed(number, 1000, search, serve)

    chosen = choose("hpa", [seed(1), seed(2)], GOAL)
    assert chosen.knob == "sure"
    assert chosen.result.attainment == pytest.approx(0.997)
    assert [one.attainment for one in chosen.seeds] == [0.999, 0.995]
    assert mean(chosen.seeds).gpu_hours == 2.0
