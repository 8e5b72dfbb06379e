"""The steps of the demo, in the order in which they are told."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import openai
from rich.console import Console
from rich.live import Live

from dopd.api.names import Role
from dopd.api.text import plain
from dopd.planning import Policy
from e2e.demo.record import Run
from e2e.demo.scenario import Prepared, Scenario, Settings
from e2e.demo.seen import Load, held_gpus
from e2e.demo.terminal import HEADING, line, picture
from e2e.demo.watch import Watcher, served_after_seconds
from e2e.load import BackgroundLoad, Result, Target
from e2e.stack import Stack, condition, wait_for

NAME = "demo"
MODEL = "demo/chat"
FIRST_TOKEN_TIMEOUT_SECONDS = 120.0
LINE_EVERY_SECONDS = 5.0
PICTURE_EVERY_SECONDS = 1.0
PROMETHEUS_TIMEOUT_SECONDS = 2.0
CALM_TIMEOUT_SECONDS = 75.0
QUESTIONS = (
    "What does a prefill worker do?",
    "And a decode worker?",
    "Why keep them apart?",
)


class DemoFailed(Exception):
    """The demo did not show what it has to show; the message says what."""


def tell(text: str = "") -> None:
    """Print a line of the story."""
    print(plain(text), flush=True)


def introduce(scenario: Scenario, prepared: Prepared, trace: Path) -> None:
    """Say what will be played, and what it needs."""
    schedule, speedup = prepared.schedule, scenario.speedup
    tell(f"Trace {trace.name}: {len(schedule)} requests in {schedule.seconds:.0f} s, at {speedup:g} times its pace.")
    tell(f"  The first {scenario.lead_in_seconds:g} s lead in to it and count in no share.")
    if prepared.left_out:
        tell(f"  {prepared.left_out} requests are left out: longer than an engine of the demo holds.")
    if prepared.share < 1:
        tell(f"  Thinned to {prepared.share:.0%} of its requests, which is what the demo's workers can carry.")
    prefill, decode = _span([n.prefill for n in prepared.needs]), _span([n.decode for n in prepared.needs])
    tell(f"  Planned offline, stretch by stretch, it needs {prefill} prefill and {decode} decode workers.")


def _span(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(min(counts))


def apply_and_wait(stack: Stack, manifests: Path) -> float:
    """Apply the resource and wait for the first streamed token; returns seconds from one to the other.

    Raises:
        TimeoutError: no token came.
    """
    stack.kubectl("delete", "-k", str(manifests), "--ignore-not-found", "--wait")
    wait_for(lambda: not stack.pods(NAME), "the pods of an earlier demo are gone", timeout_seconds=120)
    client = client_of(stack, timeout_seconds=5.0)
    start = time.monotonic()
    stack.kubectl("apply", "-k", str(manifests))
    tell("  applied; waiting for the first token to come through the gateway")
    try:
        wait_for(
            lambda: _first_token(client),
            "a token streamed through the gateway",
            timeout_seconds=FIRST_TOKEN_TIMEOUT_SECONDS,
            every_seconds=0.25,
        )
    except TimeoutError as error:
        ready = condition(stack.inference(NAME), "Ready")
        raise TimeoutError(f"{error}; Ready: {ready.get('reason')} {ready.get('message')}") from error
    return time.monotonic() - start


def client_of(stack: Stack, *, timeout_seconds: float = 30.0) -> openai.OpenAI:
    """The OpenAI client for the gateway of the demo."""
    return openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key="none", max_retries=0, timeout=timeout_seconds)


def _first_token(client: openai.OpenAI) -> str:
    try:
        return next(_pieces(client, "Hello", tokens=4), "")
    except openai.OpenAIError:
        return ""


def _pieces(client: openai.OpenAI, question: str, *, tokens: int) -> Iterator[str]:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=tokens, stream=True
    )
    for event in stream:
        if event.choices and event.choices[0].delta.content:
            yield event.choices[0].delta.content


def converse(stack: Stack) -> None:
    """Stream a few completions with the OpenAI client, and print them."""
    client = client_of(stack)
    for question in QUESTIONS:
        print(f"  > {question}\n  < ", end="", flush=True)
        for piece in _pieces(client, question, tokens=20):
            print(plain(piece), end="", flush=True)
        print()


def watch(stack: Stack, settings: Settings) -> Watcher:
    """Begin to watch the resource's status, its pods and the operator's metrics."""
    gpus = {role: settings.policy.bounds(role).gpus for role in Role}
    return Watcher(
        lambda: stack.inference(NAME),
        held_gpus=lambda: held_gpus(stack.pods(NAME), gpus),
        load=lambda: _load(stack),
    )


def _load(stack: Stack) -> Load:
    """The load as the operator sees it; unknown while Prometheus does not answer."""
    try:
        answer = httpx.get(
            f"{stack.prometheus_url}/api/v1/query",
            params={"query": Load.query(NAME)},
            timeout=PROMETHEUS_TIMEOUT_SECONDS,
        )
        answer.raise_for_status()
    except httpx.HTTPError:
        return Load()
    return Load.of(answer.json()["data"]["result"])


def record(
    scenario: Scenario, settings: Settings, prepared: Prepared, results: Sequence[Result], watcher: Watcher
) -> Run:
    """What has been recorded so far."""
    return Run(
        scenario=scenario,
        settings=settings,
        schedule=prepared.schedule,
        needs=prepared.needs,
        results=list(results),
        samples=list(watcher.samples),
        decisions=list(watcher.decisions),
    )


def play(stack: Stack, scenario: Scenario, settings: Settings, prepared: Prepared, watcher: Watcher) -> list[Result]:
    """Play the schedule and draw how it goes; returns what became of each request."""
    console = Console()
    target = Target(stack.gateway_url, MODEL)
    with BackgroundLoad(target, prepared.schedule) as load:

        def now() -> Run:
            return record(scenario, settings, prepared, load.results, watcher)

        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                while load.playing:
                    load.wait(timeout_seconds=PICTURE_EVERY_SECONDS)
                    live.update(picture(now(), watcher.seconds), refresh=True)
        else:
            tell(HEADING)
            while load.playing:
                load.wait(timeout_seconds=LINE_EVERY_SECONDS)
                tell(line(now(), watcher.seconds))
        return load.wait()


def calm_down(watcher: Watcher, policy: Policy) -> None:
    """Wait until the operator has taken back what the load had called for; it need not come to that."""
    least = (policy.prefill.min, policy.decode.min)

    def at_rest() -> bool:
        last = watcher.samples[-1] if watcher.samples else None
        return last is not None and (last.prefill.present, last.decode.present) == least

    try:
        wait_for(at_rest, "back at the fewest workers", timeout_seconds=CALM_TIMEOUT_SECONDS)
    except TimeoutError:
        tell("  not back at the fewest workers yet; the story goes on")


def show_decisions(run: Run) -> None:
    """Print every decision, when it was taken and when it served."""
    tell("   decided  from -> to      served after  why")
    for decision in run.decisions:
        after = served_after_seconds(decision, run.samples)
        served = f"{after:.0f} s" if after is not None else "superseded"
        change = f"{decision.before} -> {decision.to}"
        tell(f"  {decision.at_seconds:7.0f}s  {change:<13}  {served:>12}  {decision.reason}: {decision.message}")
