"""The workers of one role: pods that run one SGLang engine each."""

import math
from typing import Any

from dopd.api.base import seconds
from dopd.api.flags import ENGINE_FLAGS
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import (
    BOOTSTRAP_PORT_ANNOTATION,
    BOOTSTRAP_PORT_NAME,
    ENGINE_CONTAINER,
    ENGINE_PORT,
    ENGINE_PORT_NAME,
    LAUNCH_LABEL,
    POOL_LABEL,
    ROLE_LABEL,
    ROLE_VARIABLE,
    WORKER_PORTS_ANNOTATION,
    Role,
)
from dopd.api.pods import EnvVar
from dopd.api.workers import Parallelism, RoleSpec
from dopd.workloads.batch import batch_engine_flags
from dopd.workloads.connection import api_key_flag, api_key_variable, listening_host
from dopd.workloads.engine_order import engine_order
from dopd.workloads.groups import member_template, node_flags, refuse_sizes
from dopd.workloads.merge import overlay_list
from dopd.workloads.meta import Manifest, Owner, pod_labels
from dopd.workloads.refusal import Refusal
from dopd.workloads.role_switching import convertible, forwarding, refuse_unable, switching_flags
from dopd.workloads.scheduling import scheduling_mount, scheduling_volume
from dopd.workloads.template import pod_template
from dopd.workloads.topology import with_topology

STARTUP_LIMIT_SECONDS = 3600
"""A worker that is not ready after this long is restarted: weights of large models take tens of minutes to load."""

ROUTING_LAG_SECONDS = 5
"""A pod that is deleted keeps serving this long, until every gateway has noticed."""


CACHE_FOLDER = "/var/cache/dopd"
"""What engines compile on the way (kernels, graphs) is kept here over restarts of the container."""


_OWN_ENV = [
    {"name": name, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} for name in ("SGLANG_HOST_IP", "HOST_IP")
]


_ROLE_NOW = {"name": ROLE_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{POOL_LABEL}']"}}}


def worker_template(owner: Owner, spec: DisaggregatedInferenceSpec, role: Role) -> Manifest:
    """The pod template of the workers of one role; of several nodes with that of the other pods, see `Revision`.

    Raises:
        Refusal: the spec asks for what a pod can not have.
    """
    role_spec = spec.prefill if role is Role.PREFILL else spec.decode
    where = f"spec.{role}.template"
    refuse_unable(spec, role_spec)
    refuse_sizes(owner, role, role_spec, [*spec.engine.args, *role_spec.args])
    template = pod_template(
        _pod_template(owner, spec, role, role_spec),
        role_spec.template,
        where=where,
        container=ENGINE_CONTAINER,
        args=f"spec.engine.args or spec.{role}.args",
        reserved=ENGINE_FLAGS,
    )
    if template["spec"].get("restartPolicy", "Always") != "Always":
        raise Refusal(f"{where}.spec.restartPolicy", "must be Always, so that an engine starts again; leave it out")
    template = with_topology(template, spec, owner, where)
    if role_spec.nodes > 1:
        template["group"] = {"nodes": role_spec.nodes, "member": member_template(template)}
    return template


def _pod_template(owner: Owner, spec: DisaggregatedInferenceSpec, role: Role, role_spec: RoleSpec) -> Manifest:
    switches = convertible(spec)
    launched = {LAUNCH_LABEL: role} if switches else {}
    metadata: Manifest = {"labels": pod_labels(owner, role, **{ROLE_LABEL: role}, **launched)}
    numbers = role_spec.ports
    ports = [{"name": ENGINE_PORT_NAME, "containerPort": numbers.engine}]
    annotations: dict[str, str] = {}
    if numbers.engine != ENGINE_PORT:
        annotations[WORKER_PORTS_ANNOTATION] = str(numbers.engine)
    if role is Role.PREFILL:
        annotations[BOOTSTRAP_PORT_ANNOTATION] = str(numbers.bootstrap)
    if role is Role.PREFILL or switches:
        ports.append({"name": BOOTSTRAP_PORT_NAME, "containerPort": numbers.bootstrap})
    if annotations:
        metadata["annotations"] = annotations
    engine = spec.engine
    gpus = {role_spec.gpu_resource: str(role_spec.gpus // role_spec.nodes)}
    container: Manifest = {
        "name": ENGINE_CONTAINER,
        "image": engine.image,
        "command": [
            *forwarding(spec, numbers),
            *engine.command,
            *engine_flags(spec, role, role_spec),
            *engine.args,
            *role_spec.args,
        ],
        "env": overlay_list(
            [*_OWN_ENV, *api_key_variable(spec), *([_ROLE_NOW] if switches else [])],
            [_env(entry) for entry in engine.env],
            "spec.engine.env",
            "spec.containers.env",
        ),
        "ports": ports,
        "resources": {"limits": gpus, "requests": gpus},
        "startupProbe": _probe("/ready", numbers.engine, period=1, failures=STARTUP_LIMIT_SECONDS),
        "readinessProbe": _probe("/ready", numbers.engine, period=2, failures=3),
        # SGLang answers /health through the scheduler: no answer in 20 s, three times, is an engine that hangs.
        "livenessProbe": _probe("/health", numbers.engine, period=30, failures=3, timeout=25),
        "lifecycle": {"preStop": {"sleep": {"seconds": ROUTING_LAG_SECONDS}}},
        "securityContext": {"allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "cache", "mountPath": CACHE_FOLDER},
        ],
    }
    if engine.image_pull_policy:
        container["imagePullPolicy"] = engine.image_pull_policy.value
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(seconds(engine.termination_grace_period)) + ROUTING_LAG_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": engine.shared_memory}},
            {"name": "cache", "emptyDir": {}},
        ],
    }
    if role is Role.PREFILL or switches:
        container["volumeMounts"].append(scheduling_mount())
        pod["volumes"].append(scheduling_volume(owner))
    if engine.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in engine.image_pull_secrets]
    return {"metadata": metadata, "spec": pod}


