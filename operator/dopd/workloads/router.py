"""The gateway of one resource: SMG with service discovery, and the little that it may read of the cluster.

It finds its workers by their role label on its own, so it keeps routing while the operator is down.
"""

from dataclasses import dataclass

from dopd.api.flags import ROUTER_FLAGS
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import (
    DOMAIN_LABEL,
    ENGINE_PORT,
    INSTANCE_LABEL,
    REVISION_LABEL,
    ROLE_LABEL,
    ROUTER_CONTAINER,
    ROUTER_METRICS_PORT,
    ROUTER_POOL,
    ROUTER_PORT,
    Role,
)
from dopd.api.pairs import ANY, Pair
from dopd.workloads.batch import add_priority_classes, batch_router_flags
from dopd.workloads.connection import (
    api_key_flag,
    api_key_variable,
    control_key_flag,
    control_key_variable,
    listening_host,
)
from dopd.workloads.meta import Manifest, Owner, pod_labels
from dopd.workloads.spread import over_nodes
from dopd.workloads.template import pod_template


def discovery_rights(owner: Owner) -> list[Manifest]:
    """What lets the gateway find the workers: its account, and the right to read pods."""
    name = owner.child_name(ROUTER_POOL)
    rbac = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": owner.metadata(ROUTER_POOL)},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": owner.metadata(ROUTER_POOL),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": owner.metadata(ROUTER_POOL),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
        },
    ]


GRACE_SECONDS = 300
"""So long a gateway that leaves may finish what it serves."""

NOTICE_SECONDS = 5
"""Before its end begins: so long the Service's rules may still send to it."""


@dataclass(frozen=True)
class Gateway:
    """The gateway of one pair of revisions.

    Attributes:
        name: of its Deployment, one of `gateway_names`.
        replicas: its pods.
        pair: revisions, and domain, of the workers that it sends to.
    """

    name: str
    replicas: int
    pair: Pair = ANY


def gateway_names(owner: Owner, pair: Pair) -> tuple[str, ...]:
    """Names that the gateway of a pair may have: the plain one, or its own while another pair's has that."""
    plain = owner.child_name(ROUTER_POOL)
    return (plain, f"{plain}-{pair.name}") if pair.name else (plain,)


def router_deployment(
    owner: Owner, spec: DisaggregatedInferenceSpec, gateway: Gateway, *, closed: bool = True
) -> Manifest:
    """The pods of one gateway.

    Args:
        owner: the resource.
        spec: its spec.
        gateway: which one.
        closed: its control plane asks for a key.

    Raises:
        Refusal: the spec asks for what a pod can not have.
    """
    router, pair = spec.router, gateway.pair
    container: Manifest = {
        "name": ROUTER_CONTAINER,
        "image": router.image,
        "command": [
            "smg",
            "launch",
            *router_flags(owner, spec, pair, closed=closed),
            *batch_router_flags(spec),
            *router.args,
        ],
        "ports": [
            {"name": "http", "containerPort": ROUTER_PORT},
            {"name": "metrics", "containerPort": ROUTER_METRICS_PORT},
        ],
        # Ready only while it knows a prefill and a decode worker: a client never reaches a gateway that can not serve.
        "readinessProbe": {**_probe("/readiness"), "periodSeconds": 1},
        "livenessProbe": {**_probe("/liveness"), "periodSeconds": 10, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": NOTICE_SECONDS}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
        },
        "env": [{"name": "HOME", "value": "/tmp"}, *api_key_variable(spec), *control_key_variable(spec)],
    }
    if router.image_pull_policy:
        container["imagePullPolicy"] = router.image_pull_policy.value
    pod: Manifest = {
        "serviceAccountName": owner.child_name(ROUTER_POOL),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": over_nodes(owner.selector(ROUTER_POOL) | pair.labels),
        "containers": [container],
    }
    template: Manifest = {"metadata": {"labels": pod_labels(owner, ROUTER_POOL, **pair.labels)}, "spec": pod}
    add_priority_classes(spec, template["metadata"], container, pod)
    metadata = owner.metadata(ROUTER_POOL)
    metadata["name"] = gateway.name
    metadata["labels"] |= pair.labels
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": gateway.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": {**owner.selector(ROUTER_POOL), **pair.labels}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(
                template,
                router.template,
                where="spec.router.template",
                container=ROUTER_CONTAINER,
                args="spec.router.args",
                reserved=ROUTER_FLAGS,
            ),
        },
    }


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": ROUTER_PORT}}  # not by name: a template may give that to another port


def router_flags(owner: Owner, spec: DisaggregatedInferenceSpec, pair: Pair = ANY, *, closed: bool = True) -> list[str]:
    """SMG's flags that follow from the spec (smg 1.13.0 `launch`), see `router_deployment`."""

    def selector(role: Role) -> list[str]:
        of_revision = [f"{REVISION_LABEL}={pair.of(role)}"] if pair.of(role) else []
        of_domain = [f"{DOMAIN_LABEL}={pair.domain}"] if pair.domain else []
        return [f"{INSTANCE_LABEL}={owner.name}", f"{ROLE_LABEL}={role}", *of_revision, *of_domain]

    return [
        "--host", listening_host(spec),
        "--port", str(ROUTER_PORT),
        "--prometheus-host", listening_host(spec),
        "--prometheus-port", str(ROUTER_METRICS_PORT),
        "--pd-disaggregation",
        "--prefill-policy", spec.router.prefill_policy,
        "--decode-policy", spec.router.decode_policy,
        # power_of_two by default compares loads that it reads every 10 s: no better than taking turns where prompts
        # differ much. So it takes the worker with the fewest requests in flight, of equal ones the one with the
        # shortest wait; no policy of SMG serves mixed lengths better (docs/notes/gateway-policies.md).
        "--power-of-two-load-metric", "least_requests",
        "--load-monitor-interval", "1",
        "--log-level", "warn",  # four lines for each request otherwise
        "--disable-tokenizer-autoload",  # HTTP workers tokenize; a gateway must not ask a model hub
        "--worker-startup-check-interval", "2",  # a worker that was not ready when it was found waits 30 s otherwise
        # It leaves out a worker with 8 waiting requests unless all have them. One that drains has none, and takes none:
        # every request was refused with 503 until it had left.
        "--disable-worker-overload-protection",
        "--service-discovery",
        "--service-discovery-namespace", owner.namespace,
        "--service-discovery-port", str(ENGINE_PORT),
        # By default it cuts what is not done after 180 s.
        "--shutdown-grace-period-secs", str(GRACE_SECONDS - 2 * NOTICE_SECONDS),
        "--prefill-selector", *selector(Role.PREFILL),
        "--decode-selector", *selector(Role.DECODE),
        *(control_key_flag(owner, spec) if closed else []),
        *api_key_flag(spec),
    ]  # fmt: skip


def router_service(owner: Owner, spec: DisaggregatedInferenceSpec, *, unready: bool = False) -> Manifest:
    """What clients talk to; with `unready` gateways that are not ready, too: those without workers."""
    service = spec.router.service
    port: Manifest = {"name": service.port_name, "port": service.port, "targetPort": ROUTER_PORT, "protocol": "TCP"}
    if service.node_port:
        port["nodePort"] = service.node_port
    extra = {"annotations": service.annotations} if service.annotations else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(ROUTER_POOL, **extra),
        "spec": {
            "type": service.type,
            "selector": owner.selector(ROUTER_POOL),
            "ports": [port],
            **({"publishNotReadyAddresses": True} if unready else {}),
        },
    }
