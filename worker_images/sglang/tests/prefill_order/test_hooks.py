import sys
from types import ModuleType, SimpleNamespace

import pytest

from dopd_sglang.prefill_order import hooks, start

from .fakes import request
from .test_control import Engine

COMPLETE = "no more into this pass"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    for name in ("sglang", "sglang.srt", "sglang.srt.managers", "sglang.srt.managers.schedule_policy"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["sglang.srt.managers.schedule_policy"].AddReqResult = SimpleNamespace(OTHER=COMPLETE)
    engine = Engine(tmp_path, can_park=True)
    engine.scheduler.disaggregation_mode = SimpleNamespace(value="prefill")
    monkeypatch.setattr(hooks, "start", lambda scheduler: engine.control)
    monkeypatch.setattr(hooks, "_started", None)
    return engine


def composing(engine, step):
    """What `step` returns while the scheduler composes a pass."""
    results = []

    def original(scheduler):
        results.append(step())
        return SimpleNamespace(reqs=[]), None

    hooks.compose(original, engine.scheduler)
    return results[0]


def sort(engine):
    hooks.calc_priority(lambda *args, **kwargs: pytest.fail("SGLang sorted"), None, engine.scheduler.waiting_queue)
    return list(engine.scheduler.waiting_queue)


def test_the_queue_is_sorted_by_the_plan(engine):
    long, short = request(900, 1.0), request(200, 2.0)
    engine.wait(long, short)
    assert composing(engine, lambda: sort(engine)) == [short, long]


def test_sglang_sorts_where_there_is_no_plan(engine):
    sorted_by_sglang = []
    engine.wait(request(900))
    composing(
        engine,
        lambda: hooks.calc_priority(
            lambda policy, queue, *args, **kwargs: sorted_by_sglang.append(queue), None, engine.scheduler.waiting_queue
        ),
    )
    assert sorted_by_sglang == [engine.scheduler.waiting_queue]


def test_outside_of_a_pass_nothing_is_touched(engine):
    assert hooks.add_chunked_req(lambda adder, req: "as it was", None, None) == "as it was"
    assert hooks.chunk_limit(lambda policy, *args: 7, None) == 7
    assert hooks.add_one_req(lambda *args, **kwargs: "as it was", None, None, False, None) == "as it was"


def test_a_second_prompt_that_memory_would_cut_is_held_back(engine):
    cut = SimpleNamespace(is_chunked=True)
    assert hooks.select_admission(lambda *args, **kwargs: cut, None, None, has_chunked_req=True) is cut
    step = lambda: hooks.select_admission(lambda *args, **kwargs: cut, None, None, has_chunked_req=True)  # noqa: E731
    assert composing(engine, step) == COMPLETE


def test_an_error_while_admitting_leaves_the_pass_as_it_is(engine, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(engine.control, "may_add", broken)
    admit = lambda cut: hooks.add_one_req(lambda *args, **kwargs: "admitted", None, None, cut, None)  # noqa: E731
    assert composing(engine, lambda: admit(True)) == COMPLETE
    assert composing(engine, lambda: admit(False)) == "admitted"


def test_a_decode_engine_is_left_alone(engine, monkeypatch):
    engine.scheduler.disaggregation_mode.value = "decode"
    monkeypatch.setattr(hooks, "start", lambda scheduler: pytest.fail("started"))
    assert hooks.run_event_loop(lambda scheduler: "runs", engine.scheduler) == "runs"
    hooks.process_pending_chunked_abort(lambda scheduler: None, engine.scheduler)


def test_parked_prompts_are_found_by_those_who_look_for_requests_memory_and_load(engine):
    hooks.run_event_loop(lambda scheduler: None, engine.scheduler)
    parked, other = request(100), request(100)
    parked.kv.holds_kv, parked.seqlen, parked.prefix_len = True, 100, 30
    engine.control.unfinished.parked = [parked]
    assert hooks.inflight({other}, engine.scheduler) == {other, parked}
    assert hooks.owners([other], None) == [other, parked]
    assert hooks.owners([parked], None) == [parked]
    assert hooks.pending_tokens(5, None) == 75


def test_the_arrival_goes_along_with_a_request():
    state = hooks.arrival_travels({"enable_metrics": False}, SimpleNamespace(created_time=3.0))
    assert state == {"enable_metrics": False, "created_time": 3.0}


def test_an_error_at_the_start_leaves_the_engine_alone(caplog):
    assert start.start(None) is None
    assert "could not be started" in caplog.text


def test_the_tokens_that_wait_are_told_without_those_of_a_batch(engine):
    hooks.run_event_loop(lambda scheduler: None, engine.scheduler)
    engine.control.requests.tells_batch = True
    job, begun, chat = request(300, priority=-1), request(100, priority=-1), request(50)
    begun.seqlen, begun.prefix_len = 100, 30
    inquirer = SimpleNamespace(get_chunked_req=lambda: begun, get_waiting_queue=lambda: [job, chat])
    assert hooks.waiting_tokens(300 + 50 + 70, inquirer) == 50
    engine.control.requests.tells_batch = False
    others = SimpleNamespace(get_chunked_req=lambda: None, get_waiting_queue=lambda: [chat])
    assert hooks.waiting_tokens(50, others) == 50
