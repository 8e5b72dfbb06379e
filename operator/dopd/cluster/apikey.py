"""The key that engines and gateways of one resource ask for, on its way into the requests to them.

It goes along with a call, so that what reads pods need not name it, and it reaches no pod of another resource. Through
the API server no key can be sent, since it takes the header for its own: an operator outside the cluster reads no
engine that asks for one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

_KEY: ContextVar[str] = ContextVar("api_key", default="")


def key_headers() -> dict[str, str]:
    """Headers of a request to a pod that is made now."""
    key = _KEY.get()
    return {"Authorization": f"Bearer {key}"} if key else {}


@contextmanager
def _sent(key: str) -> Iterator[None]:
    """Requests that begin within have this key."""
    token = _KEY.set(key)
    try:
        yield
    finally:
        _KEY.reset(token)


class Getter(Protocol):
    """What reaches pods (`dopd.cluster.podhttp.PodHttp`)."""

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        """See PodHttp."""

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        """See PodHttp."""


class Poster(Protocol):
    """What changes something in pods (`dopd.cluster.podhttp.PodPost`)."""

    async def post_json(
        self, pod: dict[str, Any], port: int, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """See PodPost."""

    async def write_json(
        self, pod: dict[str, Any], port: int, method: str, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """See PodPost."""


class PostWithKey:
    """The same way to change pods, with a key in each request; with none if it is empty."""

    def __init__(self, http: Poster, key: str) -> None:
        self._http, self._key = http, key

    async def post_json(
        self, pod: dict[str, Any], port: int, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """See PodPost."""
        with _sent(self._key):
            return await self._http.post_json(pod, port, path, body, timeout_seconds)

    async def write_json(
        self, pod: dict[str, Any], port: int, method: str, path: str, body: Any, timeout_seconds: float
    ) -> tuple[int, Any]:
        """See PodPost."""
        with _sent(self._key):
            return await self._http.write_json(pod, port, method, path, body, timeout_seconds)


class WithKey:
    """The same way to pods, with a key in each request; with none if it is empty.

    Args:
        http: the way.
        key: for all pods, or what tells it of one.
    """

    def __init__(self, http: Getter, key: str | Callable[[dict[str, Any]], str]) -> None:
        self._http = http
        self._key_of = (lambda _: key) if isinstance(key, str) else key

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        """See PodHttp."""
        with _sent(self._key_of(pod)):
            return await self._http.get_json(pod, port, path, query)

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        """See PodHttp."""
        with _sent(self._key_of(pod)):
            return await self._http.get_text(pod, port, path)
