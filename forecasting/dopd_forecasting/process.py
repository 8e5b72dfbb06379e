"""An executor whose work is done in one process of its own, which may die: estimations for an operator, in fair turns.

Estimations are computing that holds the interpreter, and need 100 MB of libraries. Here they run beside the operator's
event loop instead of in it. The process keeps nothing: each call carries what it needs, and its result is all that is
left of it. So it is started when there is work, ended when there has been none for a while, and may be killed at any
time, which costs the call under way and no other. It gets less of a busy CPU, is ended when a call takes too long, can
not use more than so much memory, is the first that the kernel kills where memory is short, and never outlives the
process that started it.
"""

from __future__ import annotations

import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import IO, Any

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60.0
"""Of a call. A first fit of two weeks takes two seconds, and the first one of all the imports, too."""
MOST_MIB = 384
"""Of the process: what is its own and can be written to (RLIMIT_DATA). Its libraries take 240, a fit five more."""
IDLE_SECONDS = 30.0
"""After so long without a call the process is ended; the next one starts it again, in a second. Estimations of all
series fall on the same bins, so there are minutes without any between two rounds."""
LENGTH = struct.Struct("!Q")

_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
_Job = tuple["Future[Any]", _Call]


class WorkFailed(Exception):
    """A call did not end by itself: its process was killed, or died. It may be tried again."""


class ProcessExecutor(Executor):
    """Runs calls one after the other; what is called, given and returned must pickle, and stay as it is until then.

    Args:
        longest_seconds: of a call.
        most_mib: memory of the process.
        idle_seconds: after which it is ended.
        name: of what it is for, in messages.
    """

    def __init__(
        self,
        *,
        longest_seconds: float = LONGEST_SECONDS,
        most_mib: float = MOST_MIB,
        idle_seconds: float = IDLE_SECONDS,
        name: str = "forecasts",
    ) -> None:
        self._name = f"the process of {name}"
        self._longest_seconds, self._most_mib, self._idle_seconds = longest_seconds, most_mib, idle_seconds
        self._waiting: dict[Hashable, deque[_Job]] = {}
        self._changed = threading.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        child = self._child
        return child.pid if child is not None else None

    def of(self, group: Hashable) -> Executor:
        """The same, for a group of calls that has its turn after one call of each other group that waits."""
        return _OfGroup(self, group)

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """See Executor. The future may hold WorkFailed."""
        return self.submit_of(None, (call, args, named))

    def submit_of(self, group: Hashable, call: _Call) -> Future[Any]:
        """The same for a group."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("submit after shutdown")
            self._waiting.setdefault(group, deque()).append((future, call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the process at once; what it had not done is cancelled, and what it is at fails."""
        with self._changed:
            self._closed = True
            if self._child is not None:
                self._child.kill()
            self._changed.notify()
        if wait and self._thread is not None:
            self._thread.join()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                good, result = pickle.loads(self._exchange(pickle.dumps(call)))
            except Exception as error:
                good, result = False, error
            if good:
                future.set_result(result)
            else:
                future.set_exception(result)
            del job, future, call, result  # not to be kept while nothing comes
        self._end()
        for jobs in self._waiting.values():
            for future, _ in jobs:
                future.cancel()

    def _next(self) -> _Job | None:
        """The next job, once there is one; None at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                if not self._changed.wait(self._idle_seconds if self._child else None):
                    self._end()
            if self._closed:
                return None
            group = next(iter(self._waiting))
            jobs = self._waiting.pop(group)
            job = jobs.popleft()
            if jobs:  # behind the other groups
                self._waiting[group] = jobs
            return job

    def _exchange(self, call: bytes) -> bytes:
        child = self._running()
        too_long = threading.Event()

        def kill() -> None:
            too_long.set()
            child.kill()

        clock = threading.Timer(self._longest_seconds, kill)
        clock.daemon = True
        clock.start()
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(LENGTH.pack(len(call)))
            child.stdin.write(call)
            child.stdin.flush()
            return receive(child.stdout)
        except (OSError, EOFError) as error:
            status = self._end()
            why = f"took longer than {self._longest_seconds:g} s" if too_long.is_set() else f"ended with {status}"
            if not self._closed:
                log.warning("%s %s; the next call starts another", self._name, why)
            raise WorkFailed(f"{self._name} {why}") from error
        finally:
            clock.cancel()

    def _running(self) -> subprocess.Popen[bytes]:
        with self._changed:
            if self._closed:
                raise WorkFailed("the operator is being stopped")
            if self._child is None:
                try:
                    self._child = self._started()
                except OSError as error:
                    raise WorkFailed(f"{self._name} can not be started: {error}") from error
            return self._child

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dopd_forecasting.worker", str(self._most_mib), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the operator, which ends it
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        )

    def _end(self) -> int | None:
        """End the process, if there is one; its exit status."""
        child, self._child = self._child, None
        if child is None:
            return None
        child.kill()
        for stream in (child.stdin, child.stdout):
            try:
                assert stream is not None
                stream.close()
            except OSError:
                continue  # what was still to be written to it
        return child.wait()


class _OfGroup(Executor):
    def __init__(self, process: ProcessExecutor, group: Hashable) -> None:
        self._process, self._group = process, group

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        return self._process.submit_of(self._group, (call, args, named))


def receive(stream: IO[bytes]) -> bytes:
    """A message from the other side.

    Raises:
        EOFError: the other side has gone.
    """
    (length,) = LENGTH.unpack(_whole(stream, LENGTH.size))
    return _whole(stream, length)


def _whole(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("the other side has gone")
    return data
