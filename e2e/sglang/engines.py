"""Engines with the flags that the operator renders, plus what a machine without a GPU needs."""

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.workers import RoleSpec
from dopd.workloads.engines import engine_flags
from e2e.cluster.ports import LOOPBACK
from e2e.sglang.fleet import Fleet, Server
from e2e.sglang.install import CPU_ENVIRONMENT, STAND_INS, gateway_command, sglang_python
from e2e.sglang.model import CONTEXT_TOKENS, NAME, model_folder

PLUGIN_GROUP = "sglang.srt.plugins"

CPU_FLAGS = (
    "--device", "cpu",
    "--attention-backend", "torch_native",
    "--dtype", "float32",
    "--load-format", "dummy",
    "--max-total-tokens", "65536",  # else it takes the memory of the machine
    "--max-running-requests", "32",
    "--mem-fraction-static", "0.3",
    "--chunked-prefill-size", "2048",
    "--sleep-on-idle",  # an idle scheduler keeps a core busy otherwise
)  # fmt: skip
CPU_PAIR_FLAGS = ("--disaggregation-decode-retraction-backup", "cpu_tensor")

SPEC = DisaggregatedInferenceSpec.model_validate(
    {
        "model": NAME,
        "engine": {"image": "dopd.dev/sglang:dev", "transferBackend": "mooncake_tcp"},
        "prefill": {"gpus": 1, "replicas": 1},
        "decode": {"gpus": 1, "replicas": 1},
        "router": {"image": "dopd.dev/gateway:dev"},
    }
)
"""The resource whose flags the engines get; the model path and the ports are the machine's own."""


@dataclass(frozen=True)
class StartedEngine:
    """An engine as a process of its own.

    Attributes:
        server: its launcher.
        bootstrap_port: where decode finds a prefill engine; 0 without disaggregation.
    """

    server: Server
    bootstrap_port: int = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.server.url


@dataclass(frozen=True)
class StartedPair:
    """A prefill and a decode engine."""

    prefill: StartedEngine
    decode: StartedEngine


def operator_flags(role: Role | None) -> list[str]:
    """The operator's flags for a worker of `role`, with the local model; without disaggregation when None."""
    local = SPEC.model_copy(update={"engine": SPEC.engine.model_copy(update={"model_path": str(model_folder())})})
    role_spec: RoleSpec = local.decode if role is Role.DECODE else local.prefill
    flags = engine_flags(local, role or Role.PREFILL, role_spec)
    return flags if role else _without(flags, "--disaggregation-")


def _without(flags: Sequence[str], prefix: str) -> list[str]:
    """`flags` less those that begin with `prefix`, which have one value each."""
    places = [place for place, flag in enumerate(flags) if flag.startswith(prefix)]
    dropped = {*places, *(place + 1 for place in places)}
    return [flag for place, flag in enumerate(flags) if place not in dropped]


def start_engine(
    fleet: Fleet,
    role: Role | None,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    plugins: Sequence[Path] = (),
) -> StartedEngine:
    """Start an engine on free ports; return before it is ready.

    Args:
        fleet: whose server it is.
        role: prefill, decode, or None for one that serves whole requests.
        flags: further flags; where one is given twice, the last counts.
        environment: further variables.
        plugins: folders for PYTHONPATH, with packages and their entry points (see `plugin_folder`).
    """
    port, bootstrap_port = fleet.port(), fleet.port()
    command: list[str | Path] = [sglang_python(), "-m", "sglang.launch_server", *operator_flags(role), *CPU_FLAGS]
    command += ["--host", LOOPBACK, "--port", str(port)]
    if role:
        command += [*CPU_PAIR_FLAGS, "--disaggregation-bootstrap-port", str(bootstrap_port)]
    own = {
        **CPU_ENVIRONMENT,
        "SGLANG_HOST_IP": LOOPBACK,
        "HOST_IP": LOOPBACK,
        "PYTHONPATH": ":".join(map(str, [STAND_INS, *plugins])),
    }
    server = fleet.launch(
        role or "regular",
        [*command, *flags],
        url=f"http://{LOOPBACK}:{port}",
        ready="/ready",
        environment={**own, **(environment or {})},
    )
    return StartedEngine(server, bootstrap_port if role else 0)


def start_simulator(fleet: Fleet, role: Role | None, *flags: str) -> StartedEngine:
    """Start a simulated engine as a process, with the same flags; return before it is ready."""
    port, bootstrap_port = fleet.port(), fleet.port()
    command: list[str | Path] = [sys.executable, "-m", "dopd_simulator", *operator_flags(role), *CPU_FLAGS]
    command += ["--host", LOOPBACK, "--port", str(port), "--disaggregation-bootstrap-port", str(bootstrap_port)]
    command += ["--context-length", str(CONTEXT_TOKENS), "--sim-startup-seconds", "0", *flags]
    server = fleet.launch(
        f"simulated-{role or 'regular'}",
        command,
        url=f"http://{LOOPBACK}:{port}",
        ready="/ready",
        environment={"SGLANG_HOST_IP": LOOPBACK},
    )
    return StartedEngine(server, bootstrap_port if role else 0)


def start_pair(
    fleet: Fleet,
    *flags: str,
    prefill_flags: Sequence[str] = (),
    decode_flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    prefill_plugins: Sequence[Path] = (),
) -> StartedPair:
    """Start a prefill and a decode engine; return before they are ready. `flags` are for both."""
    return StartedPair(
        start_engine(fleet, Role.PREFILL, *flags, *prefill_flags, environment=environment, plugins=prefill_plugins),
        start_engine(fleet, Role.DECODE, *flags, *decode_flags, environment=environment),
    )


def start_gateway(
    fleet: Fleet, *pairs: StartedPair, flags: Sequence[str] = (), metrics_port: int | None = None
) -> Server:
    """Start the gateway before pairs; return before it is ready (which it is when a worker of each role is)."""
    port, metrics_port = fleet.port(), metrics_port or fleet.port()
    command: list[str | Path] = [*gateway_command(), "launch", "--host", LOOPBACK, "--port", str(port)]
    command += ["--prometheus-host", LOOPBACK, "--prometheus-port", str(metrics_port), "--pd-disaggregation"]
    for pair in pairs:
        command += ["--prefill", pair.prefill.url, str(pair.prefill.bootstrap_port), "--decode", pair.decode.url]
    # As the operator sets them (dopd.workloads.router): a tokenizer would be asked of a model hub.
    command += ["--log-level", "warn", "--disable-tokenizer-autoload", "--worker-startup-check-interval", "2"]
    command += ["--disable-worker-overload-protection", *flags]
    return fleet.launch("gateway", command, url=f"http://{LOOPBACK}:{port}", ready="/readiness", environment={})


def plugin_folder(project: Path, target: Path) -> Path:
    """Write the metadata by which SGLang finds the plugins of a project; return the folder for PYTHONPATH.

    Args:
        project: folder with a `pyproject.toml` that names entry points of `sglang.srt.plugins`.
        target: folder that gets the metadata and links to the project's packages.
    """
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    points: dict[str, str] = described["entry-points"][PLUGIN_GROUP]
    metadata = target / f"{described['name'].replace('-', '_')}-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: 0\n")
    lines = [f"[{PLUGIN_GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for package in project.iterdir():
        if (package / "__init__.py").is_file():
            (target / package.name).symlink_to(package)
    return target
