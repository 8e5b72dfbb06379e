"""Print what torch says of the GPUs, as JSON. Run as a process of its own by `gpus.probe`."""

import ctypes
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

DRIVER = Path("/proc/driver/nvidia/version")


def facts() -> dict[str, Any]:
    """The fields of `gpus.Gpus`."""
    import torch

    answer: dict[str, Any] = {
        "torch": str(torch.__version__),
        "torch_cuda": torch.version.cuda or "",
        "torch_hip": torch.version.hip or "",
        "driver_cuda": driver_cuda(),
        "driver": driver_version(DRIVER.read_text()) if DRIVER.exists() else "",
        "devices": [],
        "no_peer": [],
    }
    if torch.cuda.is_available():
        indices = range(torch.cuda.device_count())
        for index in indices:
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            answer["devices"].append({"index": index, "name": name, "free_bytes": free, "total_bytes": total})
        reach = torch.cuda.can_device_access_peer
        answer["no_peer"] = [[a, b] for a, b in combinations(indices, 2) if not (reach(a, b) and reach(b, a))]
    return answer


def driver_cuda(library: str = "libcuda.so.1") -> int:
    """Ask the driver's library which CUDA release it knows, such as 13000; 0 without a driver.

    torch says it in no stable way, and CUDA's libraries for older drivers answer here with what they make of them.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return 0
    number = ctypes.c_int()
    return 0 if driver.cuDriverGetVersion(ctypes.byref(number)) else number.value


def driver_version(text: str) -> str:
    """Find the version in the text of /proc/driver/nvidia/version."""
    match = re.search(r"Kernel Module.*?(\d+\.[\d.]+)", text)
    return match[1] if match else ""


if __name__ == "__main__":
    print(json.dumps(facts()))
