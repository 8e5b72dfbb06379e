"""A time limit for a whole exchange of `requests`, whose own is for each read: a byte a second keeps to that for ever.

The limit covers connecting (to however many addresses a name has), TLS, header lines, the body and what trails it. It
works by shutting the connection down, which wakes whoever waits for it.
"""

import heapq
import itertools
import os
import socket
import threading
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

_current = threading.local()


class Deadline:
    """The time limit of the exchange that this thread makes while the block runs; not to be nested.

    Attributes:
        passed: the time is over.
    """

    def __init__(self, seconds: float) -> None:
        self.end_seconds = time.monotonic() + seconds
        self.passed = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def seconds_left(self) -> float:
        """Never quite 0, which sockets take for "do not wait"."""
        return max(0.001, self.end_seconds - time.monotonic())

    def __enter__(self) -> "Deadline":
        _current.deadline = self
        _CLOCK.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.deadline = None
        _CLOCK.drop(self)
        with self._lock:
            for watched in self._sockets:
                watched.close()
            self._sockets.clear()

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection down when the time is over. TLS may take the socket over: what is kept is a copy."""
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(connection.fileno())))
        if self.passed:
            self.pass_()

    def pass_(self) -> None:
        """The time is over."""
        self.passed = True
        with self._lock:
            for watched in self._sockets:
                try:
                    watched.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # not connected any more


class _Clock:
    """One thread that looks after all deadlines; it is there while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._runs = False

    def add(self, deadline: Deadline) -> None:
        with self._changed:
            heapq.heappush(self._due, (deadline.end_seconds, next(self._numbers), deadline))
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            self._changed.notify()

    def drop(self, deadline: Deadline) -> None:
        with self._changed:
            self._due = [entry for entry in self._due if entry[2] is not deadline]
            heapq.heapify(self._due)
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._due:
                end_seconds, _, deadline = self._due[0]
                if (left := end_seconds - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._due)
                    deadline.pass_()
            self._runs = False


_CLOCK = _Clock()


class _Bounded:
    """A connection of urllib3 that keeps to the deadline of its thread."""

    def _new_conn(self: Any) -> socket.socket:
        deadline: Deadline = _current.deadline
        try:
            addresses = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        failure: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(deadline.seconds_left)
                connection.connect(address)
                deadline.watch(connection)
                return connection
            except TimeoutError as error:
                connection.close()
                raise ConnectTimeoutError(self, "no connection in time") from error
            except OSError as error:
                connection.close()
                failure = error
        raise NewConnectionError(self, str(failure)) from failure

    def request(self: Any, *arguments: Any, **named: Any) -> None:
        if self.sock is not None:
            _current.deadline.watch(self.sock)
            self.sock.settimeout(_current.deadline.seconds_left)
        super().request(*arguments, **named)  # type: ignore[misc]


class _Plain(_Bounded, HTTPConnection):
    pass


class _Secured(_Bounded, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecuredPool(HTTPSConnectionPool):
    ConnectionCls = _Secured


_POOLS = {"http": _PlainPool, "https": _SecuredPool}


class DeadlineAdapter(HTTPAdapter):
    """For a session whose requests are all made within a `Deadline`."""

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        """See HTTPAdapter."""
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = _POOLS
        return manager
