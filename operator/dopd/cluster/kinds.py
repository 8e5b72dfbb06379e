"""The kinds of object that the operator reads or writes, and their paths in the Kubernetes API."""

from typing import Any, NamedTuple

from dopd.api.base import API_VERSION


class Kind(NamedTuple):
    """One kind; of one that is in no namespace, that is None or empty."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Version within the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of a collection, an object or a subresource."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{scope}", self.plural, name, subresource) if part)


def namespace_and_plural(path: str) -> tuple[str, str] | None:
    """Of the path of an object or a collection in a namespace, as `Kind.path` makes it; None for others."""
    _, found, rest = path.partition("/namespaces/")
    namespace, _, below = rest.partition("/")
    return (namespace, below.partition("/")[0]) if found and below else None


INFERENCE = Kind(API_VERSION, "DisaggregatedInference", "disaggregatedinferences")
PROFILE = Kind(API_VERSION, "EngineProfile", "engineprofiles")
GPU_POOL = Kind(API_VERSION, "GpuPool", "gpupools")
WORKER_SCALE = Kind(API_VERSION, "WorkerScale", "workerscales")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
LEADER_WORKER_SET = Kind("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")
"""A worker of several nodes. Its definition is somebody else's, and asked for only where such workers are."""

APPLIED_KINDS = (
    SERVICE_ACCOUNT,
    ROLE,
    ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    CONTROLLER_REVISION,
    SERVICE,
    DISRUPTION_BUDGET,
)
"""Kinds of the children of a DisaggregatedInference that are written whole, again and again."""

CHILD_KINDS = (*APPLIED_KINDS, WORKER_SCALE)
"""Kinds of all children. The spec of a WorkerScale is somebody else's once it is made."""


def kind_of(manifest: dict[str, Any]) -> Kind:
    """The kind of a child's manifest."""
    return next(k for k in CHILD_KINDS if (k.api_version, k.kind) == (manifest["apiVersion"], manifest["kind"]))


def controller(thing: dict[str, Any]) -> dict[str, Any]:
    """The owner reference of the controller of an object; empty without one."""
    owners: list[dict[str, Any]] = thing["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def is_ours(reference: dict[str, Any], name: str) -> bool:
    """Whether a controller is a DisaggregatedInference of a name, this one or an earlier one: group, kind and name."""
    group = str(reference.get("apiVersion", "")).rpartition("/")[0]
    return (group, reference.get("kind"), reference.get("name")) == (INFERENCE.group, INFERENCE.kind, name)
