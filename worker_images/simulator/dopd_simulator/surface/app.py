"""All routes in one aiohttp application, with the HTTP counters around them."""

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from dopd_simulator.server import Server
from dopd_simulator.surface import control, native, openai, probes
from dopd_simulator.surface.sse import STREAMS

MAX_BODY_BYTES = 256 * 1024 * 1024


def build_app(server: Server) -> web.Application:
    """The HTTP surface of a server."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_counting(server)])
    for module in (probes, native, openai, control):
        app.add_routes(module.routes(server))
    return app


async def listen(server: Server) -> web.AppRunner:
    """Serve the HTTP surface on the host and port of the options; the runner tells the port and ends it.

    Raises:
        OSError: the port is taken.
    """
    runner = web.AppRunner(build_app(server), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, server.options.host, server.options.port).start()
    return runner


def _counting(server: Server) -> Middleware:
    metrics = server.engine.metrics.http

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        endpoint = resource.canonical if resource is not None else request.path
        method = request.method
        metrics.requests.inc(1, endpoint, method)
        metrics.active.add(1, endpoint, method)
        status = 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except asyncio.CancelledError:  # the client has left
            status = 200 if request.get(STREAMS) else 400
            raise
        except web.HTTPException as error:
            status = error.status
            return web.json_response({"detail": error.reason}, status=status)
        finally:
            metrics.responses.inc(1, endpoint, str(status), method)
            metrics.active.add(-1, endpoint, method)

    return count
