import asyncio

import pytest

from e2e.load import Arrival, Outcome, Result, Target
from e2e.load.client import client_session, send
from e2e.load.tests.conftest import FakeServer

ASKED = Arrival(at_seconds=0.0, input_tokens=30, output_tokens=8)


async def ask(target: Target) -> Result:
    async with client_session() as session:
        return await send(session, target, ASKED)


async def test_a_whole_answer_is_ok_and_measured(server: FakeServer) -> None:
    result = await ask(server.target)
    assert (result.outcome, result.status, result.got_tokens, result.error) == (Outcome.OK, 200, 8, "")
    assert result.ttft_seconds is not None
    assert result.itl_seconds is not None
    assert 0 < result.ttft_seconds < result.total_seconds
    assert 0 < 7 * result.itl_seconds < result.total_seconds


async def test_the_request_asks_for_exactly_so_many_tokens(server: FakeServer) -> None:
    await ask(server.target)
    body = server.bodies[0]
    assert len(body["prompt"].encode()) == 4 * ASKED.input_tokens
    assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (8, True, True)


async def test_prompts_as_token_ids(server: FakeServer) -> None:
    await ask(Target(server.url, "tiny", token_ids=True))
    assert len(server.bodies[0]["prompt"]) == ASKED.input_tokens


@pytest.mark.parametrize(
    ("behaviour", "outcome", "status", "words"),
    [
        ("refuses", Outcome.FAILED, 503, "no worker"),
        ("reports an error", Outcome.FAILED, 200, "Decode transfer failed"),
        ("one token short", Outcome.TRUNCATED, 200, "7 of 8 tokens"),
        ("does not end", Outcome.TRUNCATED, 200, "no end of stream"),
        ("breaks off", Outcome.TRUNCATED, 200, "ClientPayloadError"),
        ("hangs", Outcome.TRUNCATED, 200, "not whole after 1 s"),
    ],
)
async def test_what_is_not_whole_is_told_apart(
    server: FakeServer, behaviour: str, outcome: Outcome, status: int, words: str
) -> None:
    server.behaviour = behaviour
    result = await ask(server.target)
    assert (result.outcome, result.status) == (outcome, status)
    assert words in result.error


async def test_a_server_that_is_not_there_fails_the_request() -> None:
    result = await ask(Target("http://127.0.0.1:9", "tiny"))
    assert (result.outcome, result.status, result.ttft_seconds) == (Outcome.FAILED, 0, None)
    assert "ClientConnectorError" in result.error


async def test_what_met_the_end_of_a_kept_connection_is_sent_once_more(server: FakeServer) -> None:
    server.behaviour = "closes kept connections"
    async with client_session() as session:
        first, second = [await send(session, server.target, ASKED) for _ in range(2)]
    assert (first.outcome, first.sent_again) == (Outcome.OK, False)
    assert (second.outcome, second.got_tokens, second.sent_again) == (Outcome.OK, 8, True)
    assert len(server.bodies) == 3


async def test_a_new_connection_that_is_closed_fails_the_request(server: FakeServer) -> None:
    server.behaviour = "closes all"
    result = await ask(server.target)
    assert (result.outcome, result.status, result.sent_again) == (Outcome.FAILED, 0, False)
    assert "ServerDisconnectedError" in result.error
    assert len(server.bodies) == 1


async def test_what_is_closed_again_is_not_sent_a_third_time(server: FakeServer) -> None:
    async with client_session() as session:
        await send(session, server.target, ASKED)
        server.behaviour = "closes all"
        result = await send(session, server.target, ASKED)
    assert (result.outcome, result.sent_again) == (Outcome.FAILED, True)
    assert len(server.bodies) == 3


async def test_an_answer_that_began_is_never_asked_for_again(server: FakeServer) -> None:
    async with client_session() as session:
        await send(session, server.target, ASKED)
        server.behaviour = "breaks off"
        result = await send(session, server.target, ASKED)
    assert (result.outcome, result.sent_again) == (Outcome.TRUNCATED, False)


async def test_cancelling_is_not_swallowed(server: FakeServer) -> None:
    server.behaviour = "hangs"
    task = asyncio.create_task(ask(server.target))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
