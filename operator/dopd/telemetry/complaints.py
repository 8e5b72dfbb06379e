"""What is wrong with an answer of Prometheus, or with the want of one, and what to do about it. Pure text.

Nothing of a body is repeated but the error that Prometheus itself words: the text ends up in a resource's status, and
the server may be one that a resource's author chose.
"""

import ssl
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3

from dopd.cluster.bodies import BadBody, parse_json
from dopd.telemetry.doors import printable

if TYPE_CHECKING:
    from dopd.telemetry.connection import ConnectionSettings

LONGEST_QUOTE = 300
LARGEST_ERROR_BYTES = 2**16
"""Of a body that is looked into for words: what is larger holds series."""
LOGIN = "if to a login, a bearer token"
BASE_PATH = (
    "check the base path of the URL: /prometheus for Mimir and Cortex, /select/0/prometheus for a cluster of"
    " VictoriaMetrics, none for Prometheus and Thanos"
)
TENANT = "it serves several tenants; name one: --prometheus-header X-Scope-OrgID=TENANT"
FEWER = "let fewer resources share the server, or tell theirs apart by spec.telemetry.labels"
"""What makes answers smaller: each is about all resources of a server, and short pieces of time."""
ANNOTATIONS = ("PromQL warning:", "PromQL info:")
"""Warnings on the query, not on what is missing from its answer."""


