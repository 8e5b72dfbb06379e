import json
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from dopd_sglang.prefill_order.control import Control
from dopd_sglang.prefill_order.decision import Decision, Ranks
from dopd_sglang.prefill_order.metrics import Metrics
from dopd_sglang.prefill_order.settings import SettingsFile

from .fakes import Scheduler, request

TIMES = {"passPoints": [{"tokens": 10, "seconds": 0.01}, {"tokens": 1000, "seconds": 1.0}]}


class Engine:
    """A scheduler under the plugin, with its clock, its settings and its metrics."""

    def __init__(self, tmp_path, chunk=1000, page_size=1, can_park=False, **settings):
        self.now = 100.0
        self.path = tmp_path / "scheduling.json"
        self.set(**settings)
        self.registry = CollectorRegistry()
        self.scheduler = Scheduler(chunk, page_size)
        metrics = Metrics("1", "2", self.registry)
        file = SettingsFile(str(self.path))
        self.control = Control(self.scheduler, Ranks(), metrics, None, lambda: self.now, file, can_park)
        self.scheduler.control = self.control

    def set(self, **settings):
        whole = {"version": 1, "policy": "shortest-first", "ttftSeconds": 60, "times": TIMES, **settings}
        self.path.write_text(json.dumps(whole))

    def wait(self, *requests):
        self.scheduler.waiting_queue.extend(requests)

    def metric(self, name, **labels):
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path)


def test_the_order_decides_who_goes_first(engine):
    long, short = request(900, 1.0), request(200, 2.0)
    engine.wait(long, short)
    assert engine.scheduler.compose() == {short.rid: 200, long.rid: 800}


def test_a_prompt_that_waits_alone_needs_no_plan(engine):
    engine.wait(request(100))
    assert not engine.control.plan(engine.scheduler.waiting_queue, 0)


def test_a_worker_with_little_to_do_takes_settings_over_too(engine):
    engine.set(policy="on-time-first")
    engine.now += 2
    engine.wait(request(100))
    engine.control.plan(engine.scheduler.waiting_queue, 0)
    versions = {"plugin_version": "1", "sglang_version": "2"}
    assert engine.metric("dopd_prefill_order_info", policy="on-time-first", **versions) == 1


def test_short_ones_pass_a_long_one_that_has_begun_and_it_goes_on(engine):
    long = request(5000, 1.0)
    engine.wait(long)
    engine.scheduler.compose()
    shorts = [request(300, 2.0), request(300, 3.0)]
    engine.wait(*shorts)
    assert engine.scheduler.compose() == {long.rid: 400, shorts[0].rid: 300, shorts[1].rid: 300}


def test_a_pass_full_of_short_ones_leaves_the_long_one_a_page(tmp_path):
    engine = Engine(tmp_path, chunk=1024, page_size=64)
    long = request(5000, 1.0)
    engine.wait(long)
    engine.scheduler.compose()
    shorts = [request(320, 2.0 + place) for place in range(5)]
    engine.wait(*shorts)
    assert engine.scheduler.compose() == {long.rid: 64, **{req.rid: 320 for req in shorts[:3]}}


def test_a_second_prompt_is_never_cut(engine):
    engine.wait(request(5000, 1.0), request(5000, 2.0), request(4000, 3.0), request(700, 4.0))
    computed = 0
    for _ in range(30):  # the fake scheduler asserts what SGLang does
        computed += sum(engine.scheduler.compose().values())
    assert computed == 14_700


def test_what_the_plan_does_not_name_waits_though_there_is_room(engine, monkeypatch):
    engine.wait(request(100, 1.0), request(200, 2.0))
    monkeypatch.setattr(engine.control.planner, "decide", lambda *_: Decision(True, ((1, 200),)))
    assert list(engine.scheduler.compose().values()) == [200]


def test_room_for_the_rest_of_the_unfinished_prompt_is_reserved(engine):
    long = request(5000, 1.0)
    engine.wait(long)
    engine.scheduler.compose()
    engine.wait(request(300, 2.0))
    engine.control.plan(engine.scheduler.waiting_queue, 0)
    adder = type("Adder", (), {})()
    adder.memory_budget = type("Budget", (), {"total_offset": 0})()
    for _ in range(2):
        engine.control.reserve(adder)
    assert adder.memory_budget.total_offset == 4000 - 700 + 1


