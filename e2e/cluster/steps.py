"""Long commands with a pulse: what runs, how long it usually takes, and the end of its log when it fails.

Everything is said on standard error, so that standard output stays for what a caller may want to capture.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from e2e.cluster.errors import ClusterError

PULSE_SECONDS = 15.0
TAIL_LINES = 20

Command = Sequence[str | Path]


def say(text: str) -> None:
    """Print one line of progress with the time of day."""
    print(f"[{datetime.now().astimezone():%H:%M:%S}] {text}", file=sys.stderr, flush=True)


def run(
    command: Command,
    *,
    what: str,
    log: Path,
    usually: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `command` with its output in `log`, saying every 15 s that it still runs.

    Args:
        command: program and arguments.
        what: what is being done, in words; the first line said and the first of an error.
        log: file that gets the output, appended.
        usually: how long it usually takes, in words.
        cwd: working directory.
        env: the whole environment of the command; this process's own when None.

    Raises:
        ClusterError: the command failed or cannot be started; holds the last lines of `log`.
    """
    if not shutil.which(command[0]):
        raise ClusterError(f"{what}: {command[0]} is not installed")
    say(f"{what} (usually {usually})" if usually else what)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        process = subprocess.Popen(
            leashed(command, "TERM"),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        code = _wait_with_pulse(process, what)
    if code != 0:
        raise ClusterError(f"{what} failed (exit status {code}). Log: {log}\n{tail(log)}")


def leashed(command: Command, signal: str) -> list[str | Path]:
    """Return `command` so that the kernel sends it `signal` when this process dies, however it dies.

    The kernel looks at the thread that starts the command: it has to live as long as the command shall.
    """
    return ["setpriv", "--pdeathsig", signal, *command] if shutil.which("setpriv") else [*command]


def _wait_with_pulse(process: subprocess.Popen[bytes], what: str) -> int:
    start = time.monotonic()
    try:
        while True:
            try:
                return process.wait(PULSE_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"  {what}: {time.monotonic() - start:.0f} s")
    except BaseException:
        process.terminate()
        process.wait()
        raise


def output(
    command: Command,
    *,
    stdin: str | None = None,
    timeout_seconds: float | None = 60.0,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a short command and return its standard output.

    Raises:
        ClusterError: it failed, cannot be started, or ran longer than `timeout_seconds`; holds its standard error.
    """
    shown = " ".join(map(str, command))
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=env,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"no answer in {timeout_seconds:.0f} s: {shown}") from error
    if done.returncode != 0:
        raise ClusterError(f"{shown}: {(done.stderr or done.stdout).strip() or f'exit {done.returncode}'}")
    return done.stdout


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last `lines` lines of `log`, indented, for an error message."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])
