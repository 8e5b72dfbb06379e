"""Command line: `python -m e2e.faults [NAME ...]`."""

import argparse
import json
import sys
import traceback
from collections.abc import Sequence

from e2e import stack as stacks
from e2e.arguments import one_of
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
NAME = "faults"
MOST_KV_LEFT = 0.001


def main(arguments: list[str] | None = None) -> int:
    """Cause faults; 0 when all went as it should, 1 when not, 2 when there is no cluster."""
    options = _parser().parse_args(arguments)
    names = options.faults or list(FAULTS)
    found: list[Finding] = []
    failed = []
    try:
        stack = stacks.up(options.name)
        grounds = Grounds(stack)
        with docker_session(stack.cluster.docker_host) as docker:
            for name in names:
                say(f"fault {name}")
                try:
                    found.append(_caused(grounds, docker, FAULTS[name]))
                    say(found[-1].row)
                    _write(found[-1:])
                except Exception:  # the others are worth their time
                    traceback.print_exc()
                    failed.append(name)
                    say(f"what the cluster looked like: {stacks.collect(stack, name)}")
                    grounds.clear()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if not options.keep:
            stacks.down(options.name)
    print(f"{len(found)} faults measured, not measured: {', '.join(failed) or 'none'}")
    return 1 if failed or any(each.problems for each in found) else 0


class Grounds:
    """The resource that faults happen to: made anew only where the next fault needs another one."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._now: Field | None = None
        self._shape = ""

    def of(self, fault: Fault) -> Field:
        """A resource as a fault needs it, with its workers serving."""
        shape = json.dumps([fault.gateways, fault.changes, fault.needs], sort_keys=True)
        if self._now is not None and shape == self._shape:
            self._now.scale(fault.workers)
            self._now.until_settled(fault.workers)
            return self._now
        self.clear()
        if fault.needs:
            self._stack.apply(*fault.needs)
        self._now, self._shape = Field(self._stack, NAME, gpus=GPUS, gateways=fault.gateways, **fault.changes), shape
        self._now.create(fault.workers)
        return self._now

    def clear(self) -> None:
        """Remove it."""
        if self._now is not None:
            self._now.delete()
        self._now = None


def _caused(grounds: Grounds, docker: Docker, fault: Fault) -> Finding:
    with Trial(grounds.of(fault), docker, answer_tokens=fault.answer_tokens) as trial:
        outcome = fault.cause(trial)
    problems = list(outcome.problems)
    if trial.most_gpus > GPUS + outcome.lost_gpus:
        problems.append(f"{trial.most_gpus} GPUs were held, of {GPUS}")
    if trial.lost and fault.loses is Loses.NONE:
        problems.append("no request should be lost")
    holds = {pod: load["token_usage"] for pod, load in trial.stuck.items() if load["token_usage"] > MOST_KV_LEFT}
    problems += [f"{pod} still holds {share:.3f} of its KV cache" for pod, share in holds.items()]
    saw = "; ".join(filter(None, (trial.users_saw(), outcome.saw)))
    return Finding(fault.title, saw, fault.does, trial.dopd_said(), outcome.recovery, tuple(problems))


def _write(found: Sequence[Finding]) -> None:
    """At once: who ends a long run early keeps what was measured."""
    known = {fault.title: fault.does for fault in FAULTS.values()}
    PAGE.write_text(with_rows(PAGE.read_text(), list(found), known))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.faults", description="Faults on purpose; writes docs/faults.md."
    )
    parser.add_argument(
        "faults", nargs="*", type=one_of(FAULTS), metavar="NAME", help=f"of {', '.join(FAULTS)} (default: all)"
    )
    parser.add_argument("--name", default=stacks.cluster_name("faults"), help="name of the cluster")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    return parser


if __name__ == "__main__":
    sys.exit(main())
