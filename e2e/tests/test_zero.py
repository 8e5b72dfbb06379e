"""Both roles go to zero while nobody asks, and the first request brings them back; each gets a whole answer or 503."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from e2e.stack import Stack, condition, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import MODEL, auto

Json = dict[str, Any]
AFTER_SECONDS = 60
ASLEEP_SECONDS, AWAKE_SECONDS = AFTER_SECONDS + 120.0, 120.0
TOKENS = 24
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "word " * 200}],
    "max_tokens": TOKENS,
    "ignore_eos": True,
}


@dataclass
class Client:
    """Asks once a second, whatever the answer, and keeps what it got.

    Attributes:
        served: seconds at which a whole answer came.
        refused: seconds at which it was told to come again.
        lost: anything else, with its second.
    """

    url: str
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def ask(self) -> None:
        """One request, on a connection of its own."""
        began = time.monotonic() - self._began
        try:
            answer = httpx.post(f"{self.url}/v1/chat/completions", json=BODY, timeout=60.0, trust_env=False)
        except httpx.HTTPError as error:
            self.lost.append(f"{began:.1f} s: {type(error).__name__}: {error}")
            return
        whole = answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == TOKENS
        told = answer.status_code == 503 and answer.headers.get("retry-after", "").isdigit()
        if whole or told:
            (self.served if whole else self.refused).append(time.monotonic() - self._began)
        else:
            self.lost.append(f"{began:.1f} s: {answer.status_code}: {answer.text[:200]}")

    def start(self) -> None:
        """Begin to ask."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, once the last answer is there."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(1.0)


def asleep(stack: Stack, name: str) -> bool:
    """Whether no worker is there, and the resource says so."""
    told = condition(stack.inference(name), "Ready")
    workers = [*stack.pods(name, "prefill"), *stack.pods(name, "decode")]
    return (told.get("status"), told.get("reason")) == ("True", "Asleep") and not workers


def reasons(stack: Stack, name: str) -> list[str]:
    """Of the decisions, newest first."""
    return [decision["reason"] for decision in (stack.inference(name) or {})["status"]["decisions"]]


@pytest.mark.timeout(600, func_only=True)
def test_to_zero_and_back_on_the_first_request(stack: Stack, apply: Apply) -> None:
    name = apply(auto("zero", scaling__idle={"after": f"{AFTER_SECONDS}s"}))
    until_ready(stack, name)
    before = Client(stack.gateway_url)
    before.ask()
    assert len(before.served) == 1, before.lost
    wait_for(lambda: asleep(stack, name), "both roles are at zero", timeout_seconds=ASLEEP_SECONDS)
    assert reasons(stack, name)[0] == "Idle"
    assert len(stack.pods(name, "router")) == 1, "the gateway stays"

    client = Client(stack.gateway_url)
    client.start()
    try:
        wait_for(lambda: len(client.served) > 5, "requests are served", timeout_seconds=AWAKE_SECONDS)
    finally:
        client.stop()
        told = f"{len(client.refused)} requests were told to come again, {len(client.lost)} were lost: {client.lost}"
        first = f"first whole answer after {client.served[0]:.1f} s" if client.served else "no whole answer"
        print(f"{first}; {told}")
    assert client.lost == []
    assert client.refused, "the first requests found nobody"
    assert client.refused[-1] < client.served[0], "once it serves, it serves all"
    decided = reasons(stack, name)
    assert decided[decided.index("FirstRequest") + 1] == "Idle"
    until_ready(stack, name)
