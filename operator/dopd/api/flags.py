"""Command-line flags that a user may not give, and the field that says the same.

SGLang 0.5.23 and SMG 1.13.0 read their flags with argparse: a flag has aliases, may be followed by `=value`, and any
beginning that names one flag alone counts as that flag. The last one given wins, so each spelling of a flag that the
operator sets would win over the operator's. Which beginnings are unambiguous differs from release to release, and an
ambiguous one ends the program at its start: so every beginning of a flag below is refused. A test compares the table
with the flags that the two parsers know.
"""

from typing import Any, NamedTuple

from dopd.api.base import Rule


class Reserved(NamedTuple):
    """Flags of one meaning.

    Attributes:
        flags: all names of it, aliases included.
        instead: what to do, for people.
    """

    flags: tuple[str, ...]
    instead: str


ENGINE_FLAGS = (
    Reserved(("--model-path", "--model"), "say it in spec.engine.modelPath, or in spec.model alone"),
    Reserved(("--served-model-name",), "say it in spec.model"),
    Reserved(("--host",), "the operator sets it by spec.ipFamily"),
    Reserved(("--port",), "say it in ports.engine of spec.prefill or spec.decode"),
    Reserved(("--disaggregation-bootstrap-port",), "say it in spec.prefill.ports.bootstrap"),
    Reserved(("--tp-size", "--tensor-parallel-size"), "say it in parallelism.tensor of its role"),
    Reserved(("--pp-size", "--pipeline-parallel-size"), "say it in parallelism.pipeline of its role"),
    Reserved(
        ("--dp-size", "--data-parallel-size", "--enable-dp-attention", "--attn-dp-size",
         "--attention-data-parallel-size"),
        "say it in parallelism.data and parallelism.dataAttention of spec.prefill or spec.decode",
    ),
    Reserved(
        ("--nnodes", "--node-rank", "--dist-init-addr", "--nccl-init-addr"),
        "say it in nodes of spec.prefill or spec.decode",
    ),
    Reserved(("--disaggregation-mode",), "workers of spec.prefill and of spec.decode get theirs from the operator"),
    Reserved(("--disaggregation-transfer-backend",), "say it in spec.engine.transferBackend"),
    Reserved(("--enable-metrics",), "the operator sets it for all workers"),
    Reserved(("--enable-pd-role-switch",), "say it in spec.roleSwitching.enabled"),
    Reserved(("--api-key",), "name a Secret in spec.apiKey"),
    Reserved(
        ("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-keyfile-password", "--enable-ssl-refresh"),
        "probes, gateway and operator speak plain HTTP to workers; encrypt below it (a mesh, a CNI with encryption)",
    ),
    Reserved(("--grpc-mode", "--smg-grpc-mode"), "probes, gateway and operator speak HTTP to workers"),
    Reserved(("--help",), "an engine with it ends at once"),
)  # fmt: skip
"""Flags of SGLang that the operator sets itself, or that keep a worker from serving."""

ROUTER_FLAGS = (
    Reserved(("--host", "--prometheus-host"), "the operator sets it by spec.ipFamily"),
    Reserved(("--port",), "clients use the port of the Service: spec.router.service.port"),
    Reserved(("--prometheus-port",), "the operator sets it, since telemetry is read there"),
    Reserved(
        ("--pd-disaggregation", "--epd-disaggregation", "--enable-igw"),
        "the operator sets how the gateway works: with prefill and decode workers",
    ),
    Reserved(("--prefill-policy",), "say it in spec.router.prefillPolicy"),
    Reserved(("--decode-policy",), "say it in spec.router.decodePolicy"),
    Reserved(
        ("--worker-urls", "--prefill", "--decode", "--encode", "--service-discovery", "--discovery-provider",
         "--discovery-file", "--service-discovery-port", "--service-discovery-namespace", "--selector",
         "--prefill-selector", "--decode-selector", "--encode-selector"),
        "the gateway finds the workers by the labels that the operator sets",
    ),
    Reserved(
        ("--api-key", "--control-plane-api-keys", "--jwt-issuer", "--jwt-audience", "--jwt-jwks-uri",
         "--jwt-role-mapping"),
        "name a Secret in spec.apiKey, the key of clients; the control plane is closed to all but the operator",
    ),
    Reserved(
        ("--tls-cert-path", "--tls-key-path"),
        "probes and operator speak plain HTTP to the gateway; end TLS before it (an Ingress, a Gateway, a mesh)",
    ),
    Reserved(
        ("--model-path", "--model", "--tokenizer-path"),
        "workers tokenize, and the gateway must not ask a model hub; the workers' model is spec.engine.modelPath",
    ),
    Reserved(("--help",), "a gateway with it ends at once"),
)  # fmt: skip
"""Flags of SMG that the operator sets itself, or that keep the gateway from serving."""

RESERVED_ENVIRONMENT = ("SGLANG_HOST_IP", "HOST_IP", "DOPD_API_KEY")
"""Variables of the engine that the operator sets itself; a pod template may still set them for its container."""

_ONE_ITEM = r"^--?$|^-h|^--?[A-Za-z][^=]*[[:space:]]"


def flag_rules(reserved: tuple[Reserved, ...]) -> list[Rule]:
    """CEL rules of a list of arguments."""
    return [
        _none(
            f"arg.matches('{_ONE_ITEM}')",
            "is no single flag or value; write flag and value as two items, or as --flag=value",
        ),
        *(_rule(group) for group in reserved),
    ]


def first_reserved(args: Any, reserved: tuple[Reserved, ...]) -> tuple[str, Reserved] | None:
    """The first argument that names a reserved flag, as the CEL rules find it, and what it means; None without one.

    Args:
        args: of a pod template, so of any form.
        reserved: flags that are looked for.
    """
    for word in args if isinstance(args, list) else ():
        name = word.split("=")[0] if isinstance(word, str) and len(word) > 2 and word.startswith("-") else None
        for group in reserved:
            if name is not None and any(flag.startswith(name) for flag in group.flags):
                return str(word), group
    return None


def _rule(group: Reserved) -> Rule:
    names = "arg.size() > 2 && arg.startsWith('-') && flag.startsWith(arg.split('=')[0])"
    meant = " or ".join(group.flags)
    return _none(f"{list(group.flags)}.exists(flag, {names})", f"means {meant}; remove it: {group.instead}")


def _none(fault: str, message: str) -> Rule:
    return Rule(f"!self.exists(arg, {fault})", message, named=f"self.filter(arg, {fault})[0]")
