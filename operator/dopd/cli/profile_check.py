"""`dopd profile check`: whether a profile can be right, and is of the workers of a resource.

A line for each check, with what to do where it failed; exit status 1 if one did. With --resource also whether its
workers are those of the profile, whether its load lies within the points, and how the running engines compare.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.names import Role
from dopd.cli import resource
from dopd.cli.arguments import object_name, option
from dopd.cli.clusters import cluster_options, namespace_option
from dopd.cli.doctor import line
from dopd.cli.errors import DONE, FAILED, Refused
from dopd.cli.output import show
from dopd.cli.profiles import Capacity, Named, capacity, lengths_options, named
from dopd.cli.resource import Found
from dopd.perf import EngineModel
from dopd.planning.queueing import DecodeLoad, PrefillLoad
from dopd.reconcile.profile_match import PROFILE_FIX, profile_differences
from dopd.telemetry.selfcheck import Check, Verdict

DRIFT = 1.25
"""Engines that are slower than the profile by more are worth a new measurement: the plan follows them, but a curve of
another shape is not mended by a factor."""
MEASURE = "Measure it anew: dopd profile measure"


@click.command("check", help=__doc__)
@click.argument("profile", metavar="PROFILE")
@option("--resource", of=object_name, metavar="RESOURCE", help="whose workers it is to plan for")
@lengths_options
@namespace_option
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd profile check`."""
    options = SimpleNamespace(**given)
    one = _named(options)
    checks = list(_of_profile(one, options))
    if options.resource and one.profile:
        checks += _of_resource(one, resource.found(options, options.resource))
    show(line(check) for check in checks)
    return FAILED if any(check.failed for check in checks) else DONE


def _named(options: SimpleNamespace) -> Named:
    """The profile; one that a schema refuses is a finding, and not a bad argument."""
    try:
        return named(options, options.profile)
    except Refused as error:
        told = str(error)
        if "spec." not in told:
            raise
        return Named(options.profile, options.profile, None, told.removeprefix(f"profile {options.profile}: "))


def _of_profile(one: Named, options: SimpleNamespace) -> Iterator[Check]:
    if one.profile is None:
        yield Check(one.name, "fields", Verdict.FAIL, one.problem, "what the schema allows", "Correct the field")
        return
    try:
        engine = EngineModel.from_profile(one.profile)
    except ValueError as error:
        yield Check(one.name, "decode points", Verdict.FAIL, str(error))
        return
    points = f"{len(engine.prefill_curve)} prefill and {len(one.profile.decode.points)} decode points"
    yield Check(one.name, "fields", Verdict.OK, points)
    yield _rises(one.name, engine)
    most, last = one.profile.decode.max_running_requests, engine.itl_curves[-1][1][-1][0]
    told = f"batches are measured up to {last:.0f}, spec.decode.maxRunningRequests is {most}"
    if last < most:
        fix = f"Measure up to batch {most}, or set maxRunningRequests to what the engine is started with"
        yield Check(one.name, "batches", Verdict.FAIL, told, f"points up to {most}", fix)
    else:
        yield Check(one.name, "batches", Verdict.OK, told)
    yield from _of_capacity(one.name, capacity(one.profile, options), options)


def _rises(name: str, engine: EngineModel) -> Check:
    seconds = [time for _, time in engine.prefill_curve]
    if seconds[-1] > seconds[0]:
        return Check(name, "prefill", Verdict.OK, f"{1000 * seconds[0]:.3g} ms to {1000 * seconds[-1]:.3g} ms")
    found = f"all lengths take {1000 * seconds[0]:.3g} ms"
    return Check(name, "prefill", Verdict.FAIL, found, "longer prompts that take longer", MEASURE)


def _of_capacity(name: str, carried: Capacity, options: SimpleNamespace) -> Iterator[Check]:
    lengths = f"prompts of {options.input_tokens:g} and answers of {options.output_tokens:g} tokens"
    if carried.infeasible:
        fix = "Ask for the nearest feasible objective, or take faster workers"
        yield Check(name, "objectives", Verdict.FAIL, carried.infeasible, "objectives that an idle worker meets", fix)
    else:
        told = f"{carried.prompts_per_second:.3g} prompts/s, {carried.answers_per_second:.3g} answers/s a worker"
        yield Check(name, "objectives", Verdict.OK, f"{told} of {lengths}")
    if carried.beyond:
        yield Check(name, "range", Verdict.FAIL, carried.beyond, f"points that cover {lengths}", MEASURE)
    else:
        yield Check(name, "range", Verdict.OK, f"covers {lengths}")


def _of_resource(one: Named, found: Found) -> Iterator[Check]:
    subject, spec = str(found.key), found.readable_spec
    used = {spec.profile_name(role) for role in Role} - {""}
    if one.name in used:
        yield Check(subject, "profileRef", Verdict.OK, f"names {one.name}")
    else:
        found_names = ", ".join(sorted(used)) or "none"
        fix = "Set spec.scaling.profileRef, if it is the one that is meant"
        yield Check(subject, "profileRef", Verdict.FAIL, f"names {found_names}", one.name, fix)
    differing = [
        words.replace(f"EngineProfile {spec.profile_name(role)}", f"EngineProfile {one.name}")
        for role in Role
        for words in profile_differences(spec, {role: one.readable})
    ]
    if differing:
        told = "; ".join(dict.fromkeys(differing))
        yield Check(subject, "workers", Verdict.FAIL, told, "a profile of these workers", PROFILE_FIX)
    else:
        yield Check(subject, "workers", Verdict.OK, "are those of the profile, as far as it is known")
    yield from _of_load(subject, one, found)


def _of_load(subject: str, one: Named, found: Found) -> Iterator[Check]:
    plan = found.status.plan
    if plan is None:
        yield Check(subject, "load", Verdict.SKIPPED, resource.why_no_plan(found))
        return
    demands, engine = resource.demands(found), EngineModel.from_profile(one.readable)
    prompts, answers = PrefillLoad.of(demands.prefill, engine), demands.decode
    curve = engine.itl_curve(answers.running_context_tokens)
    slots = DecodeLoad.of(answers, engine, curve, found.readable_spec.slo.itl_seconds)
    beyond = "; ".join(part for part in (prompts.beyond, slots.beyond) if part)
    if beyond:
        yield Check(subject, "range", Verdict.FAIL, beyond, "points that cover its load", MEASURE)
    else:
        yield Check(subject, "range", Verdict.OK, "its load lies within the points")
    for name, role in (("prefill", plan.prefill), ("decode", plan.decode)):
        told = f"{name} engines take {role.correction:.2f} times as long as the profile says"
        if role.correction > DRIFT or role.correction < 1 / DRIFT:
            yield Check(subject, "drift", Verdict.FAIL, told, f"at most {DRIFT:g}, at least {1 / DRIFT:g}", MEASURE)
        else:
            yield Check(subject, "drift", Verdict.OK, told)
