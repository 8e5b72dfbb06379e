"""A pod template: the operator's defaults, the user's template over them, and defaults that give way to choices.

Kubernetes refuses some pairs of fields. Where one of a pair is the user's choice and the other the operator's default,
the default goes. Two choices of the user that do not go together are left to the API server to refuse.
"""

import copy
from collections.abc import Mapping
from typing import Any

from dopd.api.flags import Reserved, first_reserved
from dopd.api.names import API_KEY_VARIABLE, CONTROL_KEY_VARIABLE, ROLE_VARIABLE
from dopd.workloads.merge import overlay
from dopd.workloads.meta import Manifest
from dopd.workloads.refusal import Refusal

_ABOVE_CONTAINER = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile")
"""Fields that a container may set and a pod sets for all its containers."""

_ESCALATING = {"SYS_ADMIN", "CAP_SYS_ADMIN"}


def pod_template(
    base: Manifest,
    user: Mapping[str, Any] | None,
    *,
    where: str,
    container: str,
    args: str,
    reserved: tuple[Reserved, ...],
) -> Manifest:
    """The template of the pods.

    Args:
        base: what the operator sets; holds the one container `container`.
        user: the template of the spec; None without one.
        where: its field, such as spec.prefill.template.
        container: name of the operator's container.
        args: the fields that further words of its command belong to, for a message.
        reserved: flags that its arguments must not have.

    Raises:
        Refusal: the template can not be merged, or changes what the operator needs as it is.
    """
    if not user:
        return base
    merged: Manifest = overlay(copy.deepcopy(base), dict(user), where)
    chosen = _container(user.get("spec") or {}, container)
    if "command" in chosen:  # null would leave the image's own
        field = f"{where}.spec.containers[{container}].command"
        raise Refusal(field, f"is written by the operator; leave it out, and say further words in {args}")
    if (found := first_reserved(chosen.get("args"), reserved)) is not None:
        word, group = found
        field = f"{where}.spec.containers[{container}].args"
        raise Refusal(field, f"has {word!r}, which means {' or '.join(group.flags)}; remove it: {group.instead}")
    _keep_marks(base, merged, where)
    pod = merged.get("spec", {})
    engine = _container(pod, container)
    if not engine:
        raise Refusal(f"{where}.spec.containers", f"takes container {container} away; list only what is beside it")
    own = _container(base["spec"], container)
    _keep_gpus(own, engine, f"{where}.spec.containers[{container}].resources")
    _keep_reachable(own, engine, f"{where}.spec.containers[{container}]")
    _yield_security(own, engine, chosen, user.get("spec") or {})
    _yield_port_names(own, engine)
    _yield_hook(own, engine, pod)
    _drop_unused_volumes(base["spec"], pod)
    return merged


def _keep_marks(base: Manifest, merged: Manifest, where: str) -> None:
    """Labels and annotations by which operator, gateway and Deployment find the pods."""
    for part in ("labels", "annotations"):
        now = merged.get("metadata", {}).get(part, {})
        for name, value in base["metadata"].get(part, {}).items():
            if now.get(name) != value:
                raise Refusal(f"{where}.metadata.{part}[{name}]", "is the operator's own; leave it out")


def _keep_gpus(own: Manifest, merged: Manifest, where: str) -> None:
    for part, amounts in own.get("resources", {}).items():
        for name, amount in amounts.items():
            now = _map(_map(merged, "resources"), part).get(name)
            if str(now) != amount:
                raise Refusal(f"{where}.{part}[{name}]", f"differs from the role's gpus, {amount}; say it there alone")


_OF_THE_COMMAND = {
    API_KEY_VARIABLE: "spec.apiKey",
    CONTROL_KEY_VARIABLE: "spec.router.controlKey",
    ROLE_VARIABLE: "spec.roleSwitching",
}
"""Variables that the operator's command refers to, and what sets them."""


def _keep_reachable(own: Manifest, merged: Manifest, where: str) -> None:
    """The ports by which a container is found, and the key: without it the reference in the command is taken for it."""
    there = {port["containerPort"] for port in merged.get("ports", [])}
    for port in own["ports"]:
        if port["containerPort"] not in there:
            raise Refusal(f"{where}.ports", f"takes port {port['containerPort']} of the operator away; leave that out")
    for variable in own.get("env", []):
        if variable["name"] in _OF_THE_COMMAND and variable not in merged.get("env", []):
            name = variable["name"]
            raise Refusal(f"{where}.env[{name}]", f"is set by {_OF_THE_COMMAND[name]}; leave it out")


def _yield_security(own: Manifest, merged: Manifest, chosen: Manifest, pod: Mapping[str, Any]) -> None:
    defaults, context = own.get("securityContext", {}), _map(merged, "securityContext")
    choice, above = _map(chosen, "securityContext"), _map(pod, "securityContext")
    given_up = set()
    added = _map(choice, "capabilities").get("add")
    if choice.get("privileged") is True or (isinstance(added, list) and not _ESCALATING.isdisjoint(map(str, added))):
        given_up.add("allowPrivilegeEscalation")
    given_up.update(name for name in _ABOVE_CONTAINER if above.get(name) is not None)
    if choice.get("runAsUser", above.get("runAsUser")) == 0:
        given_up.add("runAsNonRoot")
    for name in given_up & defaults.keys() - choice.keys():
        context.pop(name, None)


def _yield_port_names(own: Manifest, merged: Manifest) -> None:
    """A name stands for one port of a container."""
    mine = {port["name"]: port["containerPort"] for port in own.get("ports", ())}
    ports = merged.get("ports", [])
    names = [_text(port.get("name")) for port in ports]
    for name, port in zip(names, ports, strict=True):
        if names.count(name) > 1 and mine.get(name) == port["containerPort"]:
            del port["name"]


def _yield_hook(own: Manifest, merged: Manifest, pod: Manifest) -> None:
    """The pause before a stop must fit into the time that a pod has to stop."""
    seconds, hook = pod.get("terminationGracePeriodSeconds"), _map(_map(merged, "lifecycle"), "preStop")
    if hook != own.get("lifecycle", {}).get("preStop") or not isinstance(seconds, int):
        return
    if seconds < hook["sleep"]["seconds"]:
        if seconds > 0:
            hook["sleep"] = {"seconds": seconds}
        else:
            del merged["lifecycle"]["preStop"]


def _drop_unused_volumes(base: Manifest, pod: Manifest) -> None:
    """A volume of the operator in whose place every container mounts another."""
    mine = {volume["name"] for volume in base.get("volumes", ())}
    containers = [c for part in ("containers", "initContainers") for c in pod.get(part, [])]
    used = {_text(mount.get("name")) for container in containers for mount in container.get("volumeMounts", [])}
    if mine - used:
        pod["volumes"] = [v for v in pod.get("volumes", []) if v["name"] in used or v["name"] not in mine]


def _container(pod: Mapping[str, Any], name: str) -> Manifest:
    containers = pod.get("containers") or []
    return next((c for c in containers if c.get("name") == name), {})


def _map(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
