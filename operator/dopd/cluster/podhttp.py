"""HTTP requests to pods: straight to the pod's address inside the cluster, through the API server outside it."""

import copy
import json
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx

from dopd.cluster import kinds
from dopd.cluster.client import ApiError, Kubernetes

TIMEOUT_SECONDS = 5.0


class PodHttpError(Exception):
    """A pod did not answer, or answered with an error."""


class PodHttp(Protocol):
    """The seam: where pods are reached, and where a test puts its own."""

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        """GET a path of a pod; its JSON.

        Raises:
            PodHttpError: no answer in time, an error status, or no JSON.
        """

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        """GET a path of a pod; its text.

        Raises:
            PodHttpError: no answer in time, or an error status.
        """


def with_key(http: PodHttp, key: str) -> PodHttp:
    """The same way to pods, with the key of spec.apiKey.

    Through the API server no key can be sent: it takes the header for its own. Such an operator reads no engine that
    asks for one.
    """
    return http.with_key(key) if key and isinstance(http, DirectPodHttp) else http


class DirectPodHttp:
    """For the operator inside the cluster."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._headers: dict[str, str] = {}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=32)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits, transport=transport, trust_env=False)

    def with_key(self, key: str) -> "DirectPodHttp":
        """The same connections, with a key in each request."""
        keyed = copy.copy(self)
        keyed._headers = {"Authorization": f"Bearer {key}"}
        return keyed

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        """See PodHttp."""
        response = await self._get(pod, port, path, query)
        try:
            return response.json()
        except ValueError as error:
            raise PodHttpError(f"pod {pod['metadata']['name']} {path}: {type(error).__name__} {error}") from error

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        """See PodHttp."""
        return (await self._get(pod, port, path, None)).text

    async def _get(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None) -> httpx.Response:
        address = pod.get("status", {}).get("podIP")
        if not address:
            raise PodHttpError(f"pod {pod['metadata']['name']} has no address yet")
        host = f"[{address}]" if ":" in address else address
        try:
            response = await self._client.get(f"http://{host}:{port}{path}", params=query, headers=self._headers)
            return response.raise_for_status()
        except httpx.HTTPError as error:
            raise PodHttpError(f"pod {pod['metadata']['name']} {path}: {type(error).__name__} {error}") from error


class ProxyPodHttp:
    """For the operator outside the cluster: the API server's pod proxy."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        """See PodHttp."""
        try:
            return json.loads(await self._get(pod, port, path, query))
        except ValueError as error:
            raise PodHttpError(f"pod {pod['metadata']['name']} {path}: {error}") from error

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        """See PodHttp."""
        return await self._get(pod, port, path, None)

    async def _get(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None) -> str:
        meta = pod["metadata"]
        target = kinds.POD.path(meta["namespace"], f"{meta['name']}:{port}", "proxy") + path
        try:
            return await self._kubernetes.request_text("GET", target, query=query)
        except ApiError as error:
            raise PodHttpError(
                f"pod {meta['name']} {path}{'?' + urlencode(query) if query else ''}: {error}"
            ) from error
