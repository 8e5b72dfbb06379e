"""Workers that may change their role while they run (spec.roleSwitching): what their containers are started with."""

from importlib.resources import files
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import BOOTSTRAP_TURNS, ENGINE_CONTAINER
from dopd.api.workers import Ports, RoleSpec
from dopd.workloads.connection import listening_host
from dopd.workloads.refusal import Refusal
from dopd.workloads.sglang_versions import Feature, supports, version_of_image

_FORWARDER = files("dopd.engine_side").joinpath("alias_ports.py").read_text(encoding="utf-8")

LAST_PORT = 65535

_OF_LAUNCH = ("image", "args", "env", "envFrom")
"""Of a container in a template: what its engine is started with."""


def convertible(spec: DisaggregatedInferenceSpec) -> bool:
    """Whether workers may change their role."""
    return spec.role_switching is not None and spec.role_switching.enabled


def refuse_unable(spec: DisaggregatedInferenceSpec, role_spec: RoleSpec) -> None:
    """Refuse what can not change its role.

    Raises:
        Refusal: the release has no role switch, the roles' engines are not started alike, a worker spans several nodes,
            or there is no room for the further bootstrap ports.
    """
    if not convertible(spec):
        return
    _refuse_unlike(spec)
    version = version_of_image(spec.engine.image)
    if version is not None and not supports(version, Feature.ROLE_SWITCH):
        first = ".".join(map(str, Feature.ROLE_SWITCH.first))
        raise Refusal("spec.roleSwitching.enabled", f"needs SGLang {first} or later; the image is {spec.engine.image}")
    if role_spec.nodes > 1:
        raise Refusal("spec.roleSwitching.enabled", "needs workers of one node; set it to false, or nodes to 1")
    ports = role_spec.ports
    last = ports.bootstrap + BOOTSTRAP_TURNS
    if last > LAST_PORT or ports.bootstrap <= ports.engine <= last:
        taken = f"ports {ports.bootstrap} to {last} of a worker for its bootstrap server"
        raise Refusal("spec.roleSwitching.enabled", f"takes {taken}; give ports.engine or ports.bootstrap another one")


def _refuse_unlike(spec: DisaggregatedInferenceSpec) -> None:
    """A worker that changes its role keeps what it was started with, so this must fit both roles."""
    fix = "a worker that changes its role keeps what it was started with"
    if spec.prefill.args != spec.decode.args:
        told = f"is {spec.decode.args}, and that of spec.prefill is {spec.prefill.args}; {fix}: write them to spec"
        raise Refusal("spec.decode.args", f"{told}.engine.args, or set spec.roleSwitching.enabled to false")
    mine, other = (_engine(role_spec) for role_spec in (spec.decode, spec.prefill))
    for name in _OF_LAUNCH:
        if mine.get(name) != other.get(name):
            field = f"spec.decode.template.spec.containers[{ENGINE_CONTAINER}].{name}"
            told = f"differs from that of spec.prefill; {fix}: write the same to both"
            raise Refusal(field, f"{told}, or set spec.roleSwitching.enabled to false")


def _engine(role_spec: RoleSpec) -> dict[str, Any]:
    """The engine's container in a template; one that is no list or no map is refused where templates are merged."""
    template: Any = role_spec.template or {}
    containers = (template.get("spec") or {}).get("containers")
    found = [each for each in containers if isinstance(each, dict)] if isinstance(containers, list) else []
    return next((each for each in found if each.get("name") == ENGINE_CONTAINER), {})


def switching_flags(spec: DisaggregatedInferenceSpec) -> list[str]:
    """Flags with which an engine can change its role (sglang 0.5.23 disaggregation/role_switch.py).

    The prefix cache is off in both roles: a decode engine runs without, so an engine that brought one along from its
    time as prefill counts its KV cache wrong and ends ("pool memory leak detected").
    """
    return ["--enable-pd-role-switch", "--disable-radix-cache"] if convertible(spec) else []


def forwarding(spec: DisaggregatedInferenceSpec, ports: Ports) -> list[str]:
    """What stands before the engine's command: it opens further bootstrap ports, see `dopd.engine_side.alias_ports`."""
    if not convertible(spec):
        return []
    return ["python3", "-c", _FORWARDER, listening_host(spec), str(ports.bootstrap), str(BOOTSTRAP_TURNS)]
