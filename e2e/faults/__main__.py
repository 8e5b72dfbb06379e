"""Command line: `python -m e2e.faults [NAME ...]`."""

import argparse
import sys
import traceback
from collections.abc import Sequence

from e2e import stack as stacks
from e2e.cluster.daemon import docker_session
from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.steps import say
from e2e.endurance.field import Field
from e2e.faults import control_plane, engines
from e2e.faults.catalog import Fault, Loses
from e2e.faults.finding import Finding, with_rows
from e2e.faults.trial import Trial
from e2e.stack import Stack

FAULTS: dict[str, Fault] = {**engines.FAULTS, **control_plane.FAULTS}
PAGE = REPOSITORY / "docs" / "faults.md"
GPUS = 6


def main(arguments: list[str] | None = None) -> int:
    """Cause faults; 0 when all went as it should, 1 when not, 2 when there is no cluster."""
    options = _parser().parse_args(arguments)
    names = options.faults or list(FAULTS)
    found: list[Finding] = []
    failed = []
    try:
        stack = stacks.up(options.name)
        with docker_session(stack.cluster.docker_host) as docker:
            for name in names:
                say(f"fault {name}")
                try:
                    found.append(_caused(stack, docker, name, FAULTS[name]))
                    say(found[-1].row)
                    _write(found[-1:])
                except Exception:  # the others are worth their time
                    traceback.print_exc()
                    failed.append(name)
                    say(f"what the cluster looked like: {stacks.collect(stack, name)}")
                    stack.kubectl("delete", "pdi", "--all", "--wait=false")
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if not options.keep:
            stacks.down(options.name)
    print(f"{len(found)} faults measured, not measured: {', '.join(failed) or 'none'}")
    return 1 if failed or any(each.problems for each in found) else 0


def _caused(stack: Stack, docker: Docker, name: str, fault: Fault) -> Finding:
    ground = Field(stack, name, gpus=GPUS, gateways=fault.gateways, **fault.changes)
    stack.apply(*fault.needs) if fault.needs else None
    ground.create(fault.workers)
    with Trial(ground, docker, answer_tokens=fault.answer_tokens) as trial:
        outcome = fault.cause(trial)
    problems = list(outcome.problems)
    if trial.most_gpus > GPUS:
        problems.append(f"{trial.most_gpus} GPUs were held, of {GPUS}")
    if trial.lost and fault.loses is Loses.NONE:
        problems.append("no request should be lost")
    problems += [f"{pod} still holds {load['token_usage']:.3f} of its KV cache" for pod, load in trial.stuck.items()]
    ground.delete()
    saw = "; ".join(filter(None, (trial.users_saw(), outcome.saw)))
    return Finding(fault.title, saw, fault.does, trial.dopd_said(), outcome.recovery, tuple(problems))


def _write(found: Sequence[Finding]) -> None:
    """At once: who ends a long run early keeps what was measured."""
    order = [fault.title for fault in FAULTS.values()]
    PAGE.write_text(with_rows(PAGE.read_text(), list(found), order))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.faults", description="Faults on purpose; writes docs/faults.md."
    )
    parser.add_argument(
        "faults", nargs="*", choices=[*FAULTS, []], metavar="NAME", help=f"of {', '.join(FAULTS)} (default: all)"
    )
    parser.add_argument("--name", default=stacks.cluster_name("faults"), help="name of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    return parser


if __name__ == "__main__":
    sys.exit(main())
