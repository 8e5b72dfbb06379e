"""Programs beside a control plane, which end with the test."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.steps import Command, leashed


@contextmanager
def running(
    commands: Mapping[str, Command], logs: Path, env: Mapping[str, str]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run programs, and kill them afterwards.

    Args:
        commands: by a name for each.
        logs: the folder that gets NAME.log of each.
        env: the whole environment of all.

    Yields:
        The processes, by name.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (logs / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    leashed(command, "KILL"),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                )
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
