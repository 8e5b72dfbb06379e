"""The scheduler alone: no clock, no sockets."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.perf import EngineModel
from dopd.perf.prefill_times import service_times
from dopd_scheduling import ORDERS, Settings, make
from dopd_simulator.prefill_order import PrefillOrder
from dopd_simulator.profile import DEFAULT_PROFILE
from dopd_simulator.request import Request, Stage
from dopd_simulator.scheduler import DecodePass, Limits, PrefillPass, Scheduler

MODEL = EngineModel.from_profile(DEFAULT_PROFILE)


def scheduler(role="null", **limits):
    sizes = {"kv_tokens": 10_000, "max_running_requests": 64, "transfer_slots": 0, "chunk_tokens": 1024}
    return Scheduler(MODEL, Limits(**(sizes | limits)), role)


def request(prompt=100, output=10, **fields):
    return Request(f"{prompt}-{output}", prompt_tokens=prompt, max_new_tokens=output, length=output, **fields)


def step(engine):
    planned = engine.plan()
    if isinstance(planned, PrefillPass):
        engine.complete_prefill(planned)
    elif planned is not None:
        engine.complete_decode(planned, planned.steps)
    return planned


def running(engine, *requests):
    for each in requests:
        each.output_tokens = max(1, each.output_tokens)
        each.prefilled_tokens = each.prompt_tokens
        engine.hold(each, each.prompt_tokens)
        engine.running.append(each)
    return requests


def test_short_prompts_share_a_pass_up_to_the_chunk():
    engine = scheduler()
    engine.waiting.extend([request(400), request(400), request(400), request(400)])
    planned = engine.plan()
    assert [tokens for _, tokens in planned.pieces] == [400, 400, 224]
    one_prompt, its_attention = MODEL.prefill_seconds(1024), MODEL.attention_seconds * 1024**2
    others = MODEL.attention_seconds * (400**2 + 400**2 + 224**2)
    assert others < its_attention
    assert planned.seconds == pytest.approx(one_prompt - its_attention + others), "none pays attention to the others"


def test_a_long_prompt_comes_in_chunks_and_takes_as_long_as_the_performance_model_says():
    engine = scheduler()
    engine.waiting.append(request(5000, output=1))
    passes = []
    while engine.waiting or engine.unfinished:
        passes.append(step(engine))
    assert [each.tokens for each in passes] == [1024, 1024, 1024, 1024, 904]
    assert math.fsum(each.seconds for each in passes) == pytest.approx(
        replace(MODEL, chunk_tokens=1024).passes_seconds(5000)
    )


def test_without_chunks_a_prompt_is_one_pass():
    engine = scheduler(chunk_tokens=None)
    engine.waiting.append(request(5000))
    assert engine.plan().tokens == 5000


def test_prefill_goes_before_decode():
    engine = scheduler()
    running(engine, request(100))
    engine.waiting.append(request(100))
    assert isinstance(step(engine), PrefillPass)
    assert isinstance(engine.plan(), DecodePass)
    assert len(engine.running) == 2


def test_a_decode_pass_lasts_until_somebody_must_hear_of_it():
    engine = scheduler("decode")
    running(engine, request(100, 50), request(100, 30))
    planned = engine.plan()
    assert planned.steps == 29
    assert planned.step_seconds == pytest.approx(MODEL.itl_seconds(2, 101 + 14))


def test_a_stream_wants_every_interval():
    engine = scheduler("decode")
    (stream,) = running(engine, request(100, 50, stream=True, stream_interval=4))
    stream.emit()
    assert engine.plan().steps == 4


def test_tokens_cost_kv_cache_and_give_it_back():
    engine = scheduler("decode")
    (only,) = running(engine, request(100, 10))
    planned = engine.plan()
    assert engine.complete_decode(planned, 5) == [only]
    assert (engine.kv_used, only.output_tokens, only.finish) == (105, 6, None)
    engine.complete_decode(engine.plan(), 4)
    assert (engine.kv_used, engine.running) == (0, [])
    assert only.finish.as_json() == {"type": "length", "length": 10}


def test_a_request_taken_out_during_a_pass_gets_nothing():
    engine = scheduler()
    stays, leaves = running(engine, request(100, 50), request(100, 50))
    planned = engine.plan()
    engine.remove(leaves)
    assert engine.complete_decode(planned, 10) == [stays]
    assert (leaves.output_tokens, leaves.kv_tokens) == (1, 0)


def test_a_model_that_ends_by_itself_stops():
    engine = scheduler("decode")
    (only,) = running(engine, Request("r", prompt_tokens=10, max_new_tokens=500, length=20))
    engine.complete_decode(engine.plan(), 19)
    assert only.finish.as_json()["type"] == "stop"


def test_a_full_cache_retracts_the_one_with_the_least_output():
    engine = scheduler(kv_tokens=300)
    old, young = running(engine, request(100, 90, output_tokens=60), request(100, 90, output_tokens=5))
    engine.hold(old, 60)
    engine.hold(young, 39)
    retracted, aborted = engine.make_room()
    assert (retracted, aborted) == ([young], [])
    assert young.retractions == 1
    assert engine.kv_free >= 1
    engine.requeue(young)
    assert list(engine.waiting) == [young]
    assert young.prefilled_tokens == 0


def test_one_request_that_outgrows_the_cache_is_aborted():
    engine = scheduler(kv_tokens=100)
    (only,) = running(engine, request(100, 10))
    assert engine.make_room() == ([], [only])
    assert only.finish.status == 500
    assert engine.kv_used == 0


def test_decode_takes_a_retracted_request_back_when_it_fits():
    engine = scheduler("decode", kv_tokens=1000, reserved_decode_tokens=50)
    (filler,) = running(engine, request(900))
    back = request(200, output_tokens=20, retractions=1, stage=Stage.RETRACTED)
    engine.requeue(back)
    assert engine.join() == []
    engine.remove(filler)
    assert engine.join() == [back]
    assert engine.kv_used == 220


def test_preallocation_keeps_order_and_reserves_growth():
    engine = scheduler("decode", kv_tokens=3000, reserved_decode_tokens=512)
    first, second, third = (request(prompt, 100, handshaken=True) for prompt in (1000, 900, 10))
    engine.prealloc = [first, second, third]
    assert engine.preallocate() == [first, second]
    assert engine.kv_used == 1900
    assert engine.preallocate() == []  # 1100 are free, but two requests may each still grow by 512
    assert engine.prealloc == [third]


def test_preallocation_waits_behind_one_that_does_not_fit():
    engine = scheduler("decode", kv_tokens=2000)
    first, second = request(1000, 100, handshaken=True), request(10, 100, handshaken=True)
    running(engine, request(100))
    engine.prealloc = [first, second]
    assert engine.preallocate() == []
    assert engine.prealloc == [first, second]


def test_preallocation_skips_those_whose_prefill_side_is_unknown():
    engine = scheduler("decode")
    unknown, known = request(100), request(100, handshaken=True)
    engine.prealloc = [unknown, known]
    assert engine.preallocate() == [known]
    assert engine.transferring == {known}
    engine.transferred(known)
    assert engine.join() == [known]


def test_admission_stops_at_the_request_limit():
    engine = scheduler(max_running_requests=2)
    engine.waiting.extend(request(10) for _ in range(5))
    assert len(engine.plan().pieces) == 2


def test_slow_down_is_added_to_each_pass():
    engine = scheduler("decode", kv_tokens=1000)
    running(engine, request(100))
    before = engine.plan().step_seconds
    engine.slow_down_seconds = 0.5
    assert engine.plan().step_seconds == pytest.approx(before + 0.5)


def test_removing_a_request_leaves_nothing_of_it():
    engine = scheduler()
    long = request(5000)
    engine.waiting.append(long)
    engine.plan()
    assert engine.unfinished == [long]
    engine.remove(long)
    assert engine.unfinished == []
    assert engine.kv_used == 0


requests = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 300)), min_size=1, max_size=30)


@given(requests, st.integers(1300, 5000), st.integers(1, 16), st.integers(64, 2048))
def test_everything_ends_and_nothing_leaks(sizes, kv_tokens, max_running, chunk):
    engine = scheduler(kv_tokens=kv_tokens, max_running_requests=max_running, chunk_tokens=chunk)
    everything = [request(prompt, output) for prompt, output in sizes]
    engine.waiting.extend(everything)
    for _ in range(100_000):
        retracted, _ = engine.make_room()
        for each in retracted:
            engine.requeue(each)
        planned = engine.plan()
        if planned is None:
            break
        assert planned.seconds >= 0
        if isinstance(planned, PrefillPass):
            assert planned.tokens <= chunk
            for each in engine.complete_prefill(planned):
                if each.output_tokens >= each.length:
                    engine.end(each)
        else:
            engine.complete_decode(planned, planned.steps)
        assert 0 <= engine.kv_used <= kv_tokens
        assert len(engine.running) <= max_running
    assert all(each.finish is not None and each.output_tokens == each.length for each in everything)
    assert engine.kv_used == 0


def ordered(name="on-time-first", ttft_seconds=1.0, most_unfinished=2, **limits):
    engine = scheduler("prefill", **limits)
    engine.order = PrefillOrder(
        make(name, Settings(ttft_seconds, service_times(MODEL), most_unfinished=most_unfinished))
    )
    return engine


def test_an_order_lets_a_short_prompt_pass_a_long_one_that_has_begun():
    engine = ordered(ttft_seconds=60, kv_tokens=100_000)
    long, short = request(20_000), request(100)
    engine.waiting.append(long)
    engine.complete_prefill(engine.plan(0.0))
    engine.waiting.append(short)
    assert engine.plan(0.1).pieces == ((short, 100),)
    assert engine.unfinished == [long]


def test_no_more_prompts_are_computed_in_part_than_the_order_allows():
    engine = ordered("shortest-first", kv_tokens=100_000)
    for tokens in (9000, 8000, 7000, 6000):
        engine.waiting.append(request(tokens))
        engine.complete_prefill(engine.plan(0.0))
        assert len(engine.unfinished) <= 2
    assert [each.prompt_tokens for each in engine.unfinished] == [9000, 8000]


def test_a_prompt_that_is_chosen_and_does_not_fit_the_cache_lets_those_that_have_begun_go_on():
    engine = ordered(ttft_seconds=60, kv_tokens=20_000)
    long, short = request(20_000), request(100)
    engine.waiting.append(long)
    engine.complete_prefill(engine.plan(0.0))
    engine.waiting.append(short)
    assert engine.plan(0.1).pieces == ((long, 1024),)


@given(requests, st.sampled_from(sorted(ORDERS)), st.integers(64, 2048), st.integers(1, 3))
def test_every_order_serves_every_prompt(sizes, name, chunk, most_unfinished):
    engine = ordered(name, most_unfinished=most_unfinished, kv_tokens=2000, chunk_tokens=chunk)
    everything = [request(prompt, output) for prompt, output in sizes]
    engine.waiting.extend(everything)
    now, complete = 0.0, []
    while (planned := engine.plan(now)) is not None:
        assert 0 < planned.tokens <= chunk
        now += planned.seconds
        for each in engine.complete_prefill(planned):
            complete.append(each)
            engine.remove(each)
    assert sorted(map(id, complete)) == sorted(map(id, everything))
    assert engine.kv_used == 0


def test_by_priority_decode_gives_kv_cache_and_slots_to_online_requests_first():
    engine = scheduler("decode", by_priority=True, max_running_requests=1, kv_tokens=100_000)
    job, chat = request(priority=-1), request(priority=0)
    engine.prealloc.extend([job, chat])
    for each in engine.prealloc:
        each.handshaken = True
    assert engine.preallocate() == [chat], "one slot"
    engine.waiting.extend([job])
    engine.transferred(chat)
    assert engine.join() == [chat]


def test_by_priority_a_batch_request_loses_its_kv_cache_first():
    engine = scheduler("decode", retract_by_priority=True, kv_tokens=201)
    job, _ = running(engine, request(priority=-1, output=50), request(priority=0))
    job.output_tokens = 40
    retracted, _ = engine.make_room()
    assert retracted == [job], "which by length would be kept"