def test_a_prompt_that_the_pool_has_no_room_for_does_not_stop_those_behind_it(engine):
    large, small = request(3000, 1.0), request(900, 2.0)
    engine.set(policy="fcfs")
    engine.now += 2
    engine.wait(large, small)
    engine.scheduler.free_tokens = 2000
    assert engine.scheduler.compose() == {small.rid: 900}


def test_after_some_patience_those_behind_it_wait_for_the_pool_to_have_room(engine):
    large, small = request(3000, 1.0), request(900, 2.0)
    engine.set(policy="fcfs", ttftSeconds=10)
    engine.now += 2
    engine.wait(large, small)
    engine.scheduler.free_tokens = 2000
    engine.scheduler.admits = lambda req: req is small
    assert engine.scheduler.compose() == {}


def test_those_that_were_not_admitted_keep_their_places(engine):
    first, second, third = request(900, 1.0), request(800, 2.0), request(100, 3.0)
    engine.wait(first, second, third)
    engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.scheduler.waiting_queue[0] is third
    engine.control.composed(None)
    assert engine.scheduler.waiting_queue == [first, second, third]


def test_settings_change_while_it_runs(engine):
    long, short = request(900, 1.0), request(200, 2.0)
    engine.wait(long, short)
    engine.set(policy="fcfs")
    engine.now += 2
    assert engine.scheduler.compose() == {long.rid: 900, short.rid: 100}
    assert engine.metric("dopd_prefill_order_info", policy="fcfs", plugin_version="1", sglang_version="2") == 1


def test_the_engines_own_order_on_demand(engine):
    engine.set(policy="engine-default")
    engine.now += 2
    engine.wait(request(900, 1.0), request(200, 2.0))
    assert not engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.metric("dopd_prefill_order_active") == 0
    engine.set()
    engine.now += 2
    assert engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.metric("dopd_prefill_order_active") == 1


def test_a_bad_file_is_counted_and_changes_nothing(engine):
    engine.path.write_text("{")
    engine.now += 2
    engine.wait(request(900, 1.0), request(200, 2.0))
    assert engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="settings") == 1


@pytest.mark.parametrize("broken", ["planner.refresh", "metrics.set_unfinished"])
def test_an_error_beside_the_plan_does_not_reach_the_engine(engine, monkeypatch, broken):
    def fail(*_):
        raise RuntimeError("broken")

    part, name = broken.split(".")
    monkeypatch.setattr(getattr(engine.control, part), name, fail)
    long, short = request(900, 1.0), request(200, 2.0)
    engine.wait(long, short)
    assert engine.scheduler.compose() == {short.rid: 200, long.rid: 800}
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="error") == 1


def test_an_error_leaves_the_pass_to_the_engine_and_three_switch_it_off(engine, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    decide = engine.control.planner.decide
    monkeypatch.setattr(engine.control.planner, "decide", broken)
    engine.wait(request(900, 1.0), request(200, 2.0))
    assert not engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.metric("dopd_prefill_order_active") == 1
    monkeypatch.setattr(engine.control.planner, "decide", decide)
    assert engine.control.plan(engine.scheduler.waiting_queue, 0)
    monkeypatch.setattr(engine.control.planner, "decide", broken)
    for _ in range(2):
        assert not engine.control.plan(engine.scheduler.waiting_queue, 0)
    monkeypatch.setattr(engine.control.planner, "decide", decide)
    assert not engine.control.plan(engine.scheduler.waiting_queue, 0)
    assert engine.metric("dopd_prefill_order_active") == 0
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="error") == 3
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="switched-off") == 1


