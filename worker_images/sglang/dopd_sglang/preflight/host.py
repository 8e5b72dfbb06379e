"""Ports that the engine opens and folders that it writes to."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dopd_sglang.preflight.findings import Finding, ok, refused, warning
from dopd_sglang.preflight.flags import EngineFlags

GIB = 2**30
CACHE_BYTES = 5 * GIB
"""Compiled kernels of one model and GPU take one to three GiB."""

SHARED_MEMORY_BYTES = GIB
"""NCCL takes tens of MiB for each pair of GPUs, SGLang more for its own queues."""


def ports(flags: EngineFlags) -> dict[str, int]:
    """The ports that the engine listens on, by flag."""
    wanted = {"--port": flags.port}
    if flags.disaggregation_mode == "prefill" or (flags.disaggregated and flags.enable_pd_role_switch):
        wanted["--disaggregation-bootstrap-port"] = flags.disaggregation_bootstrap_port
    if flags.grpc_port is not None:
        wanted["--grpc-port"] = flags.grpc_port
    return wanted


def bind_error(host: str, port: int) -> int:
    """Try to listen on a port; return the errno of what stands in the way, or 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def check_port(flag: str, host: str, port: int, error: int) -> Finding:
    """Say what the attempt to listen on a port showed.

    Args:
        flag: where the port was given.
        host: the address.
        port: the port.
        error: errno of the attempt, 0 if it worked.
    """
    name, given = "ports", f"{flag} {port} on --host {host}"
    if not error:
        return ok(name, f"{given} is free")
    if error == errno.EADDRINUSE:
        fix = "another port, or end what listens there (with hostNetwork, another pod on the node)"
        return refused(name, f"{given} is taken", "a free port", fix)
    if error in (errno.EACCES, errno.EPERM):
        return refused(name, f"{given} is not allowed for this user", "a port above 1023", "another port")
    return refused(name, f"{given}: {os.strerror(error)}", "an address of this container", "--host 0.0.0.0")


@dataclass(frozen=True)
class Space:
    """A folder that the engine writes to.

    Attributes:
        path: where it is.
        error: why nothing can be written there; empty if something can.
        free_bytes: what is free there.
    """

    path: str
    error: str = ""
    free_bytes: int = 0


def cache_folder(environment: Mapping[str, str]) -> str:
    """The folder of SGLang's compiled kernels."""
    return environment.get("SGLANG_CACHE_DIR") or str(Path(environment.get("HOME", "/")) / ".cache/sglang")


def probe_space(path: str) -> Space:
    """Write a file into a folder, which is made if it is not there."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"preflight")
        return Space(path, free_bytes=shutil.disk_usage(path).free)
    except OSError as error:
        return Space(path, error=error.strerror or str(error))


def check_cache(space: Space) -> Finding:
    """Whether compiled kernels can be kept."""
    name, given = "cache", f"SGLANG_CACHE_DIR {space.path}"
    if space.error:
        fix = "mount a volume there that this user may write to (fsGroup), or set SGLANG_CACHE_DIR"
        return refused(name, f"{given}: {space.error}", "a folder that can be written to", fix)
    if space.free_bytes < CACHE_BYTES:
        found = f"{given}: {space.free_bytes / GIB:.1f} GiB are free"
        return warning(name, found, f"{CACHE_BYTES / GIB:.0f} GiB", "a larger volume")
    return ok(name, given)


def check_temporary(space: Space) -> Finding:
    """Whether sockets and scratch files can be made."""
    if space.error:
        fix = "mount an emptyDir there, or set TMPDIR"
        return refused("temporary", f"{space.path}: {space.error}", "a folder that can be written to", fix)
    return ok("temporary", space.path)


def check_shared_memory(space: Space, flags: EngineFlags) -> Finding:
    """Whether processes of several GPUs can share memory."""
    name, fix = "shared-memory", "mount an emptyDir with medium Memory at /dev/shm"
    if space.error:
        return refused(name, f"{space.path}: {space.error}", "a folder that can be written to", fix)
    if flags.gpus > 1 and space.free_bytes < SHARED_MEMORY_BYTES:
        found = f"{space.path}: {space.free_bytes / 2**20:.0f} MiB for {flags.gpus} GPUs"
        return warning(name, found, f"{SHARED_MEMORY_BYTES / GIB:.0f} GiB", fix)
    return ok(name, space.path)
