"""`dopd plan`: what would be needed under another load, other objectives, another budget or another profile.

With a resource, beside what it has now: what is not given stays as it is, and the load is the greatest one that the
operator expects. Without one, from a profile and a load alone, and a manifest if one is given, so that no cluster is
needed. Nothing is changed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.profile import EngineProfileSpec
from dopd.autoscaler.explain import bound_words
from dopd.cli import resource
from dopd.cli.arguments import number, option, whole
from dopd.cli.clusters import cluster_options, namespace_option
from dopd.cli.errors import DONE, FAILED, Refused
from dopd.cli.explain import pair, pair_cells, pair_content
from dopd.cli.manifests import read_manifest
from dopd.cli.output import columns, format_option, painted, show, structured
from dopd.cli.profiles import INPUT_CV, OUTPUT_CV
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole, Policy
from dopd.planning.bounds import Bound, NoRoomError, Pair, apply_bounds, with_spare
from dopd.planning.policy import Objectives, RoleBounds
from dopd.planning.workings import PairRow, Workings, at_lengths, work_out
from dopd.reconcile.plan_status import percent
from dopd.replay.profiles import load_profile, shipped

ANY_STEP = 10_000
"""What is asked is where it would end, not the next step."""


def _above(least: float, what: str, such_as: str = "") -> Any:
    expected = f"expected {what} above {least:g}" + (f", such as {such_as}" if such_as else "")

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text}: {expected}") from None
        if not least < value < float("inf"):
            raise ValueError(f"{text}: {expected}")
        return value

    return convert


def _share(text: str) -> float:
    value = number()(text)
    if not 0 < value < 1:
        hint = f" (write {value / 100:g} for {value:g} %)" if 1 < value < 100 else ""
        raise ValueError(f"{text}: expected a share above 0 and below 1{hint}")
    return value


def _gpus(text: str) -> int:
    value = whole(text)
    if not 1 <= value <= 100_000:
        raise ValueError(f"{text}: expected a whole number of GPUs from 1 to 100000")
    return value


@click.command("plan", help=__doc__)
@click.argument("name", required=False, type=resource.Name(), metavar="[RESOURCE]")
@option("--load-scale", of=_above(0, "a factor"), metavar="N", help="factor on the load that is expected")
@option(
    "--requests-per-second", of=_above(0, "requests a second"), metavar="N", help="greatest arrival rate to be carried"
)
@option("--input-tokens", of=_above(0, "tokens"), metavar="N", help="mean prompt length")
@option("--output-tokens", of=_above(0, "tokens"), metavar="N", help="mean answer length")
@option("--slo-ttft", of=_above(0, "seconds", "1.5"), metavar="SECONDS", help="objective of the time to first token")
@option("--slo-itl", of=_above(0, "seconds", "0.05"), metavar="SECONDS", help="objective of the inter-token latency")
@option("--attainment", of=_share, metavar="SHARE", help="share of requests that must meet both")
@option("--gpu-budget", of=_gpus, metavar="N", help="GPUs of both roles at most")
@option(
    "--profile", metavar="NAME|FILE", choices=shipped(), help="a shipped profile, or a .yaml file, in place of its own"
)
@option(
    "--spec",
    of=Path,
    metavar="FILE",
    help="a manifest whose spec is taken in place of the resource's; without a RESOURCE, for its bounds and objectives",
)
@namespace_option
@format_option("table", "json", "yaml")
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd plan`."""
    options = SimpleNamespace(**given)
    plans = _of_resource(options) if options.name else [_alone(options)]
    if options.form == "table":
        show(_lines(plans))
    else:
        show(structured({plan.name: _content(plan) for plan in plans}, options.form).splitlines())
    return FAILED if plans[-1].missed else DONE


@dataclass(frozen=True)
class Plan:
    """What one load needs under one policy.

    Attributes:
        name: of the column.
        demands: that each role is planned for.
        policy: objectives and bounds.
        worked: the workers that are needed, worked out.
        target: what the bounds allow of them.
        bit: bounds that bit.
        problem: why the bounds allow no pair; "" where they do.
        row: what clients meet on the target.
    """

    name: str
    demands: PerRole[Demand]
    policy: Policy
    worked: Workings
    target: Pair
    bit: tuple[Bound, ...]
    problem: str
    row: PairRow

    @property
    def missed(self) -> bool:
        """The target does not meet the objectives."""
        return bool(self.problem) or self.row.expected.attainment < self.policy.objectives.attainment


