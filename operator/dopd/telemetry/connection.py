"""How a Prometheus is reached: TLS, credentials, headers, query parameters, time limits; and what is refused.

A resource may name a Prometheus of its own, so whoever may write a resource may have the operator ask a server of his
choice. Therefore credentials, headers and query parameters go to the operator's own URL alone, a redirect is not
followed, an answer is read up to a size and for a time, and of what is no answer of Prometheus nothing is repeated.

Files are read for each request (those of TLS for each new connection), so a rotated token needs no restart.
"""

import math
import re
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util.retry import Retry

from dopd.api.inference import SERIES_LABEL
from dopd.cluster.bodies import BadBody, Body
from dopd.cluster.room import NAMESPACE, SMALL_BYTES, Place, Room
from dopd.telemetry import complaints
from dopd.telemetry.answers import Kind, parse_answer
from dopd.telemetry.deadline import Deadline, DeadlineAdapter
from dopd.telemetry.doors import BadAnswer

LARGEST_ANSWER_MIB = 64.0
"""Of the operator's own Prometheus, unless it is told another limit."""
LARGEST_ANSWER_OF_RESOURCE_MIB = 4.0
MOST_SERIES_OF_RESOURCE, MOST_POINTS_OF_RESOURCE = 2_000, 50_000
"""Answers are kept while they are shared, and series of no labels take ten times their size in memory."""
CHUNK_BYTES = 2**16
OWN_ROOM_BYTES = 64 * 2**20
"""For large answers of the operator's own Prometheus: one that is as large as it may be, or some that are not."""
OVERLOADED = (429, 503)
"""Answers whose `Retry-After` counts."""
_HEADER_NAME = re.compile("[-!#$%&'*+.^_`|~0-9A-Za-z]+")

Answer = list[dict[str, Any]]
"""Series as `answers` lets them through: "metric" with labels as text, and "value" or "values" with
(seconds since the epoch, number)."""


class Prometheus(Protocol):
    """The seam to prometheus-api-client. Both queries block, and raise NoAnswer."""

    def custom_query(self, query: str, params: dict[str, Any]) -> Answer:
        """Instant query."""

    def custom_query_range(self, query: str, start_time: datetime, end_time: datetime, step: str) -> Answer:
        """Range query."""

    def close(self) -> None:
        """Give the connections up."""


