"""Each peer's formula, pinned by numbers worked out by hand."""

from dataclasses import replace

import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.policies import catalogue, static
from dopd.replay.policies.arima import ArimaSeries
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dynamo import throughput_counts
from dopd.replay.policies.hpa import Hpa
from dopd.replay.policies.paper import ratio_counts


@pytest.fixture
def setting(model):
    return Setting(model, Objectives(1.5, 0.05, 0.99), 60.0)


def test_the_paper_balances_producers_and_consumers(setting):
    # C = min(floor(6250 / ceil(1100 / 64)), 256) = 256; ITL(256) = 30.6 ms; exact D = 50 * 200 * .0306 / 256 = 1.195
    # R = 256 * .035 / (200 * .0306) = 1.464; P = ceil(1.464 * 1.195) = ceil(50 * .035) = 2
    assert ratio_counts(setting, 50.0, 1000.0, 200.0) == (2, 2)
    assert ratio_counts(setting, 200.0, 1000.0, 200.0) == (8, 5)


def test_the_papers_decode_is_corrected_by_the_measured_itl(setting):
    slow = ratio_counts(setting, 100.0, 1000.0, 200.0, observed_itl_seconds=0.05, serving_decode=4)
    assert slow[1] > ratio_counts(setting, 100.0, 1000.0, 200.0)[1]


def test_dynamo_sizes_by_mean_length_at_full_use(setting):
    # prefill ceil(100 * .035) = 4; decode: 256 / (200 * .0306) = 41.8 requests/s a worker, ceil(100 / 41.8) = 3
    assert throughput_counts(setting, 100.0, 1000.0, 200.0, 0.05) == (4, 3)
    # an ITL objective of 10.1 ms allows batch 51: 51 / (200 * .0101) = 25.2, ceil(100 / 25.2) = 4
    assert throughput_counts(setting, 100.0, 1000.0, 200.0, 0.0101)[1] == 4


def test_hpa_follows_the_ratio_with_tolerance_and_holds_for_its_window(setting):
    hpa = Hpa(setting, target=0.7)
    assert hpa._desired(Role.PREFILL, 4, 4, 0.75) == 4
    assert hpa._desired(Role.PREFILL, 4, 4, 1.0) == 6
    assert hpa._desired(Role.PREFILL, 6, 6, 0.1) == 6
    for _ in range(20):
        last = hpa._desired(Role.PREFILL, 6, 6, 0.1)
    assert last == 1


def test_arima_repeats_a_constant_and_continues_a_trend():
    flat, rising = ArimaSeries(), ArimaSeries()
    for k in range(10):
        constant, next_value = flat.next(7.0), rising.next(float(k))
    assert constant == 7.0
    assert next_value == pytest.approx(9.99)


def test_one_to_three_has_at_least_the_gpus_of_the_peak(setting):
    assert static.one_to_three((6, 3), setting) == (3, 9)
    assert static.one_to_three((6, 3), replace(setting, prefill_gpus=4, decode_gpus=4)) == (3, 9)


def test_the_oracle_needs_no_more_than_the_peak(setting, poisson):
    trace = poisson(30, 6000, outputs=100)
    oracle, peak = static.Oracle(setting, trace), static.peak(setting, trace)
    assert (oracle.needs.min(axis=0) >= 1).all()
    assert abs(oracle.needs.max(axis=0)[0] - peak[0]) <= 1


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_every_policy_by_name_has_runs(setting, poisson, name):
    assert catalogue.tries(name, setting, poisson(20, 500))


def test_an_unknown_policy_is_refused_with_the_known_ones(setting, poisson):
    with pytest.raises(ValueError, match="expected one of dopd"):
        catalogue.tries("magic", setting, poisson(20, 500))


def test_hpa_can_aim_at_another_use_of_decode(setting):
    hpa = Hpa(setting, target=0.7, decode_target=0.35)
    assert hpa._desired(Role.PREFILL, 4, 4, 0.7) == 4
    assert hpa._desired(Role.DECODE, 4, 4, 0.7) == 8