def planned(name: str, demands: PerRole[Demand], engine: EngineModel, policy: Policy, before: Pair | None) -> Plan:
    """Plan for a load.

    Args:
        name: of the plan.
        demands: that each role is to carry.
        engine: performance of one engine.
        policy: objectives and bounds.
        before: the target now; None for none, so that nothing is kept for its sake.
    """
    policy = replace(policy, max_step=ANY_STEP)
    worked = work_out(demands, engine, policy)
    try:
        wanted, cut = with_spare(worked.needed, policy)
        target, bit = apply_bounds(wanted, before or wanted, policy)
        bit = tuple(dict.fromkeys((*bit, *cut)))
        problem = ""
    except NoRoomError as error:
        target, bit, problem = worked.needed, (), str(error)
    row = PairRow(target, policy.gpus(*target), worked.load.expect(*target))
    return Plan(name, demands, policy, worked, target, bit, problem, row)


def _of_resource(options: SimpleNamespace) -> list[Plan]:
    changed = read_manifest(options.spec) if options.spec else None
    found, other = resource.before_and_after(options, options.name, changed)
    at, expected = resource.now(), resource.demands(found)
    engine, policy = resource.engine_and_policy(found, at)
    plan = found.status.plan
    assert plan
    now = planned("before its sleep" if found.asleep else "now", expected, engine, policy, pair(plan.target))
    if other:
        engine, policy = resource.engine_and_policy(other, at)
    if options.profile:
        engine = _profile(options.profile, policy)
    return [
        now,
        planned("what if", expected.map(lambda d: _changed(d, options)), engine, _policy(policy, options), None),
    ]


def _profile(name: str, policy: Policy) -> EngineModel:
    profile = profile_of(name)
    if (profile.gpus, profile.gpus) != (policy.prefill.gpus, policy.decode.gpus):
        told = f"{policy.prefill.gpus} at prefill and {policy.decode.gpus} at decode"
        note = f"note: --profile {name} is of an engine with {profile.gpus} GPUs; a worker of the resource has {told}"
        print(note, file=sys.stderr)
    return EngineModel.from_profile(profile)


def _alone(options: SimpleNamespace) -> Plan:
    for name in ("profile", "requests_per_second", "input_tokens", "output_tokens"):
        if getattr(options, name) is None:
            raise Refused(
                f"--{name.replace('_', '-')}: missing; expected --profile, --requests-per-second, --input-tokens and "
                "--output-tokens where no RESOURCE is named: add it, or name a resource"
            )
    if options.load_scale is not None:
        raise Refused(f"--load-scale {options.load_scale:g}: expected a RESOURCE beside it; name one")
    profile = profile_of(options.profile)
    demand = Demand(
        options.requests_per_second,
        options.input_tokens,
        options.input_tokens**2 * (1 + INPUT_CV**2),
        options.output_tokens,
        1.0,
        options.output_tokens**2 * (1 + OUTPUT_CV**2),
    )
    if options.spec:
        policy = _of_manifest(options.spec)
        engine = _profile(options.profile, policy)
    else:
        bounds = RoleBounds(1, 1000, profile.gpus)
        policy, engine = Policy(prefill=bounds, decode=bounds), EngineModel.from_profile(profile)
    return planned("plan", PerRole(demand, demand), engine, _policy(policy, options), None)


def _of_manifest(path: Path) -> Policy:
    try:
        return Policy.from_spec(read_manifest(path), resource.now().timestamp())
    except ValueError as error:
        raise Refused(f"--spec {path}: {error}") from error


def profile_of(name: str) -> EngineProfileSpec:
    """A shipped profile or one of a file, that can be planned with.

    Raises:
        Refused: there is none.
    """
    try:
        profile = load_profile(name)
        EngineModel.from_profile(profile)
    except ValueError as error:
        raise Refused(f"--profile: {error}") from error
    return profile


