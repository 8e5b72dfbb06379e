"""The parts of a pod that a user writes: a template that is merged over the operator's, and environment variables.

A template is not spelled out field by field: Kubernetes' own fields change with its releases. Its frame is (metadata
and spec), and so are the names and numbers of ports, which probes, gateway and Prometheus go by.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from dopd.api.base import Model, Rule, cel
from dopd.api.flags import RESERVED_ENVIRONMENT

_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_PORT = {
    **_OPEN,
    "properties": {
        "name": {"type": "string", "maxLength": 63, "description": "Name of the port; none if absent."},
        "containerPort": {"type": "integer", "description": "Its number, as in a pod; never absent there."},
    },
}
_CONTAINERS = {
    "type": "array",
    "maxItems": 16,
    "description": "Containers, as in a pod.",
    "items": {
        **_OPEN,
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 63,
                "description": "Name of the container; never absent in a pod. The operator's is engine or router.",
            },
            "ports": {"type": "array", "maxItems": 32, "description": "Ports, as in a pod.", "items": _PORT},
        },
    },
}
_FRAME = ("metadata", "spec")
_TEMPLATE_FRAME = Rule(
    "has(self.metadata) || has(self.spec)",
    "holds neither metadata nor spec; what belongs to a pod stands below spec, such as template.spec.nodeSelector",
)


def _framed(template: dict[str, Any]) -> dict[str, Any]:
    if not template or not set(template) <= set(_FRAME):
        raise ValueError("expected metadata and spec, such as template.spec.nodeSelector")
    return template


PodTemplateOverlay = Annotated[
    dict[str, Any],
    AfterValidator(_framed),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "metadata": {**_OPEN, "description": "Labels and annotations of the pods."},
                "spec": {
                    **_OPEN,
                    "description": "Spec of the pods, as Kubernetes writes it.",
                    "properties": {"containers": _CONTAINERS, "initContainers": _CONTAINERS},
                },
            },
            "x-kubernetes-validations": cel([_TEMPLATE_FRAME]),
        }
    ),
]
"""Part of a pod, as Kubernetes writes it, that is merged over the operator's."""


def port_rules(container: str, ports: dict[str, str]) -> tuple[Rule, ...]:
    """Rules of an object with a template: what the operator calls its ports is not taken by others.

    Args:
        container: the operator's container.
        ports: CEL for the number of each port, by name.
    """
    spec = "self.template.spec"
    rules = []
    for name, number in ports.items():
        own = f"has(c.name) && c.name == '{container}' && has(p.containerPort) && p.containerPort == ({number})"
        fits = f"({own}) ? (!has(p.name) || p.name == '{name}') : (!has(p.name) || p.name != '{name}')"
        in_each = " && ".join(
            f"(!has({spec}.{containers}) || {spec}.{containers}.all(c, !has(c.ports) || c.ports.all(p, {fits})))"
            for containers in ("containers", "initContainers")
        )
        rules.append(
            Rule(
                f"!has(self.template) || !has({spec}) || {in_each}",
                f"the port named {name} is the operator's own in container {container}, and keeps name and number: give"
                " another port another name, and leave out the name of this one",
                ".template",
            )
        )
    return tuple(rules)


class KeyRef(Model):
    """A key of a Secret or a ConfigMap of the same namespace."""

    name: Annotated[str, Field(max_length=253)]
    """Name of the object."""
    key: Annotated[str, Field(min_length=1, max_length=253)]
    """Key in it."""
    optional: bool | None = None
    """Whether a pod starts without it; it waits for it if absent."""


class FieldRef(Model):
    """A field of the pod."""

    api_version: Annotated[str, Field(max_length=16)] | None = None
    """Version of the schema of the path; v1 if absent."""
    field_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Path in the pod, such as status.podIP."""


class ResourceFieldRef(Model):
    """A resource of a container."""

    container_name: Annotated[str, Field(max_length=63)] | None = None
    """Container; the engine if absent."""
    resource: Annotated[str, Field(min_length=1, max_length=253)]
    """Resource, such as limits.memory."""
    divisor: Annotated[str, Field(max_length=32)] | None = None
    """Unit in which it is said; 1 if absent."""


class EnvSource(Model):
    """Where the value of a variable comes from, as in a pod."""

    rules = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef), has(self.resourceFieldRef)]"
            ".filter(given, given).size() == 1",
            "needs one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef, as in a pod's env",
        ),
    )

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""
    field_ref: FieldRef | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldRef | None = None
    """A resource of a container."""


class EnvVar(Model):
    """An environment variable, as in a pod."""

    rules = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "has both value and valueFrom; remove one",
        ),
        Rule(
            f"!(self.name in {list(RESERVED_ENVIRONMENT)})",
            f"the operator sets {', '.join(RESERVED_ENVIRONMENT)} itself; remove it, or set it for container engine in"
            " spec.prefill.template and spec.decode.template",
            ".name",
        ),
    )

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            max_length=253,
            json_schema_extra={"expected": "letters, digits and '_', not beginning with a digit, such as HF_TOKEN"},
        ),
    ]
    """Name of the variable."""
    value: str | None = None
    """Literal value."""
    value_from: EnvSource | None = None
    """Source of the value (secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef), as in a pod."""
