"""A thin, typed face on `kubernetes.aio`: JSON in, JSON out, errors with the server's own words.

Plain dictionaries instead of the generated model classes: the operator passes manifests through
and does not look into them.
"""

import builtins
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from dopd.api.names import FIELD_MANAGER
from dopd.cluster.decode import decode, lines
from dopd.cluster.kinds import Kind

Json = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 15.0
"""No call to the API server may hang a reconcile pass, or outlive the Lease."""

MOST_BYTES = 16 * 2**20
"""Of an answer: to decode it takes a tenth of a second, in which nothing else runs."""

MOST_LIST_BYTES = 64 * 2**20
"""Of all pages of a list together: pods of 2,000 workers are 40 MB."""

MOST_EVENT_BYTES = 8 * 2**20
"""Of one event of a watch; an object has 1.5 MB at most, its text up to four times that."""

PAGE = 250
"""Objects of a list that are asked for at a time; fewer where they are too large together."""

METADATA_ONLY = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
"""Accept header by which the API server leaves spec and status out."""

_TOO_LARGE = "TooLarge"
_CONNECTIONS = 64
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status (0: no answer).
        reason: Kubernetes reason, such as Conflict, Invalid, Forbidden.
        message: the server's message for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason)
        self.status, self.reason, self.message = status, reason, message or reason


