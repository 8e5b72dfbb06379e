"""A thin, typed face on `kubernetes.aio`: JSON in, JSON out, errors with the server's own words.

Plain dictionaries instead of the generated model classes: the operator passes manifests through
and does not look into them.
"""

import builtins
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from dopd.api.names import FIELD_MANAGER
from dopd.cluster.decode import decode
from dopd.cluster.fence import may_write, note_write
from dopd.cluster.kinds import Kind, namespace_and_plural

Json = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 15.0
"""No call to the API server may hang a reconcile pass, or outlive the Lease."""

MOST_BYTES = 16 * 2**20
"""Of an answer: to decode it takes a tenth of a second, in which nothing else runs."""

MOST_LIST_BYTES = 64 * 2**20
"""Of all pages of a list together: pods of 2,000 workers are 40 MB."""

PAGE = 250
"""Objects of a list that are asked for at a time; fewer where they are too large together."""

_TOO_LARGE = "TooLarge"
_CONNECTIONS = 24
"""Enough for two whole passes that ask for all at once. Each holds 256 KiB of buffers for TLS."""
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
    """One connection to the API server.

    Attributes:
        writes: begins and ends of writes, by namespace and plural of the kind.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api
        self.writes: Counter[tuple[str, str]] = Counter()

    @classmethod
    async def connect(cls, kubeconfig: str = "", context: str = "") -> "Kubernetes":
        """Connect with the pod's service account, or outside a cluster with KUBECONFIG.

        Args:
            kubeconfig: file to connect by, wherever this runs; "" for the usual one.
            context: of it; "" for its current one.

        Raises:
            RuntimeError: neither is there, or can be used.
        """
        configuration = client.Configuration()
        try:
            if in_cluster() and not (kubeconfig or context):
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(kubeconfig or None, context or None, client_configuration=configuration)
            if urlsplit(configuration.host).scheme not in ("http", "https"):
                raise ValueError(f"{configuration.host} is no URL of an API server")
            configuration.connection_pool_maxsize = _CONNECTIONS
            configuration.client_session_kwargs = {
                # What pods answer through the API server's proxy may want to be kept, too.
                "cookie_jar": aiohttp.DummyCookieJar(),
                # Else aiohttp asks two threads at each request, for a proxy and for a .netrc, and finds neither.
                "trust_env": bool(getproxies()),
            }
            return cls(client.ApiClient(configuration))
        except Exception as error:  # of a file that may hold anything, and a reader that expects a kubeconfig
            words = " ".join(str(error).split())
            if not isinstance(error, config.ConfigException):
                words = f"the kubeconfig can not be used ({type(error).__name__} {words})"
            raise RuntimeError(f"no cluster: {words}; set KUBECONFIG, or run inside a cluster") from error

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
        async for page in self._pages(kind, namespace, selector, most, MOST_LIST_BYTES):
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"] or ()]
            if most is not None and len(items) >= most:
                break
        return items[:most]

    async def _pages(
        self,
        kind: Kind,
        namespace: str | None,
        selector: str,
        most: int | None = None,
        most_bytes: int | None = None,
    ) -> AsyncIterator[Json]:
        path, size, read = kind.path(namespace), min(most or PAGE, PAGE), 0
        query = {"labelSelector": selector} if selector else {}
        while True:
            try:
                raw = await self._read("GET", path, query={**query, "limit": str(size)})
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

    async def update_status(self, kind: Kind, read: Json, status: Json) -> Json:
        """Put a status in the place of the one that was read, unless anybody wrote the object since.

        Raises:
            ApiError: 409 if somebody did.
        """
        meta = read["metadata"]
        path = kind.path(meta.get("namespace"), meta["name"], "status")
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **read, "status": status}
        return await self.request("PUT", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def create(self, kind: Kind, manifest: Json, *, dry_run: bool = False) -> Json:
        """Create an object, or ask whether it would be accepted. A field that nobody knows is refused."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return await self.request("POST", kind.path(manifest["metadata"]["namespace"]), body=manifest, query=query)

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        uid: str | None = None,
        *,
        orphan: bool = False,
        foreground: bool = False,
    ) -> None:
        """Delete an object, and then what it owns; fine when it is gone, or is another one than `uid` by now.

        Args:
            kind: of it.
            namespace: of it.
            name: of it.
            uid: of it; any if absent.
            orphan: leave what it owns, without an owner.
            foreground: delete all that it owns at once, and itself when all of that is gone.
        """
        body: Json = {"propagationPolicy": "Orphan" if orphan else "Foreground" if foreground else "Background"}
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
        written = None if method == "GET" else namespace_and_plural(path)
        if method != "GET":
            if not may_write():
                raise ApiError(0, "NotHeld", f"{method} {path}: not sent, another operator may act for this by now")
            note_write()
        try:
            if written:
                self.writes[written] += 1
            raw = await self._read(method, path, body=body, query=query, content_type=content_type)
        finally:
            if written:  # also where no answer came: it may have been done
                self.writes[written] += 1
        return _decoded(raw, f"{method} {path}")

    async def _read(
        self,
        method: str,
        path: str,
        *,
        body: Json | builtins.list[Json] | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        try:
            response = await self.send(method, path, body=body, query=query, content_type=content_type, limit=timeout)
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

    async def send(
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
        """One request; the answer as it comes, whatever its status. What aiohttp raises is passed on."""
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
