"""A server on loopback that answers as it is told, with TLS if wanted; and the certificates for it."""

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dopd.telemetry.connection import ConnectionSettings, Connector

EMPTY = {"status": "success", "data": {"resultType": "vector", "result": []}}


@dataclass
class Asked:
    """One request."""

    path: str
    parameters: dict[str, str]
    headers: dict[str, str]


@dataclass
class Reply:
    """One answer; a dictionary becomes JSON."""

    body: Any = field(default_factory=lambda: EMPTY)
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


@dataclass
class Server:
    """Attributes:
    url: base URL.
    asked: requests so far.
    reply: makes the answer to a request.
    """

    url: str
    asked: list[Asked] = field(default_factory=list)
    reply: Callable[[Asked], Reply] = lambda _: Reply()


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server that runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            parameters = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            server.asked.append(Asked(parts.path, parameters, dict(self.headers)))
            reply = server.reply(server.asked[-1])
            body = json.dumps(reply.body).encode() if isinstance(reply.body, dict) else reply.body
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Clients that hang up are part of the tests."""

    http = Quiet(("127.0.0.1", 0), Handler)
    if context:
        http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    server = Server(f"http{'s' if context else ''}://localhost:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@dataclass(frozen=True)
class Certificates:
    """Files, PEM: an authority and a certificate with key that it signed for localhost."""

    ca: Path
    certificate: Path
    key: Path

    def context(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """For a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if wants_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones tell only after the handshake, if in time
        return context


def make_certificates(folder: Path) -> Certificates:
    """An authority of its own, and what it signs."""
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    ca_key = folder / "ca.key"
    _openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", ca_key, "-out", made.ca)
    extensions = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"]
    signed_by = ["-CA", made.ca, "-CAkey", ca_key]
    subject = ["-subj", "/CN=localhost", "-keyout", made.key, "-out", made.certificate]
    _openssl("req", "-x509", *key, *signed_by, *extensions, *subject)
    return made


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def settings_of(server: Server, **others: Any) -> ConnectionSettings:
    """Settings with which a server is the operator's own."""
    return ConnectionSettings(server.url, **others)


def ask(settings: ConnectionSettings, url: str | None = None) -> list[dict[str, Any]]:
    """An instant query of a URL, or of the operator's own."""
    return Connector(settings)(url or settings.url).custom_query("up", params={"time": "1.5"})