def engine_flags(spec: DisaggregatedInferenceSpec, role: Role, role_spec: RoleSpec) -> list[str]:
    """SGLang's flags that follow from the spec (sglang 0.5.23 ServerArgs)."""
    flags = {
        "--model-path": spec.engine.model_path or spec.model,
        "--served-model-name": spec.model,
        "--host": listening_host(spec),
        "--port": role_spec.ports.engine,
        "--tp-size": role_spec.tensor_size,
        # Of a worker that may change its role Kubernetes puts in what its label says when the container starts.
        "--disaggregation-mode": f"$({ROLE_VARIABLE})" if convertible(spec) else role,
        "--disaggregation-transfer-backend": spec.engine.transfer_backend,
    }
    if role is Role.PREFILL or convertible(spec):
        flags["--disaggregation-bootstrap-port"] = role_spec.ports.bootstrap
    sizes = role_spec.parallelism or Parallelism()
    if sizes.pipeline > 1:
        flags["--pp-size"] = sizes.pipeline
    if sizes.data > 1:
        flags["--dp-size"] = sizes.data
    if sizes.expert:
        flags["--ep-size"] = sizes.expert
    switches = [
        "--enable-metrics",
        *(["--enable-dp-attention"] if sizes.data_attention else []),
        *switching_flags(spec),
    ]
    own_order = engine_order(spec).flags if role is Role.PREFILL else ()  # a decode engine does not start with it
    words = (part for flag, value in flags.items() for part in (flag, str(value)))
    batch = batch_engine_flags(spec, role)
    return [*words, *node_flags(role_spec), *switches, *own_order, *batch, *api_key_flag(spec)]


def _env(entry: EnvVar) -> dict[str, Any]:
    return entry.model_dump(by_alias=True, exclude_none=True)


def _probe(path: str, port: int, *, period: int, failures: int, timeout: int = 5) -> Manifest:
    return {
        "httpGet": {"path": path, "port": port},  # not its name, which a template may give to another port
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
