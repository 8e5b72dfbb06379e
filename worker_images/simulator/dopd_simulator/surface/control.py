"""What changes the engine: role switch, pause, cache flush, slow-down, aborts."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from dopd_simulator.server import Server
from dopd_simulator.surface.bodies import AbortBody, PauseBody, RoleSwitchBody, SlowDownBody
from dopd_simulator.surface.errors import openai_error, validation_message

B = TypeVar("B", bound=BaseModel)

_FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. "
    "(When there are running or waiting requests, the operation will not be performed.)\n"
)


class _Refused(Exception):
    def __init__(self, response: web.Response) -> None:
        self.response = response


async def _body(http: web.Request, model: type[B]) -> B:
    try:
        return model.model_validate_json(await http.read())
    except ValidationError as error:
        raise _Refused(openai_error(400, validation_message(error), "Bad Request")) from error


def routes(server: Server) -> list[web.RouteDef]:
    """The routes of this module."""
    engine = server.engine

    async def role_switch(http: web.Request) -> web.Response:
        try:
            body = await _body(http, RoleSwitchBody)
        except _Refused as refused:
            return refused.response
        result = await server.switch_role(
            body.new_role, graph_memory_gb=body.decode_cuda_graph_memory_gb, prepare_only=body.prepare_only
        )
        return web.json_response(result.as_json(), status=200 if result.success else 400)

    async def pause(http: web.Request) -> web.Response:
        try:
            engine.pause((await _body(http, PauseBody)).mode)
        except _Refused as refused:
            return refused.response
        return web.json_response({"message": "Generation paused successfully.", "status": "ok"})

    async def resume(http: web.Request) -> web.Response:
        engine.resume()
        return web.json_response({"message": "Generation continued successfully.", "status": "ok"})

    async def flush(http: web.Request) -> web.Response:
        if engine.idle:
            return web.Response(text=_FLUSHED)
        return web.Response(text="Flush cache failed.\n", status=400)

    async def slow_down(http: web.Request) -> web.Response:
        try:
            seconds = (await _body(http, SlowDownBody)).forward_sleep_time
        except _Refused as refused:
            return refused.response
        engine.scheduler.slow_down_seconds = max(0.0, seconds or 0.0)
        return web.json_response(None)

    async def abort(http: web.Request) -> web.Response:
        try:
            body = await _body(http, AbortBody)
        except _Refused as refused:
            return refused.response
        server.abort(body.rid or "", everything=body.abort_all)
        return web.Response()

    return [
        web.post("/pd_role_switch", role_switch),
        web.post("/pause_generation", pause),
        web.post("/continue_generation", resume),
        web.get("/flush_cache", flush),
        web.post("/flush_cache", flush),
        web.get("/slow_down", slow_down),
        web.post("/slow_down", slow_down),
        web.post("/abort_request", abort),
    ]
