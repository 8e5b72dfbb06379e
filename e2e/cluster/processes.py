"""Find and end the processes of our Docker daemon from `/proc`, without trusting a pid file.

A pid file survives its process, and its number may since have gone to another. What a process was started with and
which control group it is in are facts.
"""

import os
import signal
import time
from collections.abc import Collection, Iterable
from pathlib import Path

END_TIMEOUT_SECONDS = 30.0


def naming(folder: Path, *, program: str | None = None) -> list[int]:
    """Return the processes that have a path below `folder` on their command line.

    Args:
        folder: the folder to look for.
        program: only processes whose program has this file name.
    """
    return [pid for pid, arguments in _command_lines() if names(arguments, folder, program)]


def names(arguments: list[str], folder: Path, program: str | None = None) -> bool:
    """Say whether a command line names a path below `folder` (and runs `program`)."""
    if program is not None and (not arguments or Path(arguments[0]).name != program):
        return False
    return any(f"{folder}/" in argument for argument in arguments)


def in_containers(container_ids: Collection[str]) -> list[int]:
    """Return the processes whose control group belongs to one of these containers."""
    return [pid for pid in _pids() if any(each in _read(pid, "cgroup") for each in container_ids)]


def end(pids: Iterable[int], *, timeout_seconds: float = END_TIMEOUT_SECONDS) -> None:
    """Ask processes to end, and kill those that have not after `timeout_seconds` (at once when 0)."""
    left = [pid for pid in pids if _signal(pid, signal.SIGTERM if timeout_seconds else signal.SIGKILL)]
    deadline = time.monotonic() + timeout_seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _alive(pid)]
    for pid in left:
        _signal(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]


def _command_lines() -> Iterable[tuple[int, list[str]]]:
    for pid in _pids():
        yield pid, _read(pid, "cmdline").split("\0")


def _read(pid: int, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def _alive(pid: int) -> bool:
    # A zombie has ended: its parent, which may be this process's own, has not asked for its status yet.
    state = _read(pid, "stat").rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def _signal(pid: int, which: signal.Signals) -> bool:
    try:
        os.kill(pid, which)
    except ProcessLookupError:
        return False
    return True
