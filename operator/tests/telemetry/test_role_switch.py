"""What engines answer when they are told to change their role, and canaries of pairs."""

from typing import Any

import pytest

from dopd.api.names import Role
from dopd.cluster.podhttp import PodHttpError
from dopd.telemetry.role_switch import CANARY_TOKENS, Pair, Switched, broken_pairs, switch_role

POD = {"metadata": {"name": "m-prefill-a-0"}, "status": {"podIP": "10.0.0.1"}}
PEER = {"metadata": {"name": "m-decode-a-0"}, "status": {"podIP": "10.0.0.2"}}
OK = {"success": True, "message": "ok", "old_role": "prefill", "new_role": "decode", "safe_to_restore": False}


class Engines:
    """Answers one after the other, and what was asked."""

    def __init__(self, *answers: tuple[int, Any] | Exception) -> None:
        self.answers, self.asked = list(answers), []

    async def post_json(self, pod: Any, port: int, path: str, body: Any, timeout_seconds: float) -> tuple[int, Any]:
        self.asked.append((pod["metadata"]["name"], path, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(message: str, *, safe: bool = True) -> tuple[int, Any]:
    return 400, {**OK, "success": False, "message": message, "safe_to_restore": safe}


async def test_it_is_asked_whether_it_could_before_it_is_told():
    engines = Engines((200, {**OK, "message": "ready"}), (200, OK))
    assert await switch_role(engines, POD, Role.DECODE, 1.5) == Switched(done=True)
    asked = [
        (body["new_role"], body["decode_cuda_graph_memory_gb"], body["prepare_only"]) for *_, body in engines.asked
    ]
    assert asked == [("decode", 1.5, True), ("decode", 1.5, False)]


async def test_prefill_needs_no_room_for_graphs():
    engines = Engines((200, OK), (200, OK))
    await switch_role(engines, POD, Role.PREFILL, 1.5)
    assert [body["decode_cuda_graph_memory_gb"] for *_, body in engines.asked] == [None, None]


@pytest.mark.parametrize(
    ("answer", "is_read_as"),
    [
        (refused("instance is not idle; drain all requests before switching"), Switched(done=False)),
        (refused("another role switch is already in progress", safe=False), Switched(done=False)),
        (PodHttpError("no whole answer within 120 s"), Switched(done=False)),
        (
            refused("insufficient decode CUDA graph headroom: required=2.000 GB, available=1.000 GB"),
            Switched(
                done=False, refused="insufficient decode CUDA graph headroom: required=2.000 GB, available=1.000 GB"
            ),
        ),
        (
            refused("instance is unhealthy after a failed role switch; restart required", safe=False),
            Switched(
                done=False,
                refused="instance is unhealthy after a failed role switch; restart required",
                restorable=False,
            ),
        ),
    ],
    ids=["not idle", "in progress", "silence", "no room", "broken"],
)
async def test_refusals(answer: Any, is_read_as: Switched):
    assert await switch_role(Engines(answer), POD, Role.DECODE, 2.0) == is_read_as
    assert await switch_role(Engines((200, OK), answer), POD, Role.DECODE, 2.0) == is_read_as


@pytest.mark.parametrize("answer", [{"detail": "Not Found"}, [], "x", {"success": "perhaps"}, None])
async def test_an_engine_that_does_not_know_the_request_refuses(answer: Any):
    told = await switch_role(Engines((404, answer)), POD, Role.DECODE, 0.0)
    assert not told.done
    assert told.refused.startswith("/pd_role_switch: ")
    assert told.restorable


async def test_a_canary_goes_to_both_with_one_rendezvous():
    engines = Engines((200, {}), (200, {}))
    assert await broken_pairs(engines, [Pair(POD, PEER, 9001)]) == []
    (first, path, body), (second, _, other) = engines.asked
    assert ({first, second}, path) == ({"m-prefill-a-0", "m-decode-a-0"}, "/generate")
    assert body == other
    assert (body["bootstrap_host"], body["bootstrap_port"]) == ("10.0.0.1", 9001)
    assert body["input_ids"] == list(CANARY_TOKENS)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, {"error": {"message": "Decode transfer failed"}}), "status 500: Decode transfer failed"),
        ((503, "busy"), "status 503: busy"),
        (PodHttpError("pod m-decode-a-0 /generate: no whole answer within 5 s"), "no whole answer within 5 s"),
    ],
)
async def test_a_pair_of_which_one_half_fails_is_broken(answer: Any, words: str):
    pair = Pair(POD, PEER, 9001)
    [(broken, why)] = await broken_pairs(Engines((200, {}), answer), [pair])
    assert broken is pair
    assert words in why


async def test_no_pair_no_canary():
    assert await broken_pairs(Engines(), []) == []