class Kubernetes:
    """One connection to the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    async def connect(cls, most_connections: int = _CONNECTIONS) -> "Kubernetes":
        """Connect with the pod's service account, or outside a cluster with KUBECONFIG.

        Args:
            most_connections: at a time; 0 for no limit, where each watch keeps one.

        Raises:
            RuntimeError: neither is there.
        """
        configuration = client.Configuration()
        if in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            try:
                await config.load_kube_config(client_configuration=configuration)
            except config.ConfigException as error:
                raise RuntimeError(f"no cluster: {error}; set KUBECONFIG, or run inside a cluster") from error
        configuration.connection_pool_maxsize = most_connections
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self.api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """One object; None when there is none."""
        try:
            return await self.request("GET", kind.path(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, kind: Kind, namespace: str | None = None, selector: str = "", most: int | None = None
    ) -> list[Json]:
        """Objects of a kind in a namespace (or all namespaces) that match a label selector.

        Args:
            kind: what to list.
            namespace: where; everywhere if absent.
            selector: labels to match.
            most: how many at most, the first by name; all if absent.

        Raises:
            ApiError: see `request`; or the objects together are larger than MOST_LIST_BYTES.
        """
        items: list[Json] = []
        async for page in self._pages(kind, namespace, selector, "application/json", most, MOST_LIST_BYTES):
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"] or ()]
            if most is not None and len(items) >= most:
                break
        return items[:most]

    async def metadata(
        self, kind: Kind, namespace: str | None, selector: str
    ) -> AsyncIterator[tuple[builtins.list[Json], str]]:
        """Metadata of all objects of a kind, page by page, each with the version from which to watch them.

        Raises:
            ApiError: see `request`.
        """
        async for page in self._pages(kind, namespace, selector, METADATA_ONLY.format("List")):
            yield [item["metadata"] for item in page["items"] or ()], page["metadata"]["resourceVersion"]

    async def _pages(
        self,
        kind: Kind,
        namespace: str | None,
        selector: str,
        accept: str,
        most: int | None = None,
        most_bytes: int | None = None,
    ) -> AsyncIterator[Json]:
        path, size, read = kind.path(namespace), min(most or PAGE, PAGE), 0
        query = {"labelSelector": selector} if selector else {}
        while True:
            try:
                raw = await self._read("GET", path, query={**query, "limit": str(size)}, accept=accept)
            except ApiError as error:
                if error.reason != _TOO_LARGE or size == 1:
                    raise
                size = max(1, size // 4)
                continue
            read += len(raw)
            if most_bytes is not None and read > most_bytes:
                raise ApiError(0, _TOO_LARGE, f"GET {path}: the objects are larger than {most_bytes // 2**20} MiB")
            page = _decoded(raw, f"GET {path}")
            yield page
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    async def events(
        self, kind: Kind, namespace: str | None, selector: str, version: str, server_seconds: int, silent_seconds: float
    ) -> AsyncGenerator[bytes]:
        """Changes to the metadata of objects since a version, each a line of JSON, until the server ends it.

        Args:
            kind: what to watch.
            namespace: where; everywhere if None.
            selector: labels to match.
            version: of the list that came before.
            server_seconds: after which the server ends it.
            silent_seconds: after which a connection without any event is given up.

        Raises:
            ApiError: the server refused it, or the connection broke.
        """
        path, query = kind.path(namespace), {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        query |= {"timeoutSeconds": str(server_seconds), **({"labelSelector": selector} if selector else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT_SECONDS, sock_read=silent_seconds)
        try:
            response = await self._send("GET", path, query=query, accept=METADATA_ONLY.format(""), limit=timeout)
            async with response:
                if response.status >= 300:
                    raise _error(response.status, await response.content.read(MOST_BYTES))
                async with aclosing(lines(response.content.iter_any(), MOST_EVENT_BYTES)) as events:
                    async for event in events:
                        yield event
        except (ApiException, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(0, "Unreachable", f"watch {path}: {type(error).__name__} {error}") from error

    async def apply(self, kind: Kind, manifest: Json, subresource: str = "") -> Json:
        """Server-side apply under the operator's field manager; takes fields over from others."""
        meta = manifest["metadata"]
        return await self.request(
            "PATCH",
            kind.path(meta["namespace"], meta["name"], subresource),
            body=manifest,
            content_type="application/apply-patch+yaml",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
        )

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json | None:
        """JSON merge patch; None when the object is gone."""
        try:
            return await self.request(
                "PATCH",
                kind.path(namespace, name),
                body=patch,
                content_type="application/merge-patch+json",
                query={"fieldManager": FIELD_MANAGER},
            )
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def replace_status(self, kind: Kind, namespace: str, name: str, status: Json) -> Json:
        """Put a status in the place of the whole stored one, whoever wrote that and in whatever form."""
        return await self.request(
            "PATCH",
            kind.path(namespace, name, "status"),
            body=[{"op": "add", "path": "/status", "value": status}],
            content_type="application/json-patch+json",
            query={"fieldManager": FIELD_MANAGER},
        )

    async def create(self, kind: Kind, manifest: Json) -> Json:
        """Create an object."""
        return await self.request("POST", kind.path(manifest["metadata"]["namespace"]), body=manifest)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> None:
        """Delete an object in the background; fine when it is gone, or is another one than `uid` by now."""
        body: Json = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(namespace, name), body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | builtins.list[Json] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request; the answer's JSON.

        Raises:
            ApiError: the server refused it, or did not answer in time.
        """
        raw = await self._read(method, path, body=body, query=query, content_type=content_type)
        return _decoded(raw, f"{method} {path}")

    async def request_text(
        self,
        method: str,
        path: str,
        *,
        body: Json | builtins.list[Json] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> str:
        """One request; the answer as text (for the pod proxy, which passes on what the pod says)."""
        raw = await self._read(method, path, body=body, query=query, content_type=content_type)
        return raw.decode(errors="replace")

    async def _read(
        self,
        method: str,
        path: str,
        *,
        body: Json | builtins.list[Json] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        try:
            response = await self._send(
                method, path, body=body, query=query, content_type=content_type, accept=accept, limit=timeout
            )
            async with response:
                raw = bytearray()
                async for chunk in response.content.iter_any():
                    raw += chunk
                    if len(raw) > MOST_BYTES:
                        limit = f"{MOST_BYTES // 2**20} MiB"
                        raise ApiError(0, _TOO_LARGE, f"{method} {path}: the answer is larger than {limit}")
        except (ApiException, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path}: {type(error).__name__} {error}") from error
        if response.status >= 300:
            raise _error(response.status, bytes(raw))
        return bytes(raw)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        limit: aiohttp.ClientTimeout,
        body: Json | builtins.list[Json] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> aiohttp.ClientResponse:
        request = await self.api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self.api.call_api(*request, _request_timeout=limit)
        response: aiohttp.ClientResponse = answer.response
        return response


def in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return (_SERVICE_ACCOUNT / "token").exists()


def own_namespace(default: str = "default") -> str:
    """Namespace of the pod that this process runs in."""
    path = _SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else default


def _decoded(raw: bytes, asked: str) -> Json:
    try:
        answer: Json = decode(raw)
        return answer
    except ValueError as error:
        raise ApiError(0, "Unreadable", f"{asked}: {error}") from error


def _error(status: int, raw: bytes) -> ApiError:
    try:
        answer = decode(raw)
        return ApiError(status, answer.get("reason", ""), answer.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(status, "", raw[:500].decode(errors="replace"))
