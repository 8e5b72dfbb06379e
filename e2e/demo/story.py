"""The steps of the demo, in the order in which they are told."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import yaml

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.planning import Policy
from e2e.demo import fitting
from e2e.demo.watch import Watcher, served_after_seconds
from e2e.load import BackgroundLoad, Result, Schedule, Target, TraceError, read_trace
from e2e.stack import MANIFESTS, Stack, condition, wait_for

NAME = "demo"
MODEL = "demo/chat"
SPEEDUP = 5.0
TRACE_SECONDS = 600.0
BUNDLED_TRACE = MANIFESTS.parent / "load" / "traces" / "azure2023-conv-10min.csv.gz"
FIRST_TOKEN_TIMEOUT_SECONDS = 120.0
LINE_EVERY_SECONDS = 5.0
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
    print(text, flush=True)


@dataclass(frozen=True)
class Settings:
    """What the demo's manifests say, as far as the story needs it.

    Attributes:
        spec: of the resource.
        model: performance of one engine, in seconds of the clock.
        policy: bounds and objectives.
    """

    spec: DisaggregatedInferenceSpec
    model: EngineModel
    policy: Policy

    @classmethod
    def from_manifests(cls) -> "Settings":
        """Read the manifests of the demo."""
        inference = yaml.safe_load((MANIFESTS / "demo" / "inference.yaml").read_text())
        profile = yaml.safe_load((MANIFESTS / "demo" / "profile.yaml").read_text())
        spec = DisaggregatedInferenceSpec.model_validate(inference["spec"])
        model = EngineModel.from_profile(EngineProfileSpec.model_validate(profile["spec"]))
        return cls(spec, model, Policy.from_spec(spec, time.time()))


def prepare(trace: Path, settings: Settings) -> Schedule:
    """The part of a trace that is played, compressed, and thinned if the demo's workers could not carry it all.

    Raises:
        TraceError: the file cannot be used.
    """
    window = read_trace(trace).window(0.0, TRACE_SECONDS)
    held = fitting.without_longest(window)
    if not held:
        raise TraceError(f"trace {trace}: no request of its first {TRACE_SECONDS:.0f} s fits an engine of the demo")
    schedule, share = fitting.fit(held.compressed(SPEEDUP), settings.model, settings.policy)
    needs = fitting.needs(schedule, settings.model, settings.policy)
    tell(f"Trace {trace.name}: {len(schedule)} requests in {schedule.seconds:.0f} s, at {SPEEDUP:g} times its pace.")
    if len(held) < len(window):
        tell(f"  {len(window) - len(held)} requests are left out: longer than an engine of the demo holds.")
    if share < 1:
        tell(f"  Thinned to {share:.0%} of its requests, which is what the demo's workers can carry.")
    tell(
        f"  Planned offline, minute by minute, it needs {_span([n.prefill for n in needs])} prefill and"
        f" {_span([n.decode for n in needs])} decode workers."
    )
    return schedule


def _span(counts: list[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(min(counts))


def apply_and_wait(stack: Stack) -> float:
    """Apply the resource and wait for the first streamed token; returns seconds from one to the other.

    Raises:
        TimeoutError: no token came.
    """
    stack.kubectl("delete", "-k", str(MANIFESTS / "demo"), "--ignore-not-found", "--wait")
    wait_for(lambda: not stack.pods(NAME), "the pods of an earlier demo are gone", timeout_seconds=120)
    client = client_of(stack, timeout_seconds=5.0)
    start = time.monotonic()
    stack.kubectl("apply", "-k", str(MANIFESTS / "demo"))
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
            print(piece, end="", flush=True)
        print()


def play(stack: Stack, schedule: Schedule, watcher: Watcher) -> list[Result]:
    """Play the schedule, with a line every few seconds; returns what became of each request."""
    target = Target(stack.gateway_url, MODEL)
    tell("   time  requests/s   P desired/ready   D desired/ready     ok  lost  last decision")
    with BackgroundLoad(target, schedule) as load:
        seen = 0
        start = time.monotonic()
        while load.playing:
            load.wait(timeout_seconds=LINE_EVERY_SECONDS)
            now = time.monotonic() - start
            tell(_line(now, schedule, load, watcher, seen))
            seen = len(watcher.decisions)
        return load.wait()


def _line(now: float, schedule: Schedule, load: BackgroundLoad, watcher: Watcher, seen: int) -> str:
    rate = sum(now - LINE_EVERY_SECONDS <= a.at_seconds < now for a in schedule) / LINE_EVERY_SECONDS
    lost = len(load.lost)
    last = watcher.decisions[-1] if watcher.decisions else None
    decision = f"{last.before} -> {last.to} {last.reason}" if last and len(watcher.decisions) > seen else ""
    return (
        f"  {now:4.0f}s  {rate:10.1f}   {_workers(watcher, 'prefill'):>15}   {_workers(watcher, 'decode'):>15}"
        f"  {len(load.results) - lost:5}  {lost:4}  {decision}"
    ).rstrip()


def _workers(watcher: Watcher, role: str) -> str:
    if not watcher.samples:
        return "-"
    workers = getattr(watcher.samples[-1], role)
    return f"{workers.desired}/{workers.ready}"


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


def show_decisions(watcher: Watcher) -> None:
    """Print every decision, when it was taken and when it served."""
    tell("   decided  from -> to      served after  why")
    for decision in watcher.decisions:
        after = served_after_seconds(decision, watcher.samples)
        served = f"{after:.0f} s" if after is not None else "superseded"
        change = f"{decision.before} -> {decision.to}"
        tell(f"  {decision.at_seconds:7.0f}s  {change:<13}  {served:>12}  {decision.reason}: {decision.message}")


def decisions_as_json(watcher: Watcher, start_seconds: float) -> list[dict[str, Any]]:
    """The decisions, with times since the trace began."""
    return [
        {
            "t": round(decision.at_seconds - start_seconds, 1),
            "p": decision.target[0],
            "d": decision.target[1],
            "reason": decision.reason,
            "served_after_s": served_after_seconds(decision, watcher.samples),
        }
        for decision in watcher.decisions
    ]
