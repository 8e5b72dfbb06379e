"""`python -m e2e.demo`: the whole story, from no cluster to no cluster."""

import argparse
import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from e2e import stack as stacks
from e2e.cluster.errors import ClusterError
from e2e.demo import story
from e2e.demo.story import DemoFailed, tell
from e2e.demo.watch import Watcher, gpu_seconds, journey
from e2e.load import Objectives, Result, Schedule, Summary, TraceError, summarize
from e2e.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """Tell the story; the last line sums it up, the exit status says whether it went well."""
    options = _parser().parse_args(arguments)
    try:
        settings = story.Settings.from_manifests()
        schedule = story.prepare(options.trace, settings)
    except TraceError as error:
        tell(f"demo: FAILED, {error}")
        return 1
    signal.signal(signal.SIGTERM, _interrupt)
    stack: Stack | None = None
    try:
        tell(f"\n1. A cluster: kind, the images, Prometheus, the operator from its chart (name: {options.name}).")
        stack = stacks.up(options.name)
        last_line, status = _play(stack, settings, schedule, options), 0
    except KeyboardInterrupt:
        last_line, status = "demo: FAILED, interrupted", 130
    except Exception as error:  # whatever happens, the cluster is tidied up and the last line tells
        if not isinstance(error, ClusterError | DemoFailed | TimeoutError):
            traceback.print_exc()
        last_line, status = f"demo: FAILED, {error}", 1
        if stack is not None:
            tell(f"\nWhat the cluster looked like: {stacks.collect(stack, 'demo')}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tidying up is not to be interrupted
    if options.keep and stack is not None:
        _look_around(stack)
    else:
        tell("\nStopping everything.")
        stacks.down(options.name)
    tell(last_line)
    return status


def _play(stack: Stack, settings: story.Settings, schedule: Schedule, options: argparse.Namespace) -> str:
    tell("\n2. A resource: kubectl apply -k e2e/manifests/demo")
    first_token_seconds = story.apply_and_wait(stack)
    tell(f"  first token {first_token_seconds:.1f} s after apply")
    tell("\n3. A few completions, with the OpenAI client, through the gateway, a prefill and a decode worker.")
    story.converse(stack)
    tell(f"\n4. Ten minutes of a real trace, {story.SPEEDUP:g} times as fast.")
    watcher = Watcher(lambda: stack.inference(story.NAME))
    try:
        watcher.look()
        start_seconds = watcher.seconds
        results = story.play(stack, schedule, watcher)
        tell("\n5. The load is over: the operator takes back what it had called for.")
        story.calm_down(watcher, settings.policy)
    finally:
        watcher.stop()
    tell(f"\n$ kubectl get pdi\n{stack.kubectl('get', 'pdi')}")
    story.show_decisions(watcher)
    slo = settings.spec.slo
    objectives = Objectives(slo.ttft_seconds * story.SPEEDUP, slo.itl_seconds * story.SPEEDUP)
    summary = summarize(results, objectives, speedup=story.SPEEDUP)
    _tell_latencies(summary, objectives)
    if options.json:
        options.json.write_text(json.dumps(_figures(summary, watcher, start_seconds, first_token_seconds), indent=2))
        tell(f"  figures: {options.json}")
    return _judge(results, summary, watcher, first_token_seconds)


def _judge(results: list[Result], summary: Summary, watcher: Watcher, first_token_seconds: float) -> str:
    prefill = journey([sample.prefill.ready for sample in watcher.samples])
    decode = journey([sample.decode.ready for sample in watcher.samples])
    lost = summary.failed + summary.truncated
    end = f"first token after {first_token_seconds:.1f} s, P {prefill}, D {decode}"
    if lost:
        raise DemoFailed(f"{summary.ok} completions, {lost} failed (the first: {summary.first_error}), {end}")
    return f"demo: ok, {len(results)} completions, 0 failed, {end}"


def _tell_latencies(summary: Summary, objectives: Objectives) -> None:
    ttft, itl = summary.ttft_seconds, summary.itl_seconds
    tell(f"\n  at the client, in time of the trace: first token p50 {ttft['p50']:.2f} s, p99 {ttft['p99']:.2f} s;")
    tell(f"  between tokens p50 {itl['p50'] * 1000:.0f} ms, p99 {itl['p99'] * 1000:.0f} ms")
    tell(
        f"  within {objectives.ttft_seconds:g} s and {objectives.itl_seconds * 1000:g} ms:"
        f" {summary.attainment or 0:.1%} of the requests"
    )


def _figures(summary: Summary, watcher: Watcher, start_seconds: float, first_token_seconds: float) -> dict[str, object]:
    return summary.as_json() | {
        "first_token_s": round(first_token_seconds, 2),
        "gpu_seconds": round(gpu_seconds(watcher.samples, (1, 1)) * story.SPEEDUP),
        "decisions": story.decisions_as_json(watcher, start_seconds),
    }


def _look_around(stack: Stack) -> None:
    tell("\nThe cluster stays. To look around:")
    tell(f"  export KUBECONFIG={stack.cluster.kubeconfig}")
    tell(f"  export PATH={stack.programs}:$PATH")
    tell("  kubectl get pdi,pods        kubectl describe pdi demo        kubectl -n dopd-system logs deploy/dopd -f")
    tell(f"  gateway     {stack.gateway_url}/v1    (model {story.MODEL})")
    tell(f"  Prometheus  {stack.prometheus_url}")
    tell(f"To stop it: python -m e2e.cluster down --name {stack.cluster.name}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    add = parser.add_argument
    add("--keep", action="store_true", help="leave the cluster running, and say how to look around")
    add("--trace", type=Path, default=story.BUNDLED_TRACE, metavar="FILE", help="play the start of another trace")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--name", default=stacks.cluster_name("demo"), help="name of the cluster (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
