import random

import pytest

from .fakes import request
from .test_control import Engine


@pytest.fixture
def engine(tmp_path):
    return Engine(tmp_path, can_park=True, mostUnfinished=3)


def begin(engine, *tokens):
    """Prompts that begin one after the other, each while those before it are unfinished."""
    prompts = []
    for place, count in enumerate(tokens):
        prompts.append(request(count, 1.0 + place))
        engine.wait(prompts[-1])
        engine.scheduler.compose()
    return prompts


def test_a_shorter_one_begins_while_a_longer_one_rests(engine):
    long, middle = begin(engine, 9000, 3000)
    assert engine.scheduler.chunked_req is middle
    assert engine.control.unfinished.parked == [long]
    assert engine.metric("dopd_prefill_unfinished_prompts") == 2


def test_no_more_are_unfinished_than_the_settings_allow(engine):
    prompts = begin(engine, 9000, 6000, 4000, 2500)
    assert len(engine.control.unfinished.all()) == 3
    assert prompts[3] in engine.scheduler.waiting_queue


def test_several_are_finished_in_one_pass(engine):
    long, middle = begin(engine, 3000, 1400)
    engine.scheduler.compose()
    assert engine.scheduler.compose() == {long.rid: 1000}
    assert middle.prefix_len == 1400


def test_one_that_was_left_out_keeps_sglangs_place_and_is_not_stashed_again(engine):
    [long] = begin(engine, 9000)
    shorts = [request(250, 5.0) for _ in range(4)]
    engine.wait(*shorts)
    assert long.rid not in engine.scheduler.compose()
    assert engine.scheduler.chunked_req is long
    assert engine.control.unfinished.stash(lambda: engine.scheduler.chunked_req) is None
    assert engine.scheduler.chunked_req is long


def test_one_that_was_in_the_last_pass_is_stashed(engine):
    [long] = begin(engine, 9000)
    assert engine.control.unfinished.stash(lambda: engine.scheduler.chunked_req) is long


def test_where_nothing_that_waits_can_be_admitted_the_unfinished_go_on(engine):
    [long] = begin(engine, 9000)
    engine.wait(*[request(300, 5.0) for _ in range(4)])
    engine.scheduler.admits = lambda req: False
    assert engine.scheduler.compose() == {long.rid: 1000}


def test_a_parked_one_whose_client_has_gone_is_ended_and_the_others_stay(engine):
    long, middle = begin(engine, 9000, 3000)
    long.to_finish = "abort"
    engine.control.unfinished.abort(engine.scheduler.abort)
    assert long.finished()
    assert engine.control.unfinished.all() == [middle]
    assert not middle.finished()
    engine.scheduler.compose()
    assert engine.metric("dopd_prefill_unfinished_prompts") == 1


def test_when_sglangs_own_one_is_ended_a_parked_one_takes_its_place(engine):
    long, middle = begin(engine, 9000, 3000)
    engine.scheduler._pending_chunked_abort_req = middle
    engine.control.unfinished.abort(engine.scheduler.abort)
    assert engine.scheduler.chunked_req is long
    assert engine.control.unfinished.stash(lambda: engine.scheduler.chunked_req) is None


def test_one_that_has_ended_elsewhere_is_forgotten(engine):
    long, _ = begin(engine, 9000, 3000)
    long.finished_reason, long.kv.holds_kv = "abort", False
    engine.control.unfinished.abort(engine.scheduler.abort)
    assert engine.control.unfinished.parked == []


def test_a_prompt_that_can_not_be_parked_goes_on_in_every_pass(engine):
    long = request(9000, 1.0)
    long.return_logprob = True
    engine.wait(long)
    engine.scheduler.compose()
    engine.wait(request(3000, 2.0))
    assert long.rid in engine.scheduler.compose()
    assert engine.control.unfinished.parked == []


def test_parked_ones_take_turns_without_a_plan(engine):
    long, middle = begin(engine, 9000, 3000)
    engine.set(policy="engine-default")
    engine.now += 2
    turns = [list(engine.scheduler.compose()) for _ in range(4)]
    assert turns == [[long.rid], [middle.rid], [long.rid], [middle.rid]]


def test_the_pool_is_kept_for_the_rest_of_all_of_them(engine):
    begin(engine, 9000, 5000)
    engine.wait(request(100, 9.0))
    engine.control.plan(engine.scheduler.waiting_queue, 0)
    adder = type("Adder", (), {})()
    adder.memory_budget = type("Budget", (), {"total_offset": 0})()
    engine.control.reserve(adder)
    assert adder.memory_budget.total_offset == 8000 + 4000 - 900 + 2


@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize("policy", ["on-time-first", "shortest-first", "fcfs", "dopd-paper"])
@pytest.mark.parametrize("can_park", [True, False])
def test_every_prompt_is_computed_once_and_whole(tmp_path, policy, page_size, can_park):
    random.seed(3)
    engine = Engine(tmp_path, 1024, page_size, can_park, policy=policy, ttftSeconds=4, predictedTokens=800)
    prompts, computed = [], {}
    for _ in range(3000):
        engine.now += 0.2
        if len(prompts) < 200 and random.random() < 0.4:
            prompts.append(request(int(random.lognormvariate(6, 1.4)) + 1, engine.now))
            engine.wait(prompts[-1])
        composed = engine.scheduler.compose()
        assert sum(-(-tokens // page_size) * page_size for tokens in composed.values()) <= 1024
        for rid, tokens in composed.items():
            computed[rid] = computed.get(rid, 0) + tokens
    assert computed == {req.rid: len(req.origin_input_ids) for req in prompts}
    assert engine.control.unfinished.all() == []
    assert engine.metric("dopd_prefill_order_fallbacks_total", reason="error") == 0