class NoAnswer(ValueError):
    """What came is no answer, or no whole one. The message says why and what to do.

    Attributes:
        retry_after_seconds: as the server asks for; 0 where it does not.
        overloaded: the server says that it is asked too much.
    """

    def __init__(self, message: str, *, retry_after_seconds: float = 0.0, overloaded: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds, self.overloaded = retry_after_seconds, overloaded


@dataclass(frozen=True)
class ConnectionSettings:
    """How the operator's own Prometheus is reached.

    Attributes:
        url: base URL; "" when nobody said.
        history_url: of one that has what is long ago, reached the same way; "" without.
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
        series_labels: that the series to be read must carry, such as the cluster's.
        largest_answer_mib: of one answer, decompressed.
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
    series_labels: Mapping[str, str] = field(default_factory=dict)
    largest_answer_mib: float = LARGEST_ANSWER_MIB
    of_resource: bool = False
    history_url: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError when two settings contradict each other."""
        for url in (self.url, self.history_url):
            if url and not self.of_resource and (problem := complaints.about_url(url)):
                raise ValueError(f"Prometheus URL {url}: {problem}")
        if self.history_url and not self.url:
            raise ValueError("a Prometheus URL for the history needs one for the present: give --prometheus-url, too")
        if self.bearer_token_file and self.username:
            raise ValueError("both a bearer token and a user name for Prometheus: give one of them")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("a user name for Prometheus needs a password file, and a password file a user name")
        if self.client_key_file and not self.client_certificate_file:
            raise ValueError("a client key for Prometheus needs a client certificate")
        if self.ca_file and self.insecure_skip_verify:
            raise ValueError("a CA file for Prometheus has no effect while any certificate is taken: give one of them")
        for name, value in {**self.headers, **dict.fromkeys(self.header_files, "")}.items():
            if not (_HEADER_NAME.fullmatch(name) and _fits_header(value) and value == value.strip()):
                raise ValueError(
                    f"header {name}: expected a name and a value of printable ASCII, as in X-Scope-OrgID=TENANT"
                )
        if not self.timeout_seconds > 0:
            raise ValueError(f"timeout of Prometheus is {self.timeout_seconds:g} s, expected more than 0")
        for label in self.series_labels:
            if not SERIES_LABEL.match(label):
                raise ValueError(f"series label {label}: expected letters, digits and '_', as in cluster=eu-west")
        if not 0 < self.largest_answer_mib < math.inf:
            raise ValueError(f"largest answer of Prometheus is {self.largest_answer_mib:g} MiB, expected more than 0")

    def for_url(self, url: str) -> "ConnectionSettings":
        """How another URL is reached: with all of this only if it is one of the operator's own, path included."""
        if url.rstrip("/") in {own.rstrip("/") for own in (self.url, self.history_url) if own}:
            return self
        largest = min(self.largest_answer_mib, LARGEST_ANSWER_OF_RESOURCE_MIB)
        return ConnectionSettings(url, self.timeout_seconds, largest_answer_mib=largest, of_resource=True)


@dataclass(frozen=True)
class Connector:
    """Makes a client for the URL of the operator or of a resource.

    Attributes:
        settings: of the operator's own.
        room: for large answers of resources' own; the operator's own takes one large answer at a time.
    """

    settings: ConnectionSettings = ConnectionSettings()
    room: Room = field(default_factory=Room)
    _own_room: Room = field(default_factory=lambda: Room(OWN_ROOM_BYTES, math.inf))

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
        room = self.room if settings.of_resource else self._own_room
        session, base = _Session(settings, room), url.rstrip("/")
        client: Prometheus = PrometheusConnect(url=base, session=session, timeout=settings.timeout_seconds)
        session.mount(base, DeadlineAdapter(max_retries=Retry(total=0)))  # in place of the client's own
        return client


class _Credentials(AuthBase):
    """What a request is signed with. Always set: without, requests would look for a password in ~/.netrc."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        settings = self._settings
        for name, path in settings.header_files.items():
            request.headers[name] = _header(path)
        if settings.bearer_token_file:
            request.headers["Authorization"] = f"Bearer {_header(settings.bearer_token_file)}"
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


def _header(path: str) -> str:
    value = _secret(path)
    if not _fits_header(value):
        raise NoAnswer(f"{path} holds more than printable ASCII, all that fits a header; correct it")
    return value


def _fits_header(value: str) -> bool:
    return value.isascii() and (value.isprintable() or not value)


class _Answered(requests.Response):
    """An answer that went through the door, so that nothing parses it twice."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.status_code = 200
        self._answer = answer

    def json(self, **_: Any) -> Any:
        """The answer."""
        return self._answer


_PARSING = threading.Lock()
"""One large answer becomes objects at a time: two would take no less time, and twice the memory."""
LARGE_BYTES = 2**18


class _Session(requests.Session):
    """A session that reads no answer without bounds, follows no redirect, and says what to do about a failure."""

    def __init__(self, settings: ConnectionSettings, room: Room) -> None:
        super().__init__()
        self._settings, self._room = settings, room
        self.auth = _Credentials(settings)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # no server makes the operator keep anything
        self.verify = False if settings.insecure_skip_verify else settings.ca_file or True
        if settings.client_certificate_file:
            pair = (settings.client_certificate_file, settings.client_key_file)
            self.cert = pair if settings.client_key_file else settings.client_certificate_file
        self.headers.update({"Accept-Encoding": "gzip", **settings.headers})
        # With its own limit the server stops working on what nobody waits for any more.
        self.params = {"timeout": f"{settings.timeout_seconds:g}s", **settings.query_parameters}

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a redirect is an answer like another, and is refused as such."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request; the answer is whole and is one of Prometheus.

        Raises:
            NoAnswer: it is not.
        """
        place = self._room.place(NAMESPACE.get(), self._largest_bytes)
        try:
            return self._sent(request, place, kwargs)
        finally:
            place.leave()

    @property
    def _largest_bytes(self) -> int:
        return int(self._settings.largest_answer_mib * 2**20)

    def _sent(self, request: requests.PreparedRequest, place: Place, kwargs: dict[str, Any]) -> requests.Response:
        settings = self._settings
        with Deadline(settings.timeout_seconds) as deadline:
            try:
                with super().send(request, **{**kwargs, "stream": True}) as response:
                    body = self._body(response, place, deadline)
                if deadline.passed:
                    raise TimeoutError
            except BadBody as error:
                raise NoAnswer(complaints.about_body(str(error), settings)) from None
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                cause = TimeoutError() if deadline.passed else error
                raise NoAnswer(complaints.about_failure(cause, settings)) from error
        status, headers = response.status_code, response.headers
        problem = ""
        if status == 200:
            try:
                return _Answered(self._parsed(request, body))
            except BadAnswer as error:
                problem = str(error)
        complaint = complaints.about_answer(status, headers, body, settings, problem)
        if status not in OVERLOADED:
            raise NoAnswer(complaint)
        pause_seconds = _retry_after_seconds(headers.get("Retry-After", ""))
        raise NoAnswer(complaint, retry_after_seconds=pause_seconds, overloaded=True)

    def _body(self, response: requests.Response, place: Place, deadline: Deadline) -> bytearray:
        encoding = response.headers.get("Content-Encoding", "")
        body = Body(self._largest_bytes, encoding, json=True, small_bytes=SMALL_BYTES)
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            body.feed(chunk)
            if body.waits:
                if not place.enter_within(body, deadline.seconds_left):
                    raise TimeoutError
                body.grow()
        place.read()
        return body.whole()

    def _parsed(self, request: requests.PreparedRequest, body: bytearray) -> dict[str, Any]:
        kind: Kind = "matrix" if urlsplit(str(request.url)).path.endswith("/query_range") else "vector"
        with _PARSING if len(body) > LARGE_BYTES else nullcontext():
            answer = parse_answer(kind, body)
        if answer.get("status") != "success" or "data" not in answer or complaints.about_partial(answer):
            raise BadAnswer("no success, or not a whole one")
        if self._settings.of_resource:
            series = answer["data"]["result"]
            if len(series) > MOST_SERIES_OF_RESOURCE:
                raise BadAnswer(f"more than {MOST_SERIES_OF_RESOURCE} series")
            if sum(len(one.get("values", ())) for one in series) > MOST_POINTS_OF_RESOURCE:
                raise BadAnswer(f"more than {MOST_POINTS_OF_RESOURCE} points; {complaints.FEWER}")
        return answer


def _retry_after_seconds(value: str) -> float:
    """Header Retry-After: seconds, or a date; 0 for what is neither."""
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
