"""A thin, typed face on `kubernetes.aio`: JSON in, JSON out, errors with the server's own words.

Plain dictionaries instead of the generated model classes: the operator passes manifests through
and does not look into them.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from dopd.api.names import FIELD_MANAGER
from dopd.cluster.kinds import Kind

Json = dict[str, Any]

REQUEST_TIMEOUT_SECONDS = 15.0
"""No call to the API server may hang a reconcile pass, or outlive the Lease."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status (0: no answer).
        reason: Kubernetes reason, such as Conflict, Invalid, Forbidden.
        message: the server's message for people.
        retry_after_seconds: as it asks for; 0 where it does not.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message or reason)
        self.status, self.reason, self.message = status, reason, message or reason
        self.retry_after_seconds = retry_after_seconds


class Kubernetes:
    """One connection to the API server."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    async def connect(cls) -> "Kubernetes":
        """Connect with the pod's service account, or outside a cluster with KUBECONFIG.

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
        configuration.connection_pool_maxsize = 64
        # The API server redirects nobody. A pod behind its proxy may try to, to wherever it likes.
        no_redirects = aiohttp.TraceConfig()
        no_redirects.on_request_redirect.append(_refuse_redirect)
        configuration.trace_configs = [no_redirects]
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

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> list[Json]:
        """All objects of a kind in a namespace (or all namespaces) that match a label selector."""
        query = {"labelSelector": selector} if selector else {}
        answer = await self.request("GET", kind.path(namespace), query=query)
        return [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in answer["items"]]

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
        body: Json | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """One request; the answer's JSON.

        Raises:
            ApiError: the server refused it, or did not answer in time.
        """
        text = await self.request_text(method, path, body=body, query=query, content_type=content_type)
        answer: Json = json.loads(text)
        return answer

    async def request_text(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> str:
        """One request; the answer as text (for the pod proxy, which passes on what the pod says)."""
        request = await self._serialize(method, path, query, content_type, body)
        try:
            response = await self.api.call_api(*request, _request_timeout=REQUEST_TIMEOUT_SECONDS)
            text: str = (await response.read()).decode()
        except (ApiException, OSError, TimeoutError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path}: {type(error).__name__} {error}") from error
        if response.status >= 300:
            raise _error(response.status, text, response.headers.get("Retry-After"))
        return text

    @asynccontextmanager
    async def stream(self, path: str, query: dict[str, str] | None = None) -> AsyncIterator[AsyncIterator[bytes]]:
        """One GET whose answer may be of any size (what the pod proxy passes on): its body as it comes, decompressed.

        Raises:
            ApiError: the server refused it, or did not answer in time.
        """
        request = await self._serialize("GET", path, query)
        try:
            answer = await self.api.call_api(*request, _request_timeout=REQUEST_TIMEOUT_SECONDS)
            response: aiohttp.ClientResponse = answer.response
            try:
                if response.status != 200:
                    raise ApiError(response.status, "", f"status {response.status}, expected 200")
                yield response.content.iter_any()
            finally:
                response.close()
        except (ApiException, aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"GET {path}: {type(error).__name__} {error}") from error

    async def _serialize(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        content_type: str = "application/json",
        body: Json | None = None,
    ) -> Any:
        return await self.api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )


def in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return (_SERVICE_ACCOUNT / "token").exists()


def own_namespace(default: str = "default") -> str:
    """Namespace of the pod that this process runs in."""
    path = _SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else default


async def _refuse_redirect(*_: Any) -> NoReturn:
    raise aiohttp.ClientError("redirected, which is not followed")


def _error(status: int, text: str, retry_after: str | None) -> ApiError:
    try:
        answer = json.loads(text)
        reason, message = answer.get("reason", ""), answer.get("message", "")
    except (ValueError, RecursionError, AttributeError):
        reason, message = "", text[:500]
    # The API server sends whole seconds.
    return ApiError(status, reason, message, float(retry_after) if retry_after and retry_after.isdecimal() else 0.0)
