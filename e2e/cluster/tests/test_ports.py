import socket

import pytest

from e2e.cluster.errors import ClusterError
from e2e.cluster.ports import free_ports, require_free


def test_ports_are_different_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        require_free(port, purpose="test")


def test_a_taken_port_is_named_with_its_purpose() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"127\.0\.0\.1:{port} \(gateway\) is taken"):
            require_free(port, purpose="gateway")
