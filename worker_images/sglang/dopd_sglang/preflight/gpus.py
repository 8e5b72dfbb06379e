"""How many GPUs there are, whether their driver fits torch, and whether they reach each other."""

import json
import subprocess
import sys
from dataclasses import dataclass

from dopd_sglang.preflight.findings import Finding, ok, refused, skipped, warning
from dopd_sglang.preflight.flags import EngineFlags

PROBE_TIMEOUT_SECONDS = 300
"""Eight GPUs whose driver has to wake up take a minute."""


@dataclass(frozen=True)
class Gpu:
    """One GPU that this process may use; memory in bytes."""

    index: int
    name: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Gpus:
    """What torch says of the GPUs.

    Attributes:
        torch: its version.
        torch_cuda: the CUDA release that torch was built with, such as `13.0`; empty for a build without CUDA.
        torch_hip: the ROCm release that it was built with; empty for a build without.
        driver_cuda: the newest CUDA release that the driver knows, such as 13000; 0 without a driver.
        driver: the driver's own version, if it says so.
        devices: those that are visible.
        no_peer: pairs of indices of GPUs that cannot read each other's memory.
        error: what went wrong when they were asked; empty if nothing did.
    """

    torch: str = ""
    torch_cuda: str = ""
    torch_hip: str = ""
    driver_cuda: int = 0
    driver: str = ""
    devices: tuple[Gpu, ...] = ()
    no_peer: tuple[tuple[int, int], ...] = ()
    error: str = ""


def probe(timeout_seconds: float = PROBE_TIMEOUT_SECONDS) -> Gpus:
    """Ask torch, in a process of its own: its end gives back all memory of the GPUs, and a driver may hang."""
    command = [sys.executable, "-m", "dopd_sglang.preflight.gpu_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        return Gpus(error=f"the driver did not answer in {timeout_seconds:.0f} s")
    if done.returncode != 0:
        return Gpus(error=(done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    try:
        return from_json(done.stdout.splitlines()[-1])
    except (IndexError, KeyError, TypeError, ValueError):
        return Gpus(error=f"the probe answered {done.stdout[-200:]!r}")


def from_json(text: str) -> Gpus:
    """Read what the probe prints."""
    facts = json.loads(text)
    facts["devices"] = tuple(Gpu(**device) for device in facts["devices"])
    facts["no_peer"] = tuple((first, second) for first, second in facts["no_peer"])
    return Gpus(**facts)


def used(flags: EngineFlags) -> list[int]:
    """Indices of the GPUs that the engine takes, among the visible ones."""
    return [flags.base_gpu_id + place * flags.gpu_id_step for place in range(flags.gpus)]


def check_driver(gpus: Gpus) -> Finding:
    """Whether torch can talk to the driver: the same or a newer major release of CUDA."""
    name = "driver"
    if gpus.error:
        return refused(name, f"GPUs cannot be asked: {gpus.error}", "an answer", "see `nvidia-smi` on the node")
    if gpus.torch_hip:
        return skipped(name, f"torch {gpus.torch} is built for ROCm {gpus.torch_hip}, which is not checked")
    if not gpus.torch_cuda:
        fix = "an image with the CUDA build of torch, or --device cpu"
        return refused(name, f"torch {gpus.torch} is built without CUDA", "a build with CUDA", fix)
    if not gpus.driver_cuda:
        fix = "ask for a GPU (limits: nvidia.com/gpu), install the driver on the node, or --device cpu"
        return refused(name, "there is no NVIDIA driver", f"one for CUDA {gpus.torch_cuda}", fix)
    has, wants = cuda_release(gpus.driver_cuda), _release(gpus.torch_cuda)
    given = f"driver {gpus.driver} for CUDA {has[0]}.{has[1]}".replace("  ", " ")
    if has[0] < wants[0]:
        fix = f"a newer driver on the node, or an image with torch for CUDA {has[0]}"
        return refused(name, given, f"CUDA {gpus.torch_cuda}, with which torch {gpus.torch} is built", fix)
    if has < wants:
        expected = f"CUDA {gpus.torch_cuda} or newer, else kernels that are compiled at run time may fail"
        return warning(name, given, expected, "a newer driver on the node")
    return ok(name, f"{given}, torch {gpus.torch} for CUDA {gpus.torch_cuda}")


def cuda_release(number: int) -> tuple[int, int]:
    """Read a release as the driver writes it: 12080 is 12.8."""
    return number // 1000, number % 1000 // 10


def _release(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def check_count(gpus: Gpus, flags: EngineFlags) -> Finding:
    """Whether there are as many GPUs as the flags ask for."""
    name, wanted, seen = "gpus", used(flags), len(gpus.devices)
    given = f"--tp-size {flags.tp_size}"
    given += f" --pp-size {flags.pp_size}" if flags.pp_size > 1 else ""
    given += f" --dp-size {flags.dp_size}" if flags.dp_size > 1 else ""
    given += f" --base-gpu-id {flags.base_gpu_id}" if flags.base_gpu_id else ""
    if max(wanted) >= seen:
        found = f"{given}: {seen} {'GPU is' if seen == 1 else 'GPUs are'} visible"
        fix = "a lower --tp-size, or as many GPUs in the pod's limits; see CUDA_VISIBLE_DEVICES"
        return refused(name, found, f"at least {max(wanted) + 1}", fix)
    if seen > len(wanted):
        expected = f"{len(wanted)}: the others stand idle"
        return warning(name, f"{given}: {seen} GPUs are visible", expected, "a higher --tp-size, or fewer GPUs")
    return ok(name, f"{given}: {seen} visible")


def check_shared(gpus: Gpus, flags: EngineFlags) -> Finding:
    """Whether another process holds memory of the GPUs: SGLang plans with what is free."""
    name = "free-memory"
    for gpu in gpus.devices:
        if gpu.index in used(flags) and gpu.free_bytes < 0.95 * gpu.total_bytes:
            found = f"GPU {gpu.index}: {gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB are free"
            return warning(name, found, "all of it", "end what else runs on the GPU, see `nvidia-smi` on the node")
    return ok(name, "no other process holds memory of the GPUs")


def check_peers(gpus: Gpus, flags: EngineFlags) -> Finding:
    """Whether the GPUs of this worker reach each other's memory."""
    name, wanted = "peer-access", set(used(flags))
    if len(wanted) < 2:
        return skipped(name, "one GPU")
    apart = [pair for pair in gpus.no_peer if set(pair) <= wanted]
    if apart:
        pairs = ", ".join(f"{first}-{second}" for first, second in apart[:4]) + (" ..." if len(apart) > 4 else "")
        fix = "GPUs with NVLink or below one PCIe switch, or a lower --tp-size; all works without, slowly"
        return warning(name, f"--tp-size {flags.tp_size}: GPUs {pairs} do not reach each other", "peer access", fix)
    return ok(name, f"all {len(wanted)} GPUs reach each other")
