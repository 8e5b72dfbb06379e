"""`dopd status`: what resources do now.

Without a name, a line for each resource. With one: workers of both roles, the load now and the greatest one expected,
how many requests are on time, which load decided, what limits it, what is not as it should be, and the last decisions.
Reads the status that the operator writes; exit status 1 if the resource is not ready.
"""

from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.status import DecisionStatus, PlanStatus, RoleStatus
from dopd.cli import resource
from dopd.cli.around_plan import given
from dopd.cli.clusters import cluster_options, namespace_of, namespace_option
from dopd.cli.errors import DONE, FAILED
from dopd.cli.output import columns, facts, format_option, painted, show, structured
from dopd.cli.resource import Found, age
from dopd.reconcile.plan_status import percent

SHOWN_DECISIONS = 5
GOOD_WHEN_FALSE = ("BudgetLimited",)
"""Conditions that are True when something is in the way."""


@click.command("status", help=__doc__)
@click.argument("name", required=False, type=resource.Name(), metavar="[RESOURCE]")
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="list the resources of all namespaces")
@format_option()
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd status`."""
    options = SimpleNamespace(**given)
    return _one(options) if options.name else _all(options)


def _all(options: SimpleNamespace) -> int:
    namespace = None if options.all_namespaces else namespace_of(options)

    async def look(kubernetes: Any) -> list[Found]:
        stored = await resource.listed(kubernetes, namespace)
        return [await resource.completed(kubernetes, one) for one in stored]

    at, found = resource.now(), resource.ask(options, look)
    if options.form in ("json", "yaml"):
        show(structured([content(one) for one in found], options.form).splitlines())
        return DONE
    if not found:
        show([f"no DisaggregatedInference in {namespace or 'any namespace'}; apply one, or name another (-n, -A)"])
        return DONE
    show(columns(list(_table(found, at, options.form == "wide", namespace is None))))
    return DONE


def _table(found: list[Found], at: datetime, wide: bool, namespaces: bool) -> Iterator[list[str]]:
    head = ["NAMESPACE"] * namespaces + ["NAME", "PREFILL", "DECODE", "GPUS", "MODE", "READY", "ON TIME", "DECIDED"]
    yield head + ["LAST DECISION", "LOAD", "LIMITED BY"] * wide
    for one in found:
        status, ready = one.status, one.condition("Ready")
        last = status.decisions[0] if status.decisions else None
        row = [one.key.namespace] * namespaces + [
            one.key.name,
            status.prefill.summary if status.prefill else "-",
            status.decode.summary if status.decode else "-",
            "-" if status.gpus is None else str(status.gpus),
            status.mode or "-",
            "asleep" if one.asleep else ready.status.value if ready else "-",
            status.plan.attainment.summary if status.plan and not one.asleep else "-",
            age(last.time, at) if last else "-",
        ]
        rate = f"{status.load.demand.requests_per_second:.3g}/s" if status.load else "-"
        limits = ",".join(status.plan.limited_by) if status.plan and not one.asleep else ""
        yield row + [last.summary or last.to if last else "-", rate, limits or "-"] * wide


def _one(options: SimpleNamespace) -> int:
    found, at = resource.found(options, options.name), resource.now()
    if options.form in ("json", "yaml"):
        show(structured(content(found), options.form).splitlines())
    else:
        show(lines(found, at, options.form == "wide"))
    ready = found.condition("Ready")
    return DONE if ready and ready.status == "True" else FAILED


def content(found: Found) -> dict[str, Any]:
    """What `-o json` holds."""
    return {
        "namespace": found.key.namespace,
        "name": found.key.name,
        **found.status.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def lines(found: Found, at: datetime, wide: bool = False) -> Iterator[str]:
    """What a person is shown of one resource.

    Args:
        found: the resource.
        at: the time.
        wide: show all decisions and their reasons in full.
    """
    status, ready = found.status, found.condition("Ready")
    plan = None if found.asleep else status.plan  # which is then that of before
    word = ready.status.value if ready else "Unknown"
    colour = {"True": "green", "False": "red"}.get(word, "yellow")
    if found.asleep:
        state = "asleep"
    elif word == "True":
        state = "Ready"
    else:
        state = f"not ready: {ready.reason}" if ready else "no operator has looked at it"
    yield f"{painted(str(found.key), bold=True)}   {status.mode or 'mode not known'}   {painted(state, fg=colour)}"
    if status.prefill and status.decode:
        yield ""
        yield from columns(
            [
                ["ROLE", "DESIRED", "READY", "STARTING", "DRAINING", "LEAD TIME", "DECIDED BY"],
                _role("prefill", status.prefill, plan),
                _role("decode", status.decode, plan),
            ]
        )
    if status.domains:
        yield ""
        yield from columns([["DOMAIN", "PREFILL", "DECODE", "GPUS AT MOST"], *_domains(found)])
    yield ""
    yield from facts(_facts(found, plan, at))
    bad = [one for one in status.conditions if (one.status == "True") is (one.type in GOOD_WHEN_FALSE)]
    if bad:
        yield ""
        yield "Not as it should be:"
        for one in bad:
            yield f"  {painted(f'{one.type} {one.reason}', fg='yellow')}: {one.message}"
    if status.decisions:
        yield ""
        shown = status.decisions if wide else status.decisions[:SHOWN_DECISIONS]
        yield "Last decisions (prefill+decode), newest first:"
        rows = [_decision(decision, at) for decision in shown]
        yield from columns([["AGE", "FROM", "TO", "REASON", "LIMITED BY"], *rows])
        yield ""
        yield f"The newest: {status.decisions[0].message}"
        if wide:
            for earlier in shown[1:]:
                yield f"{age(earlier.time, at)} ago: {earlier.message}"


def _role(name: str, role: RoleStatus, plan: PlanStatus | None) -> list[str]:
    lead = role.lead_time
    seconds = lead.node_seconds + lead.start_seconds + lead.registration_seconds if lead else None
    told = getattr(plan, name).decided_by if plan else "-"
    return [
        name,
        str(role.desired),
        str(role.ready),
        str(role.starting),
        str(role.draining),
        "-" if seconds is None else f"{seconds:.0f} s",
        told,
    ]


def _domains(found: Found) -> Iterator[list[str]]:
    """Workers that serve of those that should, by domain."""
    listed = found.spec.topology.domains if found.spec and found.spec.topology else []
    room = {domain.name: str(domain.gpus) for domain in listed}
    for one in found.status.domains or []:
        counts = [f"{role.ready}/{role.desired}" for role in (one.prefill, one.decode)]
        yield [one.name or "none", *counts, room.get(one.name, "not listed")]


def _facts(found: Found, plan: PlanStatus | None, at: datetime) -> Iterator[tuple[str, str]]:
    status = found.status
    yield "Asleep", found.asleep
    yield "Endpoint", status.endpoint or ""
    if status.ratio:
        yield "Ratio", f"{status.ratio.current} serve, {status.ratio.desired} desired"
    budget = found.spec.scaling.gpu_budget if found.spec and found.spec.scaling else None
    if status.gpus is not None:
        yield "GPUs", f"{status.gpus} held" + (f", at most {budget.max}" if budget else "")
    yield from _of_spec(found)
    if grant := status.gpu_pool:
        held = ", ".join(f"{gpus} {kind or 'other'}" for kind, gpus in grant.granted.items()) or "none"
        yield "GPU pool", f"{given(grant)}; GPUs that may be held: {held}"
    load = status.load
    if load:
        now = load.demand
        yield (
            "Load",
            f"{now.requests_per_second:.3g} requests/s of {now.input_tokens:.0f} prompt and {now.output_tokens:.0f} "
            f"answer tokens, {age(load.time, at)} ago",
        )
    if load and plan:
        yield (
            "Expected",
            f"at most {load.prefill.requests_per_second:.3g} requests/s at prefill within "
            f"{plan.prefill.lead_seconds:.0f} s, {load.decode.requests_per_second:.3g} at decode within "
            f"{plan.decode.lead_seconds:.0f} s",
        )
    if plan:
        yield "On time", on_time(plan)
        yield "Limited by", ", ".join(plan.limited_by) or "nothing"


def _of_spec(found: Found) -> Iterator[tuple[str, str]]:
    """What of the spec makes a worker or a load other than usual."""
    if found.spec is None:
        return
    roles = (("prefill", found.spec.prefill), ("decode", found.spec.decode))
    wide = [f"a {name} worker is {of.gpus} GPUs on {of.nodes} nodes" for name, of in roles if of.nodes > 1]
    yield "Several nodes", ", ".join(wide)
    if batch := found.spec.scheduling.batch:
        share = found.spec.scaling.batch_share if found.spec.scaling else 0.0
        adds = f"{percent(share)} to the load while any waits" if share else "nothing to the load"
        yield "Batch", f"{percent(batch.slot_share)} of the slots at most, adds {adds}"


def on_time(plan: PlanStatus) -> str:
    """What clients meet, beside what was asked for."""
    share = plan.attainment
    parts = []
    if share.observed is not None:
        parts.append(f"{percent(share.observed)} of recent requests")
    if share.expected is not None:
        parts.append(f"{percent(share.expected)} expected on {plan.target}")
    if plan.ttft_seconds is not None and plan.itl_seconds is not None:
        parts.append(f"TTFT {plan.ttft_seconds:.2g} s and ITL {1000 * plan.itl_seconds:.3g} ms in the mean")
    elif share.expected is not None:
        parts.append("the queue grows without end")
    return ", ".join([*parts, f"objective {percent(share.objective)}"])


def _decision(one: DecisionStatus, at: datetime) -> list[str]:
    return [age(one.time, at), one.from_, one.to, one.reason, ",".join(one.limited_by) or "-"]
