"""Free ports on the loopback interface."""

import socket
from contextlib import ExitStack

from e2e.cluster.errors import ClusterError

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return `count` different ports of 127.0.0.1 that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def require_free(port: int, *, purpose: str) -> None:
    """Raise unless `port` of 127.0.0.1 can be listened on.

    Raises:
        ClusterError: another process has the port; names port and purpose.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ClusterError(
                f"port {LOOPBACK}:{port} ({purpose}) is taken: stop what listens there (see `ss -ltnp`)"
            ) from error
