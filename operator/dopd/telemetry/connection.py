"""How a Prometheus is reached: TLS, credentials, headers, query parameters, time limits; and what is refused.

A resource may name a Prometheus of its own, so whoever may write a resource may have the operator ask a server of his
choice. Therefore credentials, headers and query parameters go to the operator's own URL alone, a redirect is not
followed, an answer is read up to a size and for a time, and of what is no answer of Prometheus nothing is repeated.

Files are read for each request (those of TLS for each new connection), so a rotated token needs no restart.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from dopd.telemetry import complaints

LARGEST_ANSWER_BYTES = 64 * 2**20
CHUNK_BYTES = 2**16

Answer = list[dict[str, Any]]
"""Series as Prometheus writes them."""


class Prometheus(Protocol):
    """The seam to prometheus-api-client. Both block, and raise NoAnswer."""

    def custom_query(self, query: str, params: dict[str, Any]) -> Answer:
        """Instant query."""

    def custom_query_range(self, query: str, start_time: datetime, end_time: datetime, step: str) -> Answer:
        """Range query."""


class NoAnswer(ValueError):
    """What came is no answer, or no whole one. The message says why and what to do."""


@dataclass(frozen=True)
class ConnectionSettings:
    """How the operator's own Prometheus is reached.

    Attributes:
        url: base URL; "" when nobody said.
        timeout_seconds: for a whole answer.
        bearer_token_file: holds a bearer token; "" for none.
        username: of basic authentication; "" for none.
        password_file: holds its password.
        ca_file: certificates, PEM, of the only authorities to be trusted; "" for those of the system.
        client_certificate_file: certificate, PEM, that the operator shows; "" for none.
        client_key_file: its key; "" when it is in the same file.
        insecure_skip_verify: take any certificate.
        headers: sent along with each query.
        header_files: the same, with values that stand in files.
        query_parameters: added to each query, such as `partial_response`.
        of_resource: a resource named the URL, so nothing is sent that its author could not send himself.
    """

    url: str = ""
    timeout_seconds: float = 10.0
    bearer_token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    insecure_skip_verify: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    header_files: Mapping[str, str] = field(default_factory=dict)
    query_parameters: Mapping[str, str] = field(default_factory=dict)
    of_resource: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError when two settings contradict each other."""
        if self.url and not self.of_resource and (problem := complaints.about_url(self.url)):
            raise ValueError(f"Prometheus URL {self.url}: {problem}")
        if self.bearer_token_file and self.username:
            raise ValueError("both a bearer token and a user name for Prometheus: give one of them")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("a user name for Prometheus needs a password file, and a password file a user name")
        if self.client_key_file and not self.client_certificate_file:
            raise ValueError("a client key for Prometheus needs a client certificate")
        if self.ca_file and self.insecure_skip_verify:
            raise ValueError("a CA file for Prometheus has no effect while any certificate is taken: give one of them")
        if self.timeout_seconds <= 0:
            raise ValueError(f"timeout of Prometheus is {self.timeout_seconds:g} s, expected more than 0")

    def for_url(self, url: str) -> "ConnectionSettings":
        """How another URL is reached: with all of this only if it is the operator's own, path included."""
        if self.url and url.rstrip("/") == self.url.rstrip("/"):
            return self
        return ConnectionSettings(url, self.timeout_seconds, of_resource=True)


@dataclass(frozen=True)
class Connector:
    """Makes a client for the URL of the operator or of a resource."""

    settings: ConnectionSettings = ConnectionSettings()

    def __call__(self, url: str) -> Prometheus:
        """A client of one Prometheus, or what speaks its API. It does not retry: the next pass does.

        Raises:
            NoAnswer: the URL is none.
        """
        if problem := complaints.about_url(url):
            raise NoAnswer(problem)
        settings = self.settings.for_url(url)
        if settings.insecure_skip_verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        client: Prometheus = PrometheusConnect(
            url=url.rstrip("/"),
            session=_Session(settings),
            retry=Retry(total=0),
            timeout=settings.timeout_seconds,
        )
        return client


class _Credentials(AuthBase):
    """What a request is signed with. Always set: without, requests would look for a password in ~/.netrc."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        settings = self._settings
        for name, path in settings.header_files.items():
            request.headers[name] = _secret(path)
        if settings.bearer_token_file:
            request.headers["Authorization"] = f"Bearer {_secret(settings.bearer_token_file)}"
        if settings.username:
            return HTTPBasicAuth(settings.username.encode(), _secret(settings.password_file).encode())(request)
        return request


def _secret(path: str) -> str:
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoAnswer(f"{path} can not be read ({getattr(error, 'strerror', None) or error}); mount it") from error
    if not value or not value.isprintable():
        raise NoAnswer(f"{path} holds {'nothing' if not value else 'more than one line'}, expected the secret alone")
    return value


class _Session(requests.Session):
    """A session that reads no answer without bounds, follows no redirect, and says what to do about a failure."""

    def __init__(self, settings: ConnectionSettings) -> None:
        super().__init__()
        self._settings = settings
        self.auth = _Credentials(settings)
        self.verify = False if settings.insecure_skip_verify else settings.ca_file or True
        if settings.client_certificate_file:
            pair = (settings.client_certificate_file, settings.client_key_file)
            self.cert = pair if settings.client_key_file else settings.client_certificate_file
        self.headers.update(settings.headers)
        # With its own limit the server stops working on what nobody waits for any more.
        self.params = {"timeout": f"{settings.timeout_seconds:g}s", **settings.query_parameters}

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a redirect is an answer like another, and is refused as such."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request; the answer is whole and is one of Prometheus.

        Raises:
            NoAnswer: it is not.
        """
        settings = self._settings
        deadline = time.monotonic() + settings.timeout_seconds
        try:
            with super().send(request, **{**kwargs, "stream": True}) as response:
                body = self._body(response, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise NoAnswer(complaints.about_failure(error, settings)) from error
        if complaint := complaints.about_answer(response.status_code, response.headers, body, settings):
            raise NoAnswer(complaint)
        response.raw = io.BytesIO(body)
        return response

    def _body(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > LARGEST_ANSWER_BYTES:
                raise NoAnswer(f"more than {LARGEST_ANSWER_BYTES // 2**20} MiB; shorten spec.scaling.forecast.history")
            # The time limit of requests is for each read, and a server that sends a byte a second keeps to it.
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(body)