def _changed(demand: Demand, options: SimpleNamespace) -> Demand:
    told = at_lengths(
        demand,
        requests_per_second=options.requests_per_second,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
    )
    return told.scaled(options.load_scale or 1.0)


def _policy(policy: Policy, options: SimpleNamespace) -> Policy:
    objectives = policy.objectives
    changed = Objectives(
        options.slo_ttft or objectives.ttft_seconds,
        options.slo_itl or objectives.itl_seconds,
        options.attainment or objectives.attainment,
    )
    budget = policy.gpu_budget if options.gpu_budget is None else options.gpu_budget
    return replace(policy, objectives=changed, gpu_budget=budget)


def _lines(plans: list[Plan]) -> Iterator[str]:
    rows = [["", *(plan.name for plan in plans)]]
    for name, cell in _CELLS:
        rows.append([name, *(cell(plan) for plan in plans)])
    yield from columns(rows)
    for plan in plans:
        for words in (plan.problem, plan.worked.infeasible):
            if words:
                yield painted(f"{plan.name}: {words}", fg="red")
        for beyond in {plan.worked.load.prefill.beyond, plan.worked.load.decode.beyond} - {""}:
            yield painted(f"{plan.name}: {beyond}", fg="yellow")
    last = plans[-1]
    if last.missed and not last.problem:
        aim, told = percent(last.policy.objectives.attainment), percent(last.row.expected.attainment)
        yield painted(f"{last.name}: {told} on time is below the objective of {aim}", fg="red")


def _rates(plan: Plan) -> str:
    prefill, decode = (f"{demand.requests_per_second:.4g}" for demand in plan.demands)
    return f"{prefill}/s" if prefill == decode else f"{prefill}/s at prefill, {decode}/s at decode"


def _objectives(plan: Plan) -> str:
    told = plan.policy.objectives
    return f"TTFT {told.ttft_seconds:g} s, ITL {1000 * told.itl_seconds:g} ms, {percent(told.attainment)}"


_CELLS = (
    ("requests", _rates),
    ("prompt tokens", lambda plan: f"{plan.demands.prefill.input_tokens:.0f}"),
    ("answer tokens", lambda plan: f"{plan.demands.decode.output_tokens:.0f}"),
    ("objectives", _objectives),
    ("GPU budget", lambda plan: "none" if plan.policy.gpu_budget is None else f"{plan.policy.gpu_budget}"),
    ("needed", lambda plan: f"{plan.worked.needed[0]}+{plan.worked.needed[1]}"),
    ("allowed", lambda plan: "nothing" if plan.problem else f"{plan.target[0]}+{plan.target[1]}"),
    ("GPUs", lambda plan: f"{plan.row.gpus}"),
    ("TTFT, mean", lambda plan: pair_cells(plan.row)[0]),
    ("ITL, mean", lambda plan: pair_cells(plan.row)[1]),
    ("on time", lambda plan: pair_cells(plan.row)[2]),
    ("limited by", lambda plan: "; ".join(bound_words(bound, plan.policy) for bound in plan.bit) or "nothing"),
)


def _content(plan: Plan) -> dict[str, Any]:
    objectives = plan.policy.objectives
    return {
        "prefillRequestsPerSecond": plan.demands.prefill.requests_per_second,
        "decodeRequestsPerSecond": plan.demands.decode.requests_per_second,
        "inputTokens": plan.demands.prefill.input_tokens,
        "outputTokens": plan.demands.decode.output_tokens,
        "slo": {
            "ttftSeconds": objectives.ttft_seconds,
            "itlSeconds": objectives.itl_seconds,
            "attainment": objectives.attainment,
        },
        "gpuBudget": plan.policy.gpu_budget,
        "needed": {"prefill": plan.worked.needed[0], "decode": plan.worked.needed[1]},
        "allowed": None if plan.problem else pair_content(plan.row),
        "limitedBy": [bound.value for bound in plan.bit],
        "problem": plan.problem or plan.worked.infeasible,
    }
