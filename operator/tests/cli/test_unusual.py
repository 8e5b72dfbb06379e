"""What status and explain say of a resource that sleeps, spans nodes, has domains, a batch or a pool."""

import io
import json
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import (
    Condition,
    ConditionStatus,
    DisaggregatedInferenceStatus,
    DomainRoleStatus,
    DomainStatus,
    GrantStatus,
    RoleStatus,
    WorkerPair,
)
from dopd.cli import around_plan, explain, resource, status
from dopd.cli.errors import Failed
from dopd.cli.main import main
from dopd.cli.resource import Found
from dopd.planning.workings import work_out

from .found import NOW, found, spec

NOBODY = RoleStatus(desired=0, ready=0, summary="0/0")
ASLEEP = Condition(
    type="Ready",
    status=ConditionStatus.TRUE,
    reason="Asleep",
    message="no worker runs; the next request gets 503 with Retry-After and starts them, in about 90 s",
    last_transition_time="",
)


def text(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def shown(of: Found) -> str:
    return text(status.lines(of, NOW))


def explained(of: Found) -> str:
    plan = of.status.plan
    assert plan
    engine, policy = resource.engine_and_policy(of, NOW)
    worked = work_out(resource.demands(of), engine, policy, explain.pair(plan.target))
    return text(explain.lines(of, plan, worked, policy, NOW))


def with_fields(of: DisaggregatedInferenceSpec, **fields: Any) -> DisaggregatedInferenceSpec:
    said = of.model_dump(mode="json", by_alias=True, exclude_none=True)
    return DisaggregatedInferenceSpec.model_validate({**said, **fields})


@pytest.fixture
def asleep() -> Found:
    return found(spec(idle={"after": "30m"}), prefill=NOBODY, decode=NOBODY, gpus=0, conditions=[ASLEEP])


def test_status_of_one_that_sleeps_says_so_and_shows_no_plan_of_before(asleep: Found):
    said = shown(asleep)
    head = said.splitlines()[0]
    assert head.endswith("asleep")
    assert "starts them, in about 90 s" in said
    assert "Not as it should be" not in said
    for of_before in ("On time:", "Limited by:", "Expected:"):
        assert of_before not in said
        assert of_before in shown(replace(asleep, status=asleep.status.model_copy(update={"conditions": []})))
    head, row = status._table([asleep], NOW, wide=True, namespaces=False)
    cells = dict(zip(head, row, strict=True))
    assert cells["READY"] == "asleep"
    assert cells["ON TIME"] == "-"


def test_explain_of_one_that_sleeps_says_why_and_what_wakes_it(
    asleep: Found, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(resource, "found", lambda *_: asleep)
    assert main(["explain", "llama", "-n", "shop"]) == 0
    said = capsys.readouterr().out
    for words in ("asleep, 0 prefill + 0 decode", "no request came for 30m (spec.scaling.idle.after)", "a schedule"):
        assert words in said
    out = io.StringIO()
    with redirect_stdout(out):
        main(["explain", "llama", "-n", "shop", "-o", "json"])
    assert json.loads(out.getvalue())["asleep"] is True


def test_one_that_sleeps_since_its_first_day_has_no_plan_and_the_reason_is_told(asleep: Found):
    fresh = replace(asleep, status=asleep.status.model_copy(update={"plan": None, "load": None}))
    with pytest.raises(Failed, match=r"it is asleep \(spec.scaling.idle\)"):
        resource.demands(fresh)
    assert "asleep" in shown(fresh)


def test_workers_of_several_nodes_are_told_as_one_each():
    wide = with_fields(spec(), prefill={"gpus": 16, "nodes": 2})
    said = shown(found(wide))
    assert "a prefill worker is 16 GPUs on 2 nodes" in said
    assert "decode worker is" not in said
    one = found(wide)
    assert one.status.plan
    prefill, decode = explain.pair(one.status.plan.target)
    assert f"{16 * prefill + decode} GPUs, planned" in explained(one)


def domain(name: str, prefill: int, decode: int) -> DomainStatus:
    return DomainStatus(
        name=name,
        prefill=DomainRoleStatus(desired=prefill, ready=prefill),
        decode=DomainRoleStatus(desired=decode, ready=decode),
    )


def test_domains_are_a_table_and_what_they_have_no_room_for_is_told():
    of = with_fields(spec(), topology={"domainKey": "rack", "domains": [{"name": "r1", "gpus": 4}]})
    one = found(of)
    targets = {role: getattr(one.status, role).desired for role in Role}
    whole = found(of, domains=[domain("r1", targets[Role.PREFILL], targets[Role.DECODE])])
    assert around_plan.unplaced(whole) == (0, 0)
    assert "no domain has room" not in explained(whole)
    short = found(of, domains=[domain("r1", targets[Role.PREFILL] - 1, targets[Role.DECODE]), domain("", 0, 0)])
    said = explained(short)
    assert "no domain has room for 1 prefill and 0 decode workers of the target" in said
    table = shown(short)
    assert "DOMAIN   PREFILL   DECODE   GPUS AT MOST" in table
    assert "none     0/0       0/0      not listed" in table
    assert around_plan.unplaced(replace(one, status=DisaggregatedInferenceStatus())) == (0, 0)


@pytest.mark.parametrize(("share", "words"), [(0.0, "add no worker"), (0.2, "add up to 20% to every load above")])
def test_what_a_batch_adds_is_told(share: float, words: str):
    one = found(with_fields(spec(batchShare=share), scheduling={"batch": {}}))
    assert words in explained(one)
    assert "5% of the slots at most" in shown(one)
    assert ("20% to the load" in shown(one)) is bool(share)
    assert "batch: requests" not in explained(found())


def test_what_a_pool_gives_is_told():
    grant = GrantStatus(
        name="h100", wanted=WorkerPair(prefill=3, decode=4), share=WorkerPair(prefill=1, decode=2), granted={"h100": 3}
    )
    one = found(gpu_pool=grant)
    assert "h100 gives 1+2 of 3+4 workers; GPUs that may be held: 3 h100" in shown(one)
    assert "GPU pool: h100 gives 1+2 of 3+4 workers that are wanted" in explained(one)


def test_a_target_without_a_worker_serves_nobody():
    one = found()
    assert one.status.plan
    nothing = one.status.plan.model_copy(update={"target": "0+0", "limited_by": ["GpuPool"]})
    said = explained(found(plan=nothing))
    assert "bounds that bit: the GpuPool of spec.gpuPool" in said
    assert "a role has no worker, so no request is served" in said
