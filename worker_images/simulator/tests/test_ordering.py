"""Which order a simulated engine goes by, and what it tells: as dopd's plugin in SGLang."""

import json

import pytest

from dopd.perf import EngineModel
from dopd_sglang.prefill_order.settings import FILE_VARIABLE
from dopd_simulator import ordering
from dopd_simulator.clock import Clock
from dopd_simulator.metric_store import Families
from dopd_simulator.options import Options
from dopd_simulator.ordering import Ordering
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.request import Request

MODEL = EngineModel.from_profile(DEFAULT_PROFILE)


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "scheduling.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    now = [0.0]
    monkeypatch.setattr(ordering.time, "monotonic", lambda: now.__setitem__(0, now[0] + 2) or now[0])
    return path


def settings(**fields):
    return json.dumps({"version": 1, "policy": "on-time-first", "ttftSeconds": 2.0, "predictedTokens": 500, **fields})


def ordering_of(speedup=1.0, **options):
    families = Families()
    made = Ordering(Options("m", "m", sim_speedup=speedup, **options), MODEL, Clock(speedup), families)
    return made, families


def samples(families):
    every = [sample for family in families.collect() for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in every}


def request(tokens, created=0.0):
    return Request("r", prompt_tokens=tokens, max_new_tokens=1, length=1, created=created)


def test_without_a_file_and_a_flag_prompts_are_taken_as_they_come_and_nothing_is_told(file):
    engine, families = ordering_of()
    assert engine.refresh() is None
    assert samples(families) == {}


def test_the_file_sets_the_order_and_a_change_of_it_is_taken_over(file):
    engine, families = ordering_of(speedup=10)
    file.write_text(settings())
    order = engine.refresh()
    assert order.order.settings.ttft_seconds == pytest.approx(20), "engine seconds"
    file.write_text(settings(ttftSeconds=3.0, mostUnfinished=2))
    assert engine.refresh() is order, "what the late are owed is kept"
    assert order.order.settings.ttft_seconds == pytest.approx(30)
    assert order.most_unfinished == 2
    file.write_text(settings(policy="engine-default"))
    assert engine.refresh() is None
    told = samples(families)
    assert told["dopd_prefill_order_active",] == 0
    versions = ordering.__version__, ordering.SGLANG_VERSION
    assert told["dopd_prefill_order_info", "engine-default", *versions] == 1
    assert told["dopd_prefill_order_info", "on-time-first", *versions] == 0


def test_a_bad_file_leaves_the_last_good_settings(file):
    engine, families = ordering_of()
    file.write_text(settings())
    order = engine.refresh()
    file.write_text("{")
    assert engine.refresh() is order
    assert samples(families)["dopd_prefill_order_fallbacks_total", "settings"] == 1


def test_waits_and_lateness_are_told_by_length(file):
    file.write_text(settings())
    engine, families = ordering_of()
    engine.refresh()
    short, long = request(100, created=1.0), request(900, created=0.5)
    engine.began([short], [long], now=1.5)
    engine.done(short, now=1.6, unfinished=0)
    engine.began([long], [], now=2.0)
    engine.done(long, now=2.6, unfinished=1)
    told = samples(families)
    assert told["dopd_prefill_prompts_total", "short"] == told["dopd_prefill_prompts_total", "long"] == 1
    assert told["dopd_prefill_late_prompts_total", "short"] == 0
    assert told["dopd_prefill_late_prompts_total", "long"] == 1
    assert told["dopd_prefill_overtakings_total",] == 1
    assert told["dopd_prefill_wait_seconds_sum", "short"] == pytest.approx(0.5)
    assert told["dopd_prefill_unfinished_prompts",] == 1


def test_a_batch_stands_behind_all_others_and_is_counted_apart(file):
    engine, families = ordering_of()
    file.write_text(settings(batch={}))
    order = engine.refresh()
    job, chat = request(300), request(300, created=1.0)
    job.priority = -1
    assert order.next_pieces(2.0, [job, chat], [], 8192) == [(chat, 300)]
    engine.began([chat], [job], 2.0)
    engine.done(job, 3.0, 0)
    told = samples(families)
    assert told[("dopd_prefill_batch_tokens_total",)] == 300
    assert told[("dopd_prefill_overtakings_total",)] == 0
    assert told[("dopd_prefill_prompts_total", "short")] == 0
    file.write_text(settings())
    assert engine.refresh() is not order
    assert engine.refresh().next_pieces(2.0, [job, chat], [], 8192) == [(job, 300), (chat, 300)]
