"""kopf's connection to the API server: it lets names and labels through, and nothing else.

kopf decodes each event with `json.loads`, which something that is nested 1,000 deep ends, and kopf ends the process
with it. A tenant can write such things: into templates, and into the managed fields of any object. So metadata alone is
asked for, an answer is decoded here, where depth does no harm, and of an object kopf gets what the handlers use. An
event that can not be read is left out: the next one of the object is seen, and each resource is looked at now and then.
"""

import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import kopf

from dopd.cluster.decode import decode, lines
from dopd.cluster.watch import MOST_EVENT_BYTES

_LOG = logging.getLogger(__name__)

METADATA_ONLY = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io,application/json"
"""Header Accept by which the API server leaves spec and status out; what has no metadata comes as it is."""

_KEPT = ("name", "namespace", "uid", "resourceVersion", "labels")


async def login(*, settings: kopf.OperatorSettings, **_: Any) -> kopf.AiohttpSession | None:
    """Where kopf would log in by itself, over a session of this module; None where there is no cluster."""
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        return None
    return kopf.AiohttpSession(
        server=found.server,
        aiohttp_session=made(found.as_http_headers(), found.as_ssl_context(), found.proxy_url, found.trust_env),
        priority=found.priority,
        default_namespace=found.default_namespace,
        expiration=found.expiration,
    )


def made(
    headers: Mapping[str, str], tls: ssl.SSLContext | None, proxy: str | None = None, trust_env: bool = False
) -> aiohttp.ClientSession:
    """A session that lets names and labels through. Each watch keeps a connection, so there is no limit to them."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        headers=headers,
        proxy=proxy,
        trust_env=trust_env,
        middlewares=[_metadata_only],
        response_class=_Response,
    )


async def _metadata_only(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    request.headers["Accept"] = METADATA_ONLY.format("" if _is_watch(request.url.query) else "List")
    return await handler(request)


def _is_watch(query: Mapping[str, str]) -> bool:
    return query.get("watch") == "true"


class _Response(aiohttp.ClientResponse):
    """What kopf reads: `json` of a list or of a description of the API, and lines of a watch in pieces."""

    async def json(self, **_: Any) -> Any:
        answer = decode(await self.read())
        if isinstance(answer, dict) and "items" in answer:
            return {**answer, "items": [bare(item) for item in answer["items"] or ()]}  # null where there are none
        return answer

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        await super().start(connection)
        if _is_watch(self.url.query) and self.ok:
            self.content = _Events(self.content)  # type: ignore[assignment]
        return self


class _Events:
    """The events of a watch without what stands in their objects; in place of aiohttp's stream."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """What kopf asks for: pieces, in which lines may begin and end anywhere; here each is a line."""
        async for line in lines(self._content.iter_chunked(size), MOST_EVENT_BYTES):
            event = bare_event(line)
            if event is not None:
                yield event


def bare_event(line: bytes) -> bytes | None:
    """An event with the names and labels of its object alone; None of one that can not be read."""
    try:
        event = decode(line)
        if event["type"] != "ERROR":
            event = {"type": event["type"], "object": bare(event["object"])}
        return json.dumps(event).encode() + b"\n"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("watch: an event that can not be read (%s): %.200r", error, line)
        return None


def bare(thing: dict[str, Any]) -> dict[str, Any]:
    """An object without spec, status, annotations and managed fields.

    Raises:
        KeyError: it has no metadata.
    """
    metadata = {name: thing["metadata"][name] for name in _KEPT if name in thing["metadata"]}
    return {**{name: thing[name] for name in ("apiVersion", "kind") if name in thing}, "metadata": metadata}
