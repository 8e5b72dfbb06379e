"""All checks, in order: what is cheap first, and the GPUs last."""

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

from dopd_sglang import versions
from dopd_sglang.preflight import gpus, host, memory, model, transfer
from dopd_sglang.preflight.findings import Finding, Level, ok, refused, skipped, warning
from dopd_sglang.preflight.flags import EngineFlags, FlagError, parse

NAMES = (
    "version",
    "flags",
    "model",
    "ports",
    "cache",
    "temporary",
    "shared-memory",
    "rdma",
    "driver",
    "gpus",
    "free-memory",
    "peer-access",
    "memory",
)
"""What `--allow` takes."""


def run_all(command: Sequence[str], environment: Mapping[str, str]) -> list[Finding]:
    """Check what an engine's command needs.

    A check that fails itself says so and refuses nothing: it is not the engine.

    Args:
        command: the engine's command line.
        environment: its environment.
    """
    findings = [_guarded("version", lambda: check_version(installed_version()))]
    try:
        flags = parse(command)
    except FlagError as error:
        return [*findings, refused("flags", str(error), "a command line that SGLang takes", "correct the flag")]
    folder = model.read_folder(flags.model_path)
    findings.append(_guarded("model", lambda: model.check(folder, flags)))
    for flag, port in host.ports(flags).items():
        findings.append(_guarded("ports", lambda: _port(flag, flags.host, port)))  # noqa: B023 called at once
    findings += [
        _guarded("cache", lambda: host.check_cache(host.probe_space(host.cache_folder(environment)))),
        _guarded("temporary", lambda: host.check_temporary(host.probe_space(environment.get("TMPDIR") or "/tmp"))),
        _guarded("shared-memory", lambda: host.check_shared_memory(host.probe_space("/dev/shm"), flags)),
        _guarded("rdma", lambda: transfer.check(transfer.probe(environment), flags)),
    ]
    if on_cpu(flags, environment):
        return [*findings, skipped("gpus", "--device cpu: no GPU is checked")]
    return [*findings, *check_gpus(gpus.probe(), folder, flags)]


def on_cpu(flags: EngineFlags, environment: Mapping[str, str]) -> bool:
    """Whether the engine shall run on the CPU."""
    forced = environment.get("SGLANG_USE_CPU_ENGINE", "").lower() in ("1", "true")
    return flags.device == "cpu" or (flags.device is None and forced)


def check_gpus(seen: gpus.Gpus, folder: model.Folder, flags: EngineFlags) -> list[Finding]:
    """The checks of GPUs; each of them only where those before it found no reason to refuse."""
    findings: list[Finding] = []
    steps: list[tuple[str, Callable[[], Finding]]] = [
        ("driver", lambda: gpus.check_driver(seen)),
        ("gpus", lambda: gpus.check_count(seen, flags)),
        ("free-memory", lambda: gpus.check_shared(seen, flags)),
        ("peer-access", lambda: gpus.check_peers(seen, flags)),
        ("memory", lambda: memory.check(_fullest(seen, flags), folder, flags)),
    ]
    for name, step in steps:
        findings.append(_guarded(name, step))
        if findings[-1].level is Level.REFUSED:
            break
    return findings


def _fullest(seen: gpus.Gpus, flags: EngineFlags) -> gpus.Gpu:
    wanted = gpus.used(flags)
    return min((gpu for gpu in seen.devices if gpu.index in wanted), key=lambda gpu: gpu.free_bytes)


def installed_version() -> str | None:
    """The version of SGLang that is installed, without importing it."""
    try:
        return metadata.version("sglang")
    except metadata.PackageNotFoundError:
        return None


def check_version(installed: str | None) -> Finding:
    """Whether this package knows the SGLang that is installed."""
    known = ", ".join(versions.KNOWN)
    if installed is None:
        return refused("version", "SGLang is not installed", f"SGLang {known}", "an image with SGLang")
    if installed not in versions.KNOWN:
        fix = "an image with a known release, or a newer dopd; the engine orders prompts by its own policy"
        return warning("version", f"SGLang {installed}", known, fix)
    return ok("version", f"SGLang {installed}")


def _port(flag: str, address: str, port: int) -> Finding:
    return host.check_port(flag, address, port, host.bind_error(address, port))


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        found = f"the check itself failed: {type(error).__name__}: {error}"
        return warning(name, found, "an answer", "report it, with the line above; the engine starts all the same")
