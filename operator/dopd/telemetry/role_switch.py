"""What is asked of engines that change their role: the change itself, and a canary of a pair.

The door for both: an answer is read as what SGLang 0.5.23 says (managers/io_struct.py: PdRoleSwitchReqOutput), or is a
failure with words.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import Field

from dopd.api.names import Role
from dopd.cluster.podhttp import PodHttpError, PodPost
from dopd.telemetry.addresses import engine_port
from dopd.telemetry.doors import Answer, BadAnswer, printable, validated

Pod = dict[str, Any]

SWITCH_SECONDS = 120.0
"""For a change: on the first one to decode an engine captures its graphs, for tens of seconds."""

CANARY_SECONDS = 10.0
"""A pair that works answers within a tenth of a second where nothing runs, else after the prompt that is computed."""

CANARIES_AT_A_TIME = 4
CANARY_TOKENS = (5, 6, 7, 8, 9, 10, 11, 12)
"""A prompt of ids that every vocabulary has."""

_NOT_YET = ("not idle", "already in progress")
"""Of refusals that a little time mends."""


@dataclass(frozen=True)
class Switched:
    """How an engine answered when it was told to change its role.

    Attributes:
        done: it has the new role.
        refused: why not, for good; "" where it did, or where it may yet.
        restorable: it serves on in its old role.
    """

    done: bool
    refused: str = ""
    restorable: bool = True


class _SwitchAnswer(Answer):
    success: bool
    message: Annotated[str, Field(max_length=100_000)] = ""
    safe_to_restore: bool = False


async def switch_role(http: PodPost, pod: Pod, role: Role, graph_gb: float) -> Switched:
    """Tell an idle engine to change its role: first whether it could, then that it should.

    Args:
        http: the way to it.
        pod: the worker.
        role: the new one.
        graph_gb: GPU memory that must be free for decode graphs, GB, should they be captured now.
    """
    body = {"new_role": role, "decode_cuda_graph_memory_gb": graph_gb if role is Role.DECODE else None}
    answer = Switched(done=False)
    for only in (True, False):
        try:
            sent = {**body, "prepare_only": only}
            _, told = await http.post_json(pod, engine_port(pod), "/pd_role_switch", sent, SWITCH_SECONDS)
            read = validated(_SwitchAnswer, told)
        except PodHttpError:
            return Switched(done=False)  # whether it happened is told by the engine's loads
        except BadAnswer as error:
            return Switched(done=False, refused=f"/pd_role_switch: {printable(str(error))}")
        if not read.success:
            if any(words in read.message for words in _NOT_YET):
                return Switched(done=False)
            return Switched(done=False, refused=printable(read.message)[:500], restorable=read.safe_to_restore)
        answer = Switched(done=not only)
    return answer


@dataclass(frozen=True)
class Pair:
    """A prefill and a decode worker, and the port of the first at which the second pulls from it."""

    prefill: Pod
    decode: Pod
    bootstrap_port: int


async def broken_pairs(http: PodPost, pairs: Sequence[Pair]) -> list[tuple[Pair, str]]:
    """The pairs that do not answer a small request together, and why."""
    places = asyncio.Semaphore(CANARIES_AT_A_TIME)

    async def one(pair: Pair) -> str:
        async with places:
            return await _canary(http, pair)

    found = await asyncio.gather(*map(one, pairs))
    return [(pair, why) for pair, why in zip(pairs, found, strict=True) if why]


async def _canary(http: PodPost, pair: Pair) -> str:
    """Why a pair does not work; "" when it does. One request to both at once, as a gateway sends it."""
    body = {
        "input_ids": list(CANARY_TOKENS),
        "sampling_params": {"max_new_tokens": 2, "temperature": 0, "ignore_eos": True},
        "bootstrap_host": pair.prefill.get("status", {}).get("podIP"),
        "bootstrap_port": pair.bootstrap_port,
        "bootstrap_room": secrets.randbits(62),
    }

    async def post(pod: Pod) -> str:
        try:
            status, answer = await http.post_json(pod, engine_port(pod), "/generate", body, CANARY_SECONDS)
        except PodHttpError as error:
            return printable(str(error))
        if status == HTTPStatus.OK:
            return ""
        return printable(f"pod {pod['metadata']['name']} /generate: status {status}: {_words(answer)}")

    return next(filter(None, await asyncio.gather(post(pair.prefill), post(pair.decode))), "")


def _words(answer: Any) -> str:
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]