def test_waits_lateness_and_overtakings_are_counted_by_length(tmp_path):
    engine = Engine(tmp_path, predictedTokens=500, ttftSeconds=5)
    long, short = request(900, 90.0), request(200, 98.0)
    engine.wait(long, short)
    engine.scheduler.chunked_prefill_size = 200
    batch = type("Batch", (), {})()
    engine.scheduler.compose()
    assert engine.metric("dopd_prefill_wait_seconds_sum", length="short") == 2.0
    assert engine.metric("dopd_prefill_overtakings_total") == 1
    long.time_stats.prefill_finished_time, short.time_stats.prefill_finished_time = 101.0, 101.0
    engine.scheduler.compose()
    batch.reqs, batch.prefix_lens, batch.extend_lens = [long, short], [0, 0], [900, 200]
    engine.control.measured(batch, 1.0)
    engine.control.measured(batch, 1.0)
    assert engine.metric("dopd_prefill_prompts_total", length="long") == 1
    assert engine.metric("dopd_prefill_late_prompts_total", length="long") == 1
    assert engine.metric("dopd_prefill_prompts_total", length="short") == 1
    assert engine.metric("dopd_prefill_late_prompts_total", length="short") == 0


def test_prompts_that_can_not_be_on_time_are_refused_if_asked_for(tmp_path, monkeypatch):
    refused = []
    monkeypatch.setattr(
        "dopd_sglang.prefill_order.control.refuse", lambda scheduler, req: refused.append((scheduler, req))
    )
    engine = Engine(tmp_path, latePrompts="Refuse", ttftSeconds=5)
    hopeless, fine = request(900, 95.5), request(200, 99.0)
    engine.wait(hopeless, fine)
    assert engine.scheduler.compose() == {fine.rid: 200}
    assert refused == [(engine.scheduler, hopeless)]
    assert engine.scheduler.waiting_queue == []
    assert engine.metric("dopd_prefill_refused_prompts_total") == 1


def test_a_prompt_that_can_not_be_refused_is_served(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("dopd_sglang.prefill_order.control.refuse", broken)
    engine = Engine(tmp_path, latePrompts="Refuse", ttftSeconds=5)
    hopeless, fine = request(900, 95.5), request(200, 99.0)
    engine.wait(hopeless, fine)
    passes = [engine.scheduler.compose() for _ in range(2)]
    assert sum(composed.get(hopeless.rid, 0) for composed in passes) == 900
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="error") == 1


def batch_engine(tmp_path, **settings):
    return Engine(tmp_path, can_park=True, policy="on-time-first", ttftSeconds=4, batch={}, **settings)


def test_a_batch_prompt_alone_is_computed_in_short_passes_and_stops_for_others(tmp_path):
    engine = batch_engine(tmp_path)
    job, chat = request(2000, 100.0, priority=-1), request(500, 100.5)
    engine.wait(job)
    assert engine.scheduler.compose() == {job.rid: 400}, "a tenth of the objective, where 1000 would fit"
    engine.wait(chat)
    assert engine.scheduler.compose() == {chat.rid: 500}
    assert engine.scheduler.compose() == {job.rid: 400}
    assert engine.metric("dopd_prefill_overtakings_total") == 0


def test_a_priority_means_nothing_unless_the_operator_says_so(tmp_path):
    engine = Engine(tmp_path, can_park=True, policy="on-time-first", ttftSeconds=4)
    job = request(2000, 100.0, priority=-1)
    engine.wait(job)
    assert engine.scheduler.compose() == {job.rid: 1000}


def test_a_batch_prompt_counts_apart_when_it_is_done(tmp_path):
    engine = batch_engine(tmp_path)
    job = request(300, 100.0, priority=-5)
    engine.wait(job)
    engine.scheduler.compose()
    job.time_stats.prefill_finished_time, job.output_ids = 900.0, [7]
    batch = SimpleNamespace(prefix_lens=None, reqs=[job])
    engine.control.measured(batch, 0.0)
    assert engine.metric("dopd_prefill_batch_prompts_total") == 1
    assert engine.metric("dopd_prefill_batch_tokens_total") == 300
    assert engine.metric("dopd_prefill_late_prompts_total", length="short") == 0


def test_where_one_prompt_alone_can_be_cut_a_batch_prompt_is_ended_before_others(tmp_path):
    engine = Engine(tmp_path, policy="on-time-first", ttftSeconds=4, batch={})
    job, chat = request(1500, 100.0, priority=-1), request(1200, 100.5)
    engine.wait(job)
    assert engine.scheduler.compose() == {job.rid: 400}
    engine.wait(chat)
    done = engine.scheduler.compose()
    while engine.scheduler.chunked_req is job:
        done = engine.scheduler.compose()
    assert job.prefix_len == 1500
    assert done[job.rid] > 0
