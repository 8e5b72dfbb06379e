"""Peers by signals of the field: each formula pinned by numbers worked out by hand, and each on a load."""

from types import SimpleNamespace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Demand, Objectives, Workers
from dopd.replay.policies import catalogue
from dopd.replay.policies.base import Setting
from dopd.replay.policies.heteroscale import HeteroScale
from dopd.replay.policies.keda import Keda
from dopd.replay.policies.tokenscale import TokenScale, needed
from dopd.replay.runner import run
from dopd.replay.search import best, explore
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings


@pytest.fixture
def setting(model):
    return Setting(model, Objectives(1.5, 0.05, 0.99), 60.0)


def seen(now, prefill=4, decode=4, **signals):
    workers = {Role.PREFILL: Workers(prefill), Role.DECODE: Workers(decode)}
    return SimpleNamespace(now_seconds=now, seen_seconds=now, workers=workers.__getitem__, **signals)


def test_keda_has_a_worker_for_each_threshold_of_requests(setting):
    keda = Keda(setting, prompts=2.0, answers=50.0, window_seconds=15.0)
    waiting = {Role.PREFILL: 18, Role.DECODE: 210}
    pairs = [keda.decide(seen(now, requests_in=waiting.__getitem__))[0] for now in (0.0, 5.0, 10.0, 15.0)]
    assert pairs == [(4, 4)] * 3 + [(8, 4)], "9 prefill workers, at most twofold in 15 s; 4.2 of 4 is within a tenth"


def test_heteroscale_moves_both_roles_by_decodes_tokens_at_one_ratio(setting):
    policy = HeteroScale(setting, tokens_per_second=1000.0, ratio=1.5, cool_down_seconds=30.0)
    rates = [0.0, 4300.0, 5200.0, 1000.0, 1000.0, 1000.0]
    pairs = [
        policy.decide(seen(60.0 * k, decode_tokens_per_second=lambda window, rate=rate: rate))[0]
        for k, rate in enumerate(rates)
    ]
    assert pairs == [(4, 4), (6, 4), (8, 6), (8, 6), (2, 1), (2, 1)], "5.2 x 1.5 = 7.8; down once 30 s agree"


def test_tokenscale_sizes_by_token_velocities(setting):
    # prefill: 1000 / .035 s = 28,571 tokens/s; 100 * 1000 / 28,571 = 3.5. decode: 256 (1000 + 200) / (200 * .0306) =
    # 50,196 tokens/s freed; 100 * 1200 / 50,196 = 2.4
    demand = Demand(100.0, 1000.0, 1e6, 200.0)
    assert needed(setting, demand, 1.0) == (4, 3)
    assert needed(setting, demand, 0.72) == (5, 4)


def test_tokenscale_turns_spare_decoders_when_prompts_come_too_fast(setting):
    policy = TokenScale(setting, convertible=2)
    calm = seen(60.0, prefill=4, decode=5, demand=lambda window: Demand(100.0, 1000.0, 1e6, 200.0))
    assert policy.decide(calm)[0] == (4, 5)
    assert policy.flips == 0
    burst = seen(65.0, prefill=4, decode=5, demand=lambda window: Demand(120.0, 1500.0, 2e6, 200.0))
    pair, _ = policy.decide(burst)
    assert policy.flips > 0
    assert pair[0] > 4


@pytest.mark.parametrize("name", ["hpa", "keda", "heteroscale", "tokenscale"])
def test_a_peer_with_its_knob_searched_reaches_the_objective_on_a_load_that_rises(setting, model, name):
    generator = np.random.default_rng(3)
    rate = np.concatenate((np.full(120, 6.0), np.linspace(6, 18, 360), np.full(120, 18.0)))
    counts = generator.poisson(rate)
    arrivals = np.sort(np.repeat(np.arange(600.0), counts) + generator.uniform(size=counts.sum()))
    trace = Trace("rises", arrivals, np.full(len(arrivals), 4000), np.full(len(arrivals), 50), "requests")
    settings = Settings({r: 60.0 for r in Role})

    def serve(one, limits):
        return run(trace, model, setting.objectives, one.start, settings, one.policy and one.policy(), limits)

    def cheapest(name):
        return best(explore(catalogue.search(name, setting, trace), serve, 0.99, len(trace)), 0.99)[1]

    found = cheapest(name)
    assert found.attainment >= 0.99
    assert 0.1 < found.prefill_use < 1.0
    assert 0.0 < found.decode_use < 1.0
