"""A thin, typed face on `kubernetes.aio`: JSON in, JSON out, errors with the server's own words.

Plain dictionaries instead of the generated model classes: the operator passes manifests through
and does not look into them.
"""

import json
from pathlib import Path
from typing import Any

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
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message or reason)
        self.status, self.reason, self.message = status, reason, message or reason


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
        request = await self.api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self.api.call_api(*request, _request_timeout=REQUEST_TIMEOUT_SECONDS)
            text: str = (await response.read()).decode()
        except (ApiException, OSError, TimeoutError) as error:
            raise ApiError(0, "Unreachable", f"{method} {path}: {type(error).__name__} {error}") from error
        if response.status >= 300:
            raise _error(response.status, text)
        return text


def in_cluster() -> bool:
    """Whether this process runs in a pod with a service account."""
    return (_SERVICE_ACCOUNT / "token").exists()


def own_namespace(default: str = "default") -> str:
    """Namespace of the pod that this process runs in."""
    path = _SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.exists() else default


def _error(status: int, text: str) -> ApiError:
    try:
        answer = json.loads(text)
        return ApiError(status, answer.get("reason", ""), answer.get("message", ""))
    except (json.JSONDecodeError, AttributeError):
        return ApiError(status, "", text[:500])
