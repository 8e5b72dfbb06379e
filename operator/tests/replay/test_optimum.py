"""The offline optimum lies between its two figures, and both are what they say."""

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay import late_tables
from dopd.replay.optimum import Optimum, cheapest
from dopd.replay.policies import catalogue
from dopd.replay.policies.base import Setting
from dopd.replay.runner import run
from dopd.replay.search import best, explore
from dopd.replay.trace import Trace
from dopd.replay.workers import ON_TIME_FIRST, Settings


def by_trying_all(table, price, step, startup):
    """The cheapest schedule of two steps after another, by trying all."""
    best_cost, most = np.inf, table.shape[1]
    for a in range(1, most):
        for b in range(1, most):
            for c in range(1, most):
                late = table[0, a] + table[1, b] + table[2, c]
                cost = (a + b + c) * step + (max(0, b - a) + max(0, c - b)) * startup + price * late
                if cost < best_cost:
                    best_cost, found = cost, (a, b, c)
    return best_cost, found


@pytest.mark.parametrize("startup", [0.0, 20.0, 200.0])
def test_the_programme_finds_what_trying_all_finds(startup):
    generator = np.random.default_rng(4)
    for _ in range(20):
        table = np.sort(generator.integers(0, 40, (3, 6)), axis=1)[:, ::-1].astype(float)
        counts = cheapest(table, 3.0, 15.0, startup)
        cost, _ = by_trying_all(table, 3.0, 15.0, startup)
        grown = np.maximum(0, np.diff(counts)).sum()
        assert counts.sum() * 15.0 + grown * startup + 3.0 * table[range(3), counts].sum() == pytest.approx(cost)


def test_the_fewest_late_are_the_longest_given_up(model):
    # Ten prompts of 1000 tokens and one of 8000 at once, 25 us a token packed: one worker ends them all after .45 s.
    lengths = np.array([8000] + [1000] * 10)
    trace = Trace("burst", np.zeros(11), lengths, np.full(11, 2), "requests")
    work = late_tables.work(trace, model, Objectives(0.3, 0.05, 0.99), 15.0)
    seconds = work.seconds[1]
    assert late_tables.prefill(work, float, True)[0, 1] == 1.0
    assert late_tables.prefill(work, float, False)[0, 1] == 1 + sum(
        work.seconds[0] + k * seconds > 0.3 for k in range(1, 11)
    ) - (work.seconds[0] <= 0.3)


def test_decode_is_late_by_what_its_workers_can_not_make(model):
    # 199 requests fit the KV cache, and at 24.9 ms they make 7,992 tokens/s. 300 answers of 2001 tokens, at 50 ms a
    # token, make 6,000 tokens/s together for 100 s.
    trace = Trace("long", np.repeat(np.arange(0.0, 3.0), 100), np.full(300, 1000), np.full(300, 2001), "requests")
    work = late_tables.work(trace, model, Objectives(1.5, 0.05, 0.99), 15.0)
    assert work.capacity[0] == pytest.approx(199 / 0.0249, rel=0.01)
    assert work.tokens.sum() == pytest.approx((15 - 1) * 6000, rel=0.01), "of the step in which the trace ends"
    assert late_tables.decode(work, float, False)[0, 1] == 0.0


@pytest.fixture
def waves():
    """Four minutes at 3 to 25 requests a second, two minutes a wave."""
    generator = np.random.default_rng(6)
    seconds = np.arange(240)
    counts = generator.poisson(14 + 11 * np.sin(seconds / 120 * 2 * np.pi))
    arrivals = np.sort(np.repeat(seconds, counts) + generator.uniform(size=counts.sum()))
    inputs = np.maximum(1, generator.lognormal(7.6, 0.7, len(arrivals))).astype(int)
    return Trace("waves", arrivals, inputs, np.full(len(arrivals), 60), "requests")


def test_the_verified_schedule_is_above_the_bound_and_below_fixed_counts(model, waves):
    setting = Setting(model, Objectives(1.5, 0.05, 0.99), 15.0, on_time_first=True)
    settings = Settings({r: 15.0 for r in Role}, order=ON_TIME_FIRST)

    def serve(one, limits):
        return run(waves, model, setting.objectives, one.start, settings, one.policy and one.policy(), limits)

    verified, fixed = (
        best(explore(catalogue.search(name, setting, waves), serve, 0.99, len(waves)), 0.99)[1]
        for name in ("optimum", "fixed")
    )
    bound = Optimum(setting, waves).at_least_gpu_hours()
    assert verified.attainment >= 0.99
    assert bound <= verified.gpu_hours < fixed.gpu_hours
    assert verified.gpu_hours < 1.35 * bound
