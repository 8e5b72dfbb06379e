"""/v1/completions and /v1/chat/completions: the events and answers of SGLang's OpenAI endpoints."""

import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from dopd_simulator.request import Request
from dopd_simulator.server import Server
from dopd_simulator.surface.bodies import ChatBody, CompletionBody, TokenizeBody, openai_request
from dopd_simulator.surface.errors import error_body, openai_error, validation_message
from dopd_simulator.surface.sse import EventStream
from dopd_simulator.text import output_text, text_ids, weight_versions

Body = CompletionBody | ChatBody
Json = dict[str, Any]


def routes(server: Server) -> list[web.RouteDef]:
    """The routes of this module."""

    def handler(model: type[CompletionBody] | type[ChatBody]) -> Callable[[web.Request], Any]:
        async def handle(http: web.Request) -> web.StreamResponse:
            if http.content_type != "application/json":
                return openai_error(400, "Unsupported Media Type: Only 'application/json' is allowed", "Bad Request")
            body: Body
            try:
                body = model.model_validate_json(await http.read())
            except ValidationError as error:
                return openai_error(400, validation_message(error), "Bad Request")
            try:
                request = server.check_new(
                    openai_request(body, server.options, server.engine.scheduler.limits.kv_tokens)
                )
            except ValueError as error:
                return openai_error(400, str(error), "BadRequestError")
            async with server.admitted(request):
                if body.stream:
                    return await _stream(http, body, request)
                return await _whole(body, request)

        return handle

    async def tokenize(http: web.Request) -> web.Response:
        try:
            body = TokenizeBody.model_validate_json(await http.read())
        except ValidationError as error:
            return openai_error(400, validation_message(error), "Bad Request")
        ids = text_ids(body.prompt, server.options.sim_vocabulary)
        context = server.options.context_length
        return web.json_response({"tokens": ids, "count": len(ids), "max_model_len": context})

    return [
        web.post("/v1/tokenize", tokenize),
        web.post("/tokenize", tokenize),
        web.post("/v1/completions", handler(CompletionBody)),
        web.post("/v1/chat/completions", handler(ChatBody)),
    ]


async def _whole(body: Body, request: Request) -> web.Response:
    await request.done()
    finish = request.finish
    assert finish is not None  # done
    if finish.status is not None:
        return openai_error(
            finish.status, finish.message, "BadRequestError" if finish.status == 400 else str(finish.status)
        )
    text = output_text(0, request.output_tokens)
    chat = isinstance(body, ChatBody)
    choice: Json = {"index": 0}
    if chat:
        choice["message"] = {"role": "assistant", "content": text, "reasoning_content": None}
    else:
        choice["text"] = text
    choice |= {"logprobs": None, "finish_reason": finish.type, "matched_stop": finish.as_json().get("matched")}
    return web.json_response({
        "id": request.rid,
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": body.model,
        "choices": [choice],
        "usage": _usage(request, request.output_tokens),
        "metadata": {"weight_version": "default", "weight_versions": weight_versions(request.output_tokens)},
    })  # fmt: skip


async def _stream(http: web.Request, body: Body, request: Request) -> web.StreamResponse:
    events = EventStream(http)
    chat = isinstance(body, ChatBody)
    created = int(time.time())
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {"id": request.rid, "object": kind, "created": created, "model": body.model}

    def event(choice: Json | None, usage: Json | None) -> str:
        full: Json = {**head, "choices": [] if choice is None else [choice]}
        if usage is not None or not chat:  # chat leaves an absent usage out
            full["usage"] = usage
        return json.dumps(full, separators=(",", ":"))

    opened = False
    async for start, end in request.outputs():
        finish = request.finish
        if finish is not None and finish.status is not None:
            await events.send(json.dumps({"error": error_body(finish.status, finish.message, _name(finish.status))}))
            break
        usage = _usage(request, end) if body.continuous_usage else None
        text = output_text(start, end)
        reason = finish.type if finish is not None else None
        matched = finish.as_json().get("matched") if finish is not None else None
        payloads: list[str] = []
        if chat:
            if not opened:
                payloads.append(event(_chat_choice({"role": "assistant", "content": ""}), None))
            if text:
                payloads.append(event(_chat_choice({"content": text}), usage))
            if reason is not None:
                payloads.append(event(_chat_choice({}, reason, matched), None))
        else:
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "matched_stop": matched}
            payloads.append(event(choice, usage))
        opened = True
        await events.send(*payloads)
    else:
        if body.include_usage:
            usage = _usage(request, request.output_tokens)
            if not chat:
                usage = {name: count for name, count in usage.items() if count is not None}
            await events.send(event(None, usage))
    return await events.done()


def _chat_choice(delta: Json, reason: str | None = None, matched: object = None) -> Json:
    return {
        "index": 0,
        "delta": {"reasoning_content": None, **delta},
        "logprobs": None,
        "finish_reason": reason,
        "matched_stop": matched,
    }


def _usage(request: Request, output_tokens: int) -> Json:
    return {
        "prompt_tokens": request.prompt_tokens,
        "total_tokens": request.prompt_tokens + output_tokens,
        "completion_tokens": output_tokens,
        "prompt_tokens_details": None,
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def _name(status: int) -> str:
    return {400: "BAD_REQUEST", 500: "INTERNAL_SERVER_ERROR", 503: "SERVICE_UNAVAILABLE"}[status]
