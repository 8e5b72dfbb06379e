"""Whether the RDMA devices are there that the transfer of KV cache wants."""

import json
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dopd_sglang.preflight.findings import Finding, ok, refused, skipped, warning
from dopd_sglang.preflight.flags import EngineFlags

NAME = "rdma"
DEVICES = Path("/sys/class/infiniband")
FILES = Path("/dev/infiniband")

_NEEDS = {"mooncake", "mori"}
_PREFERS = {"nixl"}
_FIX = "ask for RDMA devices in the pod's limits (such as rdma/ib: 1)"


@dataclass(frozen=True)
class Rdma:
    """What there is of RDMA.

    Attributes:
        devices: names of the network adapters, such as `mlx5_0`.
        usable: whether this process may open one of their files in /dev/infiniband.
        locked_bytes: memory that this process may lock for transfers; None if unlimited.
        without: variable that makes mooncake go another way, with its value; empty if there is none.
    """

    devices: tuple[str, ...] = ()
    usable: bool = False
    locked_bytes: int | None = None
    without: str = ""


def probe(environment: Mapping[str, str]) -> Rdma:
    """Look for adapters and for the right to use them."""
    devices = tuple(sorted(path.name for path in DEVICES.iterdir())) if DEVICES.is_dir() else ()
    files = FILES.glob("uverbs*") if FILES.is_dir() else ()
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return Rdma(
        devices,
        usable=any(os.access(path, os.R_OK | os.W_OK) for path in files),
        locked_bytes=None if limit == resource.RLIM_INFINITY else limit,
        without=other_way(environment),
    )


def other_way(environment: Mapping[str, str]) -> str:
    """The variable by which mooncake transfers without RDMA, as NAME=VALUE; empty if there is none."""
    for name in ("MC_FORCE_TCP", "SGLANG_MOONCAKE_CUSTOM_MEM_POOL"):
        value = environment.get(name, "")
        if value and value.lower() not in ("0", "false", "none"):
            return f"{name}={value}"
    protocol = environment.get("MOONCAKE_PROTOCOL", "rdma")
    return "" if protocol.lower() == "rdma" else f"MOONCAKE_PROTOCOL={protocol}"


def named_devices(value: str) -> list[str]:
    """The adapters that --disaggregation-ib-device names: a list, a JSON mapping by GPU, or a file with one.

    Raises:
        ValueError: it can not be read.
    """
    text = value.strip()
    if text.endswith(".json"):
        try:
            text = Path(text).read_text()
        except OSError as error:
            raise ValueError(str(error)) from error
    groups = json.loads(text).values() if text.lstrip().startswith("{") else [text]
    return sorted({name.strip() for group in groups for name in str(group).split(",") if name.strip()})


def check(rdma: Rdma, flags: EngineFlags) -> Finding:
    """Whether the transfer backend finds what it wants."""
    backend = flags.disaggregation_transfer_backend
    given = f"--disaggregation-transfer-backend {backend}"
    if not flags.disaggregated:
        return skipped(NAME, f"--disaggregation-mode {flags.disaggregation_mode}: nothing is transferred")
    if backend not in _NEEDS | _PREFERS:
        return skipped(NAME, f"{given} needs no RDMA")
    if flags.disaggregation_ib_device and (finding := _check_names(rdma, flags.disaggregation_ib_device)):
        return finding
    if rdma.devices and rdma.usable:
        if rdma.locked_bytes is not None and rdma.locked_bytes < 2**30:
            found = f"{given}: only {rdma.locked_bytes} bytes may be locked (ulimit -l)"
            return warning(NAME, found, "no limit", "add the capability IPC_LOCK, or raise the runtime's limit")
        return ok(NAME, f"{given}: {', '.join(rdma.devices)}")
    found = f"{given}: " + (f"{FILES}/uverbs* cannot be opened" if rdma.devices else "no RDMA device in this container")
    if backend == "mooncake" and rdma.without:
        return ok(NAME, f"{given} with {rdma.without}: no RDMA is needed")
    if backend in _PREFERS:
        return warning(NAME, found, "RDMA; over TCP the KV cache takes many times as long", _FIX)
    return refused(NAME, found, "RDMA", f"{_FIX}, or --disaggregation-transfer-backend mooncake_tcp")


def _check_names(rdma: Rdma, value: str) -> Finding | None:
    given = f"--disaggregation-ib-device {value}"
    there = ", ".join(rdma.devices) or "none"
    try:
        names = named_devices(value)
    except ValueError as error:
        return refused(
            NAME, f"{given} cannot be read: {error}", "names, or a JSON mapping of GPUs to names", "correct it"
        )
    unknown = [name for name in names if name not in rdma.devices]
    if unknown or not names:
        return refused(NAME, f"{given}: {', '.join(unknown) or 'no name'}", f"devices that are there: {there}", _FIX)
    return None
