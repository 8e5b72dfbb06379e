"""Profiles as commands look at them: those that come with dopd, those of a file, those of a cluster."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from dopd.api.profile import EngineProfileSpec
from dopd.cli import resource
from dopd.cli.arguments import F, number, object_name, option, together
from dopd.cli.clusters import namespace_of
from dopd.cli.errors import Failed, Refused, did_you_mean
from dopd.cluster import Kubernetes, kinds
from dopd.perf import EngineModel
from dopd.planning import Demand
from dopd.planning.policy import Objectives
from dopd.planning.sizing import Load
from dopd.replay.profiles import load_profile, shipped

INPUT_CV, OUTPUT_CV = 1.0, 0.8
"""Spread of lengths where nothing tells it, as measured on published request traces (`dopd.replay.trace`)."""


@dataclass(frozen=True)
class Named:
    """A profile and where it is.

    Attributes:
        where: `shipped`, a namespace or a file.
        name: of it.
        profile: what it says; None where it can not be read.
        problem: why; "" where it can.
    """

    where: str
    name: str
    profile: EngineProfileSpec | None
    problem: str = ""

    @property
    def readable(self) -> EngineProfileSpec:
        """What it says.

        Raises:
            Failed: it can not be read.
        """
        if self.profile is None:
            raise Failed(f"profile {self.name}: {self.problem}")
        return self.profile


def of_manifest(manifest: dict[str, Any]) -> Named:
    """A stored EngineProfile."""
    meta = manifest["metadata"]
    try:
        return Named(meta["namespace"], meta["name"], EngineProfileSpec.model_validate(manifest.get("spec")))
    except ValidationError as error:
        wrong = "; ".join(f"spec.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return Named(meta["namespace"], meta["name"], None, wrong)


def all_shipped() -> list[Named]:
    """Those that come with dopd."""
    return [Named("shipped", name, load_profile(name)) for name in shipped()]


def named(options: SimpleNamespace, name: str) -> Named:
    """The profile that a command names: a .yaml file, a shipped one, or one of the cluster (with -n, that alone).

    Raises:
        Refused: it is none of these.
        Failed: the cluster can not be asked.
    """
    if options.namespace is None and (name.endswith((".yaml", ".yml")) or name in shipped()):
        try:
            return Named("shipped" if name in shipped() else name, name, load_profile(name))
        except ValueError as error:
            raise Refused(str(error)) from error
    try:
        object_name(name)
    except ValueError:
        raise Refused(f"PROFILE {name}: expected a .yaml file, or the name of a profile{_near(name, [])}") from None
    namespace = namespace_of(options)
    try:
        stored, others = resource.ask(options, lambda kubernetes: _look(kubernetes, namespace, name))
    except Failed as error:
        if options.namespace is not None:
            raise
        raise Failed(f"PROFILE {name}: no shipped one{_near(name, [])}; and of a cluster: {error}") from error
    if stored is None:
        told = f"PROFILE {name}: namespace {namespace} has no EngineProfile of that name"
        raise Failed(f"{told}{_near(name, others)}; expected one of {', '.join([*others, *shipped()])}")
    return of_manifest(stored)


def _near(name: str, others: list[str]) -> str:
    return did_you_mean(name, [*others, *shipped()])


async def _look(kubernetes: Kubernetes, namespace: str, name: str) -> tuple[dict[str, Any] | None, list[str]]:
    stored = await kubernetes.get(kinds.PROFILE, namespace, name)
    others = [] if stored else [one["metadata"]["name"] for one in await kubernetes.list(kinds.PROFILE, namespace)]
    return stored, others


def lengths_options(function: F) -> F:
    """Requests by which a worker is judged."""
    return together(
        option("--input-tokens", of=_positive, metavar="N", default="2000", help="mean prompt length (default 2000)"),
        option("--output-tokens", of=_positive, metavar="N", default="200", help="mean answer length (default 200)"),
        option("--slo-ttft", of=_positive, metavar="SECONDS", default="1.5", help="objective (default 1.5)"),
        option("--slo-itl", of=_positive, metavar="SECONDS", default="0.05", help="objective (default 0.05)"),
    )(function)


_any: Callable[[str], float] = number()


def _positive(text: str) -> float:
    value = _any(text)
    if not 0 < value < math.inf:
        raise ValueError(f"{text}: expected a number above 0")
    return value


@dataclass(frozen=True)
class Capacity:
    """What one worker of each role carries at most, before queueing.

    Attributes:
        prompts_per_second: of a prefill worker that always computes.
        answers_per_second: of a decode worker whose slots are full.
        batch_limit: slots of a decode worker.
        limited_by: what sets them: kv, itl or engine.
        infeasible: objectives that no number of workers can meet; "" if all can be met.
        beyond: what lies beyond the points of the profile; "" if nothing.
    """

    prompts_per_second: float
    answers_per_second: float
    batch_limit: int
    limited_by: str
    infeasible: str
    beyond: str


def capacity(profile: EngineProfileSpec, options: SimpleNamespace) -> Capacity:
    """What one worker carries of requests of some lengths, under some objectives."""
    demand = Demand(
        1.0,
        options.input_tokens,
        options.input_tokens**2 * (1 + INPUT_CV**2),
        options.output_tokens,
        1.0,
        options.output_tokens**2 * (1 + OUTPUT_CV**2),
    )
    load = Load.of(demand, EngineModel.from_profile(profile), Objectives(options.slo_ttft, options.slo_itl))
    prefill, decode = load.prefill, load.decode
    return Capacity(
        prompts_per_second=1 / prefill.busy_workers if prefill.busy_workers else math.inf,
        answers_per_second=1 / decode.busy_workers if decode.busy_workers else math.inf,
        batch_limit=decode.batch_limit,
        limited_by=decode.limited_by,
        infeasible=load.infeasible,
        beyond="; ".join(part for part in (prefill.beyond, decode.beyond) if part),
    )
