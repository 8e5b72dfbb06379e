"""Where an engine is reached, as its pod says and as the gateway lists it, in one form. Pure.

An address has its port: workers that share the network of a node differ in nothing else. The port is read from the
pod, not from the spec: until a change of it has been rolled out, pods with either port are there.
"""

import contextlib
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from dopd.api.names import ENGINE_CONTAINER, ENGINE_PORT, ENGINE_PORT_NAME


def engine_port(pod: dict[str, Any]) -> int:
    """The port on which the engine of a worker serves HTTP."""
    containers = pod.get("spec", {}).get("containers", [])
    return next(
        (
            int(port["containerPort"])
            for container in containers
            if container.get("name") == ENGINE_CONTAINER
            for port in container.get("ports") or []
            if port.get("name") == ENGINE_PORT_NAME
        ),
        ENGINE_PORT,
    )


def engine_address(pod: dict[str, Any]) -> str | None:
    """Host and port of a worker; None while it has no address."""
    host = pod.get("status", {}).get("podIP")
    return _joined(host, engine_port(pod)) if host else None


def listed_address(url: str) -> str:
    """Host and port of a worker that a gateway lists; "" where the URL has none.

    The gateway writes `http://10.0.0.1:30000`, and with a data parallel rank `http://10.0.0.1:30000@2`.
    """
    try:
        parts = urlsplit(f"//{urlsplit(url).netloc.partition('@')[0]}")
        return _joined(parts.hostname, parts.port or ENGINE_PORT) if parts.hostname else ""
    except ValueError:
        return ""


@lru_cache(maxsize=2**16)
def _joined(host: str, port: int) -> str:
    """IPv6 in its one short form, and in brackets."""
    with contextlib.suppress(ValueError):
        address = ip_address(host)
        host = f"[{address}]" if address.version == 6 else str(address)
    return f"{host}:{port}"
