"""Domains in the replay: whose transfers cross, and what a narrow uplink costs."""

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.domains import ANYWHERE, APART, TOGETHER, Figures, Network, main, serve, spread
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

P, D = Role.PREFILL, Role.DECODE
COUNT = 400
SETTINGS = Settings(dict.fromkeys(Role, 0.0), objectives=Objectives(1.0, 0.1, 0.99))


def figures(placement: str, uplink_gb_s: float) -> Figures:
    model = EngineModel.from_profile(load_profile("llama-3.1-8b-h100"))
    inputs, outputs = np.full(COUNT, 2000), np.full(COUNT, 20)
    trace = Trace("even", np.arange(1, COUNT + 1) / 10.0, inputs, outputs, "requests")
    network = Network(128 * 1024.0, 25e9, uplink_gb_s * 1e9)
    places = spread({P: 2, D: 4}, 2, placement)
    return serve(model, trace, places, SETTINGS, network, apart=placement == TOGETHER)


def test_workers_are_placed_as_named():
    assert spread({P: 2, D: 4}, 2, ANYWHERE) == {P: [0, 1], D: [0, 1, 0, 1]}
    assert spread({P: 2, D: 4}, 2, APART) == {P: [0, 0], D: [1, 1, 1, 1]}
    assert spread({P: 2, D: 5}, 2, TOGETHER) == {P: [0, 1], D: [0, 0, 0, 1, 1]}


def test_a_gateway_for_each_domain_lets_nothing_cross():
    assert figures(TOGETHER, 5.0).crossed == 0
    assert figures(APART, 5.0).crossed == 1
    assert 0.3 < figures(ANYWHERE, 5.0).crossed < 0.7


def test_a_narrow_uplink_makes_requests_late_where_they_cross():
    """2.6 GB of KV cache come each second, and 1 GB passes."""
    apart, together = figures(APART, 1.0), figures(TOGETHER, 1.0)
    assert apart.on_time < 0.5
    assert together.on_time == 1
    assert max(apart.ttft_seconds) > 10 * max(together.ttft_seconds)


def test_a_wide_uplink_costs_nothing_worth_a_word():
    assert figures(APART, 1000.0).on_time == 1


def test_what_leaves_a_domain_is_counted_in_bytes():
    expected = COUNT * 2000 * 128 * 1024 / (COUNT / 10.0) / 1e9
    assert figures(APART, 5.0).busiest_gb_s == pytest.approx(expected, rel=0.05)


def test_more_domains_than_pairs_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["any.csv", "--counts", "1,4", "--domains", "2"]) == 2
    assert "expected 2 to 1" in capsys.readouterr().err
