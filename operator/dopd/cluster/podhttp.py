"""HTTP requests to pods: straight to the pod's address inside the cluster, through the API server outside it.

What a pod answers is its owner's affair, so nothing of it is taken on trust: an answer is read up to a size and for a
time as a whole, no redirect is followed, a large one is parsed off the event loop, and a pod that wastes time or size
is left alone for growing pauses. Pods of one resource share some connections, and take none from another's. Large
answers of all pods together take no more room than there is (`room`).
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, NoReturn, Protocol

import aiohttp
from aiohttp.abc import AbstractResolver
from kubernetes.aio.client.exceptions import ApiException
from yarl import URL

from dopd.api.names import INSTANCE_LABEL
from dopd.cluster import kinds
from dopd.cluster.apikey import key_headers
from dopd.cluster.backoff import Backoff
from dopd.cluster.bodies import BadBody, Body, parse_json
from dopd.cluster.client import Kubernetes
from dopd.cluster.fairness import FairGate
from dopd.cluster.fence import may_write, note_write
from dopd.cluster.room import SMALL_BYTES, Place, Room

TIMEOUT_SECONDS = 5.0
"""For a whole answer."""
LARGEST_ANSWER_BYTES = 2**20
"""After decompression; a real engine's longest, `/metrics`, is a third of that."""
PARSED_ON_THE_LOOP_BYTES = 2**15
CONNECTIONS, CONNECTIONS_OF_RESOURCE, CONNECTIONS_OF_NAMESPACE = 128, 8, 8
"""Of all, of a resource at most, and of a namespace whatever the others do."""
CONNECTION_SECONDS = 40.0
"""A connection is kept for so long after an answer, if the pod keeps it: until after the looks of the next two
readings. To make one takes almost as long as to ask."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0
"""After an answer that took too long or was too large. A refused connection costs nothing, so it is no reason."""

Pod = dict[str, Any]
Query = dict[str, str] | None


class PodHttpError(Exception):
    """A pod did not answer, or answered what is not taken."""


class PodHttp(Protocol):
    """The seam: where pods are reached, and where a test puts its own."""

    async def get_json(self, pod: Pod, port: int, path: str, query: Query = None) -> Any:
        """GET a path of a pod; its JSON, of whatever shape.

        Raises:
            PodHttpError: no answer in time, an error status, too much of it, or no JSON.
        """

    async def get_text(self, pod: Pod, port: int, path: str) -> str:
        """GET a path of a pod; its text.

        Raises:
            PodHttpError: no answer in time, an error status, or too much of it.
        """


class PodPost(Protocol):
    """The seam of the few requests that change something."""

    async def post_json(self, pod: Pod, port: int, path: str, body: Any, timeout_seconds: float) -> tuple[int, Any]:
        """POST JSON to a path of a pod; the status of its answer, and its JSON.

        Raises:
            PodHttpError: no answer in time, too much of it, or no JSON.
        """

    async def write_json(
        self, pod: Pod, port: int, method: str, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """The same with another method, PUT or DELETE; the body may be None.

        Raises:
            PodHttpError: no answer in time, too much of it, or no JSON.
        """


class PodAccess(PodHttp, PodPost, Protocol):
    """Both."""


class _Guarded:
    """What both ways to a pod have in common: limits, fairness and pauses."""

    _decompressed: ClassVar[bool] = False
    """Bodies come decompressed, a bounded piece at a time."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room()
        self._gate = FairGate(CONNECTIONS, CONNECTIONS_OF_RESOURCE, CONNECTIONS_OF_NAMESPACE)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        self._parsers = ThreadPoolExecutor(1, "parse")  # a second one would only wait for the interpreter

    async def get_json(self, pod: Pod, port: int, path: str, query: Query = None) -> Any:
        """See PodHttp."""
        async with self._get(pod, port, path, query, json=True) as body:
            try:
                if len(body) <= PARSED_ON_THE_LOOP_BYTES:
                    return parse_json(body)
                return await asyncio.get_running_loop().run_in_executor(self._parsers, parse_json, body)
            except BadBody as error:
                raise PodHttpError(f"pod {pod['metadata']['name']} {path}: {error}") from error

    async def get_text(self, pod: Pod, port: int, path: str) -> str:
        """See PodHttp."""
        async with self._get(pod, port, path, None, json=False) as body:
            return body.decode(errors="replace")

    async def post_json(self, pod: Pod, port: int, path: str, body: Any, timeout_seconds: float) -> tuple[int, Any]:
        """See PodPost."""
        return await self.write_json(pod, port, "POST", path, body, timeout_seconds)

    async def write_json(
        self, pod: Pod, port: int, method: str, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """See PodPost. It may take long, so it holds no place among those that are looked at, and leads to no pause."""
        name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace", "")
        if not may_write():
            raise PodHttpError(f"pod {name} {path}: not sent, another operator may act for it by now")
        note_write()
        place = self._room.place(namespace, LARGEST_ANSWER_BYTES)
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._request(pod, port, path, None, body, method)
                return response.status, parse_json(await self._read(response, place, json=True))
        except TimeoutError as error:
            raise PodHttpError(f"pod {name} {path}: no whole answer within {timeout_seconds:g} s") from error
        except (BadBody, aiohttp.ClientError, ApiException, OSError, ValueError) as error:
            raise PodHttpError(f"pod {name} {path}: {type(error).__name__} {error}") from error
        finally:
            place.leave()

    async def close(self) -> None:
        """Give threads and connections up."""
        self._parsers.shutdown(wait=False)

    @asynccontextmanager
    async def _get(self, pod: Pod, port: int, path: str, query: Query, *, json: bool) -> AsyncIterator[bytearray]:
        """The body of an answer; its room is given back with the end of the block."""
        meta = pod["metadata"]
        name, namespace = meta["name"], meta.get("namespace", "")
        resource = (namespace, meta.get("labels", {}).get(INSTANCE_LABEL, name))
        who = (meta.get("uid", f"{namespace}/{name}"), port)
        if left := self._pauses.seconds_left(who):
            raise PodHttpError(f"pod {name} {path}: it was too slow or said too much; asked again in {left:.0f} s")
        place = self._room.place(namespace, LARGEST_ANSWER_BYTES)
        try:
            async with self._gate.of(resource):
                try:
                    async with asyncio.timeout(TIMEOUT_SECONDS):
                        body = await self._body(pod, port, path, query, place, json=json)
                except (BadBody, TimeoutError) as error:
                    self._pauses.failed(who)
                    words = str(error) or f"no whole answer within {TIMEOUT_SECONDS:g} s"
                    raise PodHttpError(f"pod {name} {path}: {words}") from error
                except (aiohttp.ClientError, ApiException, OSError, ValueError) as error:
                    raise PodHttpError(f"pod {name} {path}: {type(error).__name__} {error}") from error
            self._pauses.succeeded(who)
            yield body
        finally:
            place.leave()

    async def _body(self, pod: Pod, port: int, path: str, query: Query, place: Place, *, json: bool) -> bytearray:
        response = await self._request(pod, port, path, query)
        if response.status != HTTPStatus.OK:
            response.release()
            raise PodHttpError(f"pod {pod['metadata']['name']} {path}: status {response.status}, expected 200")
        return await self._read(response, place, json=json)

    async def _read(self, response: aiohttp.ClientResponse, place: Place, *, json: bool) -> bytearray:
        try:
            encoding = "" if self._decompressed else response.headers.get("Content-Encoding", "")
            body = Body(LARGEST_ANSWER_BYTES, encoding, json=json, small_bytes=SMALL_BYTES)
            async for piece in response.content.iter_any():
                body.feed(piece)
                if body.waits:
                    await place.enter(body)
                    body.grow()
            place.read()
            return body.whole()
        finally:
            response.release()  # a connection whose answer was not read to its end is closed

    async def _request(
        self, pod: Pod, port: int, path: str, query: Query, body: Any = None, method: str = "GET"
    ) -> aiohttp.ClientResponse:
        raise NotImplementedError


class DirectPodHttp(_Guarded):
    """For the operator inside the cluster.

    Args:
        resolver: of names in place of addresses, for tests.
        room: for large answers; absent: of its own.
    """

    def __init__(self, resolver: AbstractResolver | None = None, room: Room | None = None) -> None:
        super().__init__(room)
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give threads and connections up."""
        await super().close()
        if self._session:
            await self._session.close()

    async def _request(
        self, pod: Pod, port: int, path: str, query: Query, body: Any = None, method: str = "GET"
    ) -> aiohttp.ClientResponse:
        address = pod.get("status", {}).get("podIP")
        if not address:
            raise PodHttpError(f"pod {pod['metadata']['name']} has no address yet")
        if self._session is None:  # needs a running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=self._resolver, keepalive_timeout=CONNECTION_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "gzip"},
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(),  # none: whoever asks has one around the whole, and each costs a timer
            )
        return await self._session.request(
            method,
            _url(address, port, path, tuple(query.items()) if query else ()),
            json=body,
            headers=key_headers(),
            allow_redirects=False,
        )


@lru_cache(maxsize=2**15)
def _url(address: str, port: int, path: str, query: tuple[tuple[str, str], ...]) -> URL:
    """The same few URLs are asked for again and again; to make one takes a tenth of the request."""
    host = f"[{address}]" if ":" in address else address
    return URL(f"http://{host}:{port}{path}").with_query(query or None)


class ProxyPodHttp(_Guarded):
    """For the operator outside the cluster: the API server's pod proxy."""

    _decompressed = True

    def __init__(self, kubernetes: Kubernetes, room: Room | None = None) -> None:
        super().__init__(room)
        self._api = kubernetes.api
        # The API server redirects nobody. A pod behind its proxy may try to, to wherever it likes.
        no_redirects = aiohttp.TraceConfig()
        no_redirects.on_request_redirect.append(_refuse_redirect)
        self._api.configuration.trace_configs = [no_redirects]

    async def _request(
        self, pod: Pod, port: int, path: str, query: Query, body: Any = None, method: str = "GET"
    ) -> aiohttp.ClientResponse:
        meta = pod["metadata"]
        target = kinds.POD.path(meta["namespace"], f"{meta['name']}:{port}", "proxy") + path
        request = await self._api.param_serialize(
            method,
            target,
            query_params=list((query or {}).items()),
            header_params={} if body is None else {"Content-Type": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(*request, _request_timeout=TIMEOUT_SECONDS if method == "GET" else None)
        response: aiohttp.ClientResponse = answer.response
        return response


async def _refuse_redirect(*_: Any) -> NoReturn:
    raise aiohttp.ClientError("redirected, which is not followed")
