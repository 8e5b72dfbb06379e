"""The operator as a process, to be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class OperatorProcess:
    """`dopd run` against a control plane; started and killed at will."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str, lease_namespace: str = "default") -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._command: Sequence[str] = [
            *(sys.executable, "-m", "dopd.cli", "run", "--http-port", "0"),
            *("--lease-namespace", lease_namespace, "--lease-seconds", "2", *arguments),
        ]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a crash would, if it runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        return process.wait(timeout=30)
