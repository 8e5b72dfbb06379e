"""The queue of resources."""

import asyncio

from dopd.reconcile.queue import Key, KeyQueue

A, B = Key("ns", "a"), Key("ns", "b")


async def test_a_key_named_often_is_taken_once():
    queue = KeyQueue()
    for _ in range(3):
        queue.add(A)
    assert await queue.take() == A
    queue.done(A)
    assert len(queue) == 0


async def test_a_key_named_while_it_is_worked_on_is_taken_again_afterwards():
    queue = KeyQueue()
    queue.add(A)
    assert await queue.take() == A
    queue.add(A)
    queue.add(B)
    assert await queue.take() == B
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done(A)
    assert await waiting == A


async def test_an_earlier_due_time_stands():
    queue = KeyQueue()
    queue.add(A, 0.0)
    queue.add(A, 1000.0)
    assert await queue.take() == A
    assert len(queue) == 0


async def test_an_event_overtakes_a_waiting_delay():
    queue = KeyQueue()
    queue.add(A, 1000.0)
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    queue.add(A)
    assert await waiting == A


async def test_a_namespace_has_the_keys_that_wait_and_those_that_are_worked_on():
    queue = KeyQueue()
    queue.add(A)
    assert await queue.take() == A
    queue.add(B, 1000.0)
    queue.add(Key("elsewhere", "c"), 1000.0)
    assert set(queue.of_namespace("ns")) == {A, B}


async def test_a_key_rests_between_two_passes_whoever_names_it():
    queue = KeyQueue()
    queue.add(A)
    assert await queue.take() == A
    queue.done(A, rest_seconds=0.05)
    queue.add(A)
    queue.add(B)
    assert await queue.take() == B, "the others do not wait for it"
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert await waiting == A
