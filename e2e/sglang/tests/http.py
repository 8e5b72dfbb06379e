"""Requests to engines and gateways, without an event loop: each in a thread of its caller's choice."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

REQUEST_SECONDS = 240


def post(url: str, body: object) -> tuple[int, Any]:
    """Status and answer of a POST: JSON where it is, else text."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:
            return answer.status, _content(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _content(error.read())


def status_of(url: str) -> int:
    """Status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def load_of(url: str) -> dict[str, Any]:
    """The entry of an engine's /v1/loads."""
    with urllib.request.urlopen(f"{url}/v1/loads", timeout=REQUEST_SECONDS) as answer:
        entry: dict[str, Any] = json.load(answer)["loads"][0]
        return entry


def metrics_of(url: str) -> dict[str, float]:
    """An engine's metrics by name, each summed over its labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=REQUEST_SECONDS) as answer:
        text = answer.read().decode()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return values


def generate(ids: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
    """A body for /generate: greedy, of exactly so many tokens."""
    return {
        "input_ids": list(ids),
        "sampling_params": {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True},
        **more,
    }


def later(pool: ThreadPoolExecutor, url: str, body: object) -> "Future[tuple[int, Any]]":
    """A POST in the background."""
    return pool.submit(post, url, body)


def _content(text: bytes) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.decode(errors="replace")
