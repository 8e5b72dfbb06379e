"""Servers as processes of this one: each with a log, awaited until it answers, ended when the block ends in any way.

A server's own children die with it. The kernel tells a server when this process has died (see `steps.leashed`), so
nothing is left behind after a SIGKILL either.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import clusters_dir
from e2e.cluster.ports import LOOPBACK
from e2e.cluster.steps import leashed, say, tail

START_SECONDS = 600.0
STOP_SECONDS = 60.0
_RUNS_KEPT = 5
_POLL_SECONDS = 0.25
_SCRATCH = "dopd-sglang-"
# Below the ports that Linux gives to clients: an engine listens a minute after its port was chosen.
_PORTS = range(20_000, 32_000)


class Server:
    """One running server; made by `Fleet.launch`.

    Attributes:
        name: what it is, for people; names its log.
        url: where it answers, without a path.
        log: its output.
        pid: the process to signal.
    """

    def __init__(self, name: str, url: str, ready: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.url = url
        self.log = log
        self.pid = process.pid
        self.started = time.monotonic()
        self._ready_url = url + ready
        self._process = process

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def wait_until_ready(self, timeout_seconds: float = START_SECONDS) -> float:
        """Wait until it answers; return the seconds since its start.

        Raises:
            ClusterError: it ended, or did not answer in time; holds the end of its log.
        """
        while not _answers(self._ready_url):
            since = time.monotonic() - self.started
            if not self.running:
                raise ClusterError(f"{self.name} ended after {since:.0f} s. Log: {self.log}\n{tail(self.log)}")
            if since > timeout_seconds:
                raise ClusterError(f"{self.name} is not ready after {since:.0f} s. Log: {self.log}\n{tail(self.log)}")
            time.sleep(_POLL_SECONDS)
        return time.monotonic() - self.started

    def wait_for_end(self, timeout_seconds: float) -> int | None:
        """Return its exit status, or None when it still runs after `timeout_seconds`."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it to finish what it runs and end."""
        if self.running:
            self._process.terminate()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> int | None:
        """End it, by force after `timeout_seconds`; return its exit status."""
        self.terminate()
        code = self.wait_for_end(timeout_seconds)
        # Its children are in its session: whatever it has left behind goes now.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait() if code is None else code


class Fleet(AbstractContextManager["Fleet"]):
    """The servers of one run.

    Attributes:
        folder: their logs; the last runs' are kept.
        scratch: what they write besides; gone afterwards. Short, because sockets lie there.
    """

    def __init__(self) -> None:
        runs = clusters_dir().parent / "sglang"
        self.folder = runs / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{os.getpid()}"
        self.folder.mkdir(parents=True, exist_ok=True)
        for former in sorted(each for each in runs.iterdir() if each.is_dir())[:-_RUNS_KEPT]:
            shutil.rmtree(former, ignore_errors=True)
        _clear_leftovers()
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-"))
        self._servers: list[Server] = []
        self._ports: set[int] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def launch(
        self, name: str, command: Sequence[str | Path], *, url: str, ready: str, environment: Mapping[str, str]
    ) -> Server:
        """Start a server and return at once.

        Args:
            name: what it is; a second of the same name gets a log of its own.
            command: program and arguments.
            url: where it will answer.
            ready: path that answers 200 when it is ready.
            environment: variables over this process's own.
        """
        count = sum(each.name == name for each in self._servers)
        log = self.folder / (f"{name}-{count + 1}.log" if count else f"{name}.log")
        own = {"HOME": str(self.scratch), "TMPDIR": str(self.scratch)}
        with log.open("wb") as output:
            output.write(f"$ {' '.join(map(str, command))}\n".encode())
            output.flush()
            process = subprocess.Popen(
                leashed(command, "TERM"),
                cwd=self.scratch,
                env={**inherited(), **own, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us to pass on
            )
        server = Server(name, url, ready, log, process)
        self._servers.append(server)
        return server

    def port(self) -> int:
        """Choose a port of 127.0.0.1 that nobody listens on, and that no client of others will take meanwhile."""
        while True:
            port = random.choice(_PORTS)
            with socket.socket() as probe, suppress(OSError):
                probe.bind((LOOPBACK, port))
                if port not in self._ports:
                    self._ports.add(port)
                    return port

    def wait_until_ready(self, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until all answer.

        Raises:
            ClusterError: one ended, or did not answer in time.
        """
        for server in self._servers:
            say(f"{server.name} is ready after {server.wait_until_ready(timeout_seconds):.0f} s")

    def close(self) -> None:
        """End all, together."""
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)


def inherited() -> dict[str, str]:
    """This process's environment, but that Python keeps what it compiles: an engine's start takes half as long."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _clear_leftovers() -> None:
    """Remove what runs that were killed have left: their servers have ended with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}[0-9]*-*"):
        pid = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
