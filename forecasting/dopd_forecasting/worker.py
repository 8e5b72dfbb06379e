"""The process of `ProcessExecutor`: `python -m dopd_forecasting.worker MEBIBYTES PARENT`, calls on standard input."""

import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
from pathlib import Path

from dopd_forecasting.process import LENGTH, receive

PR_SET_PDEATHSIG = 1
OOM_SCORE, MOST_OOM_SCORE = Path("/proc/self/oom_score_adj"), 1000
NICER = 10
"""Than its parent: passes and the Lease go before forecasts where a node is busy."""
OOM_SCORE_MORE = 200
"""Than its parent's: a fifth of the node's memory. So it is the one that goes."""


def main() -> None:
    """Do calls until the other side has gone."""
    most_bytes, parent = int(float(sys.argv[1]) * 2**20), int(sys.argv[2])
    _die_with(parent)
    os.nice(NICER)
    resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))
    with contextlib.suppress(OSError, ValueError):  # no Linux, or none that lets us
        OOM_SCORE.write_text(str(min(int(OOM_SCORE.read_text()) + OOM_SCORE_MORE, MOST_OOM_SCORE)))
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    while True:
        try:
            answer = _answer(receive(calls))
            answers.write(LENGTH.pack(len(answer)))
            answers.write(answer)
            answers.flush()
        except (EOFError, BrokenPipeError):
            os._exit(0)  # nobody is left for whom to write the rest


def _answer(message: bytes) -> bytes:
    try:
        call, args, named = pickle.loads(message)
        return pickle.dumps((True, call(*args, **named)))
    except Exception as error:
        with contextlib.suppress(Exception):
            answer = pickle.dumps((False, error))
            pickle.loads(answer)  # some exceptions can be written and not be read
            return answer
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _die_with(parent: int) -> None:
    """Also in the middle of a call; between two, the end of the standard input tells."""
    with contextlib.suppress(OSError, AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
