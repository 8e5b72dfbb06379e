"""What a process has used, as the kernel tells it."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """Of one process.

    Attributes:
        cpu_seconds: so far.
        main_cpu_seconds: of its first thread, which has the event loop.
        children_cpu_seconds: of the processes that it has started and that run.
        memory_mib: resident now.
        children_memory_mib: of those that it has started.
    """

    cpu_seconds: float
    main_cpu_seconds: float
    children_cpu_seconds: float
    memory_mib: float
    children_memory_mib: float


def used(process: int) -> Used:
    """What a process and its children have used."""
    children = _children(process)
    return Used(
        _cpu_seconds(process),
        _cpu_seconds(process, f"task/{process}/stat"),
        sum(map(_cpu_seconds, children)),
        _memory_mib(process),
        sum(map(_memory_mib, children)),
    )


def _children(process: int) -> list[int]:
    text = " ".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children"))
    mine = [int(word) for word in text.split()]
    return [*mine, *(each for child in mine for each in _children(child))]


def _cpu_seconds(process: int, file: str = "stat") -> float:
    try:
        fields = Path(f"/proc/{process}/{file}").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory_mib(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
