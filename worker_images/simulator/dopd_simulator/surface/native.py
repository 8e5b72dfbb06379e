"""/generate, SGLang's own endpoint."""

import json
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from dopd_simulator.request import Finish, Request
from dopd_simulator.server import Server
from dopd_simulator.surface.bodies import GenerateBody, OutsideVocabularyError, generate_request
from dopd_simulator.surface.errors import native_error, openai_error, validation_message
from dopd_simulator.surface.sse import EventStream
from dopd_simulator.text import output_ids, output_text, weight_versions


def routes(server: Server) -> list[web.RouteDef]:
    """The routes of this module."""

    async def generate(http: web.Request) -> web.StreamResponse:
        try:
            body = GenerateBody.model_validate_json(await http.read())
        except ValidationError as error:
            return openai_error(400, validation_message(error), "Bad Request")
        try:
            request = server.check_new(generate_request(body, server.options, server.engine.scheduler.limits.kv_tokens))
        except OutsideVocabularyError:
            await server.die()
        except ValueError as error:
            return await _refuse(http, str(error)) if body.stream else native_error(400, str(error))
        async with server.admitted(request):
            if request.stream:
                return await _stream(http, server, request)
            await request.done()
            assert request.finish is not None  # done
            if request.finish.status is not None:
                return failure(request.finish)
            return web.json_response(_answer(server, request, 0, request.output_tokens))

    return [web.post("/generate", generate), web.put("/generate", generate)]


def failure(finish: Finish) -> web.Response:
    """The answer to a request that did not stream and ended in an error (_handle_abort_finish_reason)."""
    assert finish.status is not None  # an error has one
    if finish.status == 400:
        return native_error(400, finish.message)
    return openai_error(finish.status, finish.message, str(finish.status))


async def _refuse(http: web.Request, message: str) -> web.StreamResponse:
    """A stream that is refused is still a stream: HTTP 200 and an error event (serve_generate_request)."""
    events = EventStream(http)
    error = {"message": message, "type": "invalid_request_error", "code": 400, "retryable": False}
    await events.send(json.dumps({"error": error}))
    return await events.done()


async def _stream(http: web.Request, server: Server, request: Request) -> web.StreamResponse:
    events = EventStream(http)
    async for start, end in request.outputs():
        first = start if server.options.incremental_streaming_output else 0
        await events.send(json.dumps(_answer(server, request, first, end)))
    return await events.done()


def _answer(server: Server, request: Request, start: int, end: int) -> dict[str, Any]:
    finish = request.finish
    meta: dict[str, Any] = {
        "id": request.rid,
        "finish_reason": finish.as_json() if finish is not None else None,
        "prompt_tokens": request.prompt_tokens,
        "weight_version": "default",
        "num_retractions": request.retractions,
        "reasoning_tokens": 0,
        "completion_tokens": end,
        "cached_tokens": 0,
        "cached_tokens_details": None,
        "dp_rank": None,
    }
    if finish is not None:
        meta["weight_versions"] = weight_versions(end)
        meta["e2e_latency"] = server.engine.clock.wall(request.finished - request.created)
    return {"text": output_text(start, end), "output_ids": output_ids(start, end), "meta_info": meta}