def about_url(url: str) -> str:
    """What keeps a URL from being a base URL; "" if nothing does."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        requests.Request("GET", url).prepare()
    except (ValueError, requests.RequestException):
        valid = False
    if not valid:
        return "not a URL such as http://prometheus.monitoring.svc:9090"
    if "@" in parts.netloc:
        return "credentials do not belong into a URL; give --prometheus-bearer-token-file or --prometheus-username"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "a base URL ends before ? and #; give --prometheus-query NAME=VALUE for query parameters"
    return ""


def about_failure(error: Exception, settings: "ConnectionSettings") -> str:
    """Why no answer came at all, and what to do."""
    root = _root(error)
    if isinstance(root, ssl.SSLError):
        return _about_tls(root, settings)
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, timeouts) or isinstance(root, timeouts):
        return (
            f"no whole answer within {settings.timeout_seconds:g} s. --prometheus-timeout gives it more time. Is it"
            " overloaded, or a NetworkPolicy in the way?"
        )
    if isinstance(root, HTTPException) and not isinstance(root, RemoteDisconnected):
        # Its words are those of whoever listens there, which may be anything that talks.
        return f"what answers is no HTTP, or breaks off ({type(root).__name__}). Check the URL, its port and its scheme"
    text = str(root) or type(root).__name__
    if isinstance(root, OSError) and "invalid path" in text:
        return f"{text.partition('invalid path: ')[2]} is not there; mount the file of TLS, or correct its name"
    words = getattr(root, "strerror", None) or text
    return f"not reached ({_quote(words)}). Check the URL, and NetworkPolicies between the operator and it"


def _about_tls(error: ssl.SSLError, settings: "ConnectionSettings") -> str:
    words = getattr(error, "verify_message", "") or (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version number" in words or "record layer" in words:
        return f"no TLS ({words}): does the server speak http:// at this port?"
    if "alert" in words:  # sent by the server
        return f"TLS: {words}. Does it want a certificate of the operator: --prometheus-client-certificate-file?"
    if settings.of_resource:
        return f"TLS: {words}. For the URL of a resource only the system's authorities are trusted"
    if settings.ca_file:
        return f"TLS: {words}. Is {settings.ca_file} (--prometheus-ca-file) of the authority that signed the server?"
    return f"TLS: {words}. Give the authority that signed the server's certificate: --prometheus-ca-file"


def about_body(problem: str, settings: "ConnectionSettings") -> str:
    """Why a body is not read to its end, and what to do."""
    if not problem.startswith("more than"):
        return problem
    if settings.of_resource:
        return f"{problem}; {FEWER}. Only the operator's own URL may answer more"
    return f"{problem}; {FEWER}, or raise --prometheus-max-answer-mib"


def about_partial(answer: Mapping[str, Any]) -> str:
    """What may be missing from an answer; "" if nothing is."""
    if answer.get("isPartial"):
        return "the answer is partial: a storage node of VictoriaMetrics is away"
    told = answer.get("warnings")
    warnings = [str(w) for w in told if not str(w).startswith(ANNOTATIONS)] if isinstance(told, list) else []
    return f"the answer may be partial: {_quote('; '.join(warnings))}" if warnings else ""


def about_answer(
    status: int, headers: Mapping[str, str], body: bytes | bytearray, settings: "ConnectionSettings", problem: str
) -> str:
    """What keeps an answer from being a whole one of Prometheus, and what to do.

    Args:
        status: of HTTP.
        headers: of the answer.
        body: of the answer.
        settings: that it was asked with.
        problem: why it is not let through, where it is a success by its status.
    """
    if 300 <= status < 400:
        return f"status {status}: redirected to {_origin(headers)}. Give the URL that it leads to; {LOGIN}"
    if status in (401, 403):
        return f"status {status}: {TENANT if b'no org id' in body else _about_credentials(settings)}"
    answer = _json(body)
    if answer is None:
        kind = headers.get("Content-Type", "").partition(";")[0] or "no content type"
        words = "it ends early or is none" if kind == "application/json" else BASE_PATH
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return f"status {status}: it is asked too much"
        if problem and len(body) > LARGEST_ERROR_BYTES:
            return f"status {status} and series that can not be read: {problem}"
        return f"status {status} and {_quote(kind)} where JSON of Prometheus should be: {words}"
    if status != HTTPStatus.OK or answer.get("status") != "success":
        return _about_error(status, answer)
    if partial := about_partial(answer):
        return partial
    if not isinstance(answer.get("data"), dict) or "result" not in answer["data"]:
        return f"JSON without a result: {BASE_PATH}"
    return f"a series, or the kind of answer, is not as asked for: {problem}"


def _origin(headers: Mapping[str, str]) -> str:
    try:
        target = urlsplit(headers.get("Location", ""))
        return f"{_quote(target.scheme)}://{_quote(target.netloc)}" if target.netloc else "another path"
    except ValueError:
        return "what is no URL"


def _about_credentials(settings: "ConnectionSettings") -> str:
    if settings.of_resource:
        return (
            "the URL of a resource is reached without credentials. Leave spec.telemetry.prometheusURL out to use the"
            " operator's own, or let it answer without"
        )
    if settings.bearer_token_file:
        return f"the bearer token in {settings.bearer_token_file} is refused: expired, or not allowed to query?"
    if settings.username:
        return f"user {settings.username} or the password in {settings.password_file} is refused"
    return "it wants credentials: --prometheus-bearer-token-file, or --prometheus-username with a password file"


def _about_error(status: int, answer: Mapping[str, Any]) -> str:
    kind, error = answer.get("errorType"), answer.get("error")
    told = f"status {status} and JSON that names no error of Prometheus"
    if isinstance(error, str):
        told = f"status {status}: {_quote(kind) if isinstance(kind, str) else 'error'}: {_quote(error)}"
    if kind == "timeout" or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.GATEWAY_TIMEOUT):
        return f"{told}. Is it overloaded? --prometheus-timeout gives it more time"
    return f"status {status}: {BASE_PATH}" if status == HTTPStatus.NOT_FOUND else told


def _json(body: bytes | bytearray) -> dict[str, Any] | None:
    try:
        answer = parse_json(body) if len(body) <= LARGEST_ERROR_BYTES else None
    except BadBody:
        return None
    return answer if isinstance(answer, dict) else None


def _quote(text: str) -> str:
    return printable(text, LONGEST_QUOTE)


def _root(error: BaseException) -> BaseException:
    """The error that others were made of: urllib3 and requests wrap it up to four times."""
    for inner in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(inner, BaseException):
            return _root(inner)
    return error
