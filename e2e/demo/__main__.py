"""`python -m e2e.demo`: the whole story, from no cluster to no cluster."""

import argparse
import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dopd.cli.errors import did_you_mean
from e2e import stack as stacks
from e2e.arguments import file_to_write, one_of
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.demo import story
from e2e.demo.page import page
from e2e.demo.plan import plan, told
from e2e.demo.record import Run, figures
from e2e.demo.scenario import FIRST_LIGHT, SCENARIOS, Prepared, Settings, prepare
from e2e.demo.story import DemoFailed, tell
from e2e.demo.watch import journey
from e2e.demo.what_if import WhatIf, what_if
from e2e.load import TraceError
from e2e.stack import Stack

MOST_LOST_TOLD = 5


def main(arguments: list[str] | None = None) -> int:
    """Tell the story; the last line sums it up, the exit status says whether it went well."""
    options = _parser().parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    if options.plan:
        tell(told(plan(scenario)))
        return 0
    trace = options.trace or scenario.trace
    try:
        settings = Settings.of(scenario)
        prepared = prepare(scenario, settings, trace)
    except TraceError as error:
        tell(f"demo: FAILED, {error}")
        return 1
    story.introduce(scenario, prepared, trace)
    signal.signal(signal.SIGTERM, _interrupt)
    stack: Stack | None = None
    try:
        tell(f"\n1. A cluster: kind, the images, Prometheus, the operator from its chart (name: {options.name}).")
        stack = stacks.up(options.name)
        first_token_seconds, run = _run(stack, settings, prepared, options)
        last_line, status = _sum_up(run, first_token_seconds, options, trace), 0
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


def _run(stack: Stack, settings: Settings, prepared: Prepared, options: argparse.Namespace) -> tuple[float, Run]:
    """Everything that happens on the cluster; returns seconds to the first token, and the record."""
    scenario = SCENARIOS[options.scenario]
    if options.record:
        stack.record_decisions()
    tell(f"\n2. A resource: kubectl apply -k {scenario.manifests.relative_to(REPOSITORY)}")
    first_token_seconds = story.apply_and_wait(stack, scenario.manifests)
    tell(f"  first token {first_token_seconds:.1f} s after apply")
    tell("\n3. A few completions, with the OpenAI client, through the gateway, a prefill and a decode worker.")
    story.converse(stack)
    tell(f"\n4. {scenario.title}.")
    watcher = story.watch(stack, settings)
    try:
        results = story.play(stack, scenario, settings, prepared, watcher)
        tell("\n5. The load is over: the operator takes back what it had called for.")
        story.calm_down(watcher, settings.policy)
    finally:
        watcher.stop()
    if options.record:
        options.record.write_text(stack.recording(story.NAME), encoding="utf-8")
        tell(f"  what the autoscaler was told and decided: {options.record}")
    tell(f"\n$ kubectl get pdi\n{stack.kubectl('get', 'pdi')}")
    return first_token_seconds, story.record(scenario, settings, prepared, results, watcher)


def _sum_up(run: Run, first_token_seconds: float, options: argparse.Namespace, trace: Path) -> str:
    """Print and write the figures; returns the last line."""
    story.show_decisions(run)
    other = what_if(run.schedule, run.settings, run.lead_seconds, run.lead_in_seconds)
    _tell_figures(run, other)
    if options.json:
        options.json.write_text(json.dumps(figures(run, other, first_token_seconds), indent=2))
        tell(f"  figures: {options.json}")
    if options.html:
        options.html.write_text(page(run, other, trace.name), encoding="utf-8")
        tell(f"  page: {options.html}")
    prefill = journey([sample.prefill.ready for sample in run.samples])
    decode = journey([sample.decode.ready for sample in run.samples])
    end = f"first token after {first_token_seconds:.1f} s, P {prefill}, D {decode}"
    for lost in run.lost[:MOST_LOST_TOLD]:
        tell(f"  sent at {lost.at_seconds:.1f} s, {lost.outcome} after {lost.total_seconds:.2f} s: {lost.error}")
    if run.lost:
        whole = len(run.results) - len(run.lost)
        raise DemoFailed(f"{whole} completions, {len(run.lost)} failed (the first: {run.lost[0].error}), {end}")
    return f"demo: ok, {len(run.results)} completions, 0 failed, {end}"


def _tell_figures(run: Run, other: WhatIf) -> None:
    summary, objectives = run.summary(), run.settings.objectives(run.scenario.speedup)
    ttft, itl = summary.ttft_seconds, summary.itl_seconds
    tell(f"\n  at the client, in time of the trace: first token p50 {ttft['p50']:.2f} s, p99 {ttft['p99']:.2f} s;")
    tell(f"  between tokens p50 {itl['p50'] * 1000:.0f} ms, p99 {itl['p99'] * 1000:.0f} ms")
    limits = f"{objectives.ttft_seconds:g} s and {objectives.itl_seconds * 1000:g} ms"
    tell(f"\n  {f'within {limits}':<42} both    TTFT     ITL   GPU hours of the trace")
    ours = (summary.attainment or 0, summary.attainment_ttft or 0, summary.attainment_itl or 0)
    rows = [("this run, at the client", *ours, run.gpu_seconds)]
    rows += [(o.label, o.attainment, o.attainment_ttft, o.attainment_itl, o.gpu_seconds) for o in other.outcomes]
    for label, both, first, between, gpu_seconds in rows:
        share = gpu_seconds / other.reactive.gpu_seconds
        tell(f"  {label:<40}{both:7.2%} {first:7.2%} {between:7.2%}  {gpu_seconds / 3600:6.2f}  ({share:.2f})")
    tell("  All but the first are replayed on the same arrivals; the last three were chosen with hindsight.")


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


def _trace(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: expected a file that exists, in a format that dopd replay reads")
    return Path(text)


class _OneLine(argparse.ArgumentParser):
    """Says what is wrong in one line, and no usage: `make demo` has shown its options by then."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        words = message.removeprefix("argument ")
        if words.startswith("unrecognized arguments: "):
            told = words.removeprefix("unrecognized arguments: ").split()[0]
            known = [name for action in self._actions for name in action.option_strings]
            words = f"{told}: no such option{did_you_mean(told, known)}; see {self.prog} --help"
        elif words.endswith("expected one argument"):
            words = f"{words.partition(':')[0]}: expected a value after it"
        else:  # "--scenario: x: expected ..." reads as the command line has it
            words = words.replace(": ", " ", 1)
        print(f"demo: {words}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _OneLine(prog="python -m e2e.demo", description=__doc__)
    add = parser.add_argument
    add("--plan", action="store_true", help="say what would be used, built and run on this machine, and start nothing")
    add("--keep", action="store_true", help="leave the cluster running, and say how to look around")
    add(
        "--scenario",
        type=one_of(SCENARIOS),
        metavar="NAME",
        default=FIRST_LIGHT.name,
        help=f"one of {', '.join(SCENARIOS)} (default: %(default)s)",
    )
    add("--trace", type=_trace, metavar="FILE", help="play the start of another trace")
    add("--json", type=file_to_write, metavar="FILE", help="write the figures")
    add("--html", type=file_to_write, metavar="FILE", help="write a page of the run")
    add("--record", type=file_to_write, metavar="FILE", help="write what the autoscaler was told and decided")
    add("--name", default=stacks.cluster_name("demo"), help="name of the cluster (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
