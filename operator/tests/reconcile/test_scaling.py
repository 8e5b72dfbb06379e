"""The loop of one resource: what it plans from what Prometheus says, and what it does when it says nothing."""

import asyncio
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.autoscaler import Autoscaler, PastLoad, Reason, Sample
from dopd.perf import EngineModel
from dopd.planning import PerRole, Policy, Workers
from dopd.reconcile import scaling
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Planned, ScalingLoop
from dopd.reconcile.status import miss_share, stored_miss
from dopd.telemetry import queries
from dopd.telemetry.lengths import Lengths, demand_at
from dopd.telemetry.loads import LoadHistory, Source
from dopd.telemetry.present import LoadNow
from dopd.telemetry.prometheus import QueryFailed

BIN = 10.0
LENGTHS = Lengths(1000.0, 1_500_000.0, 200.0, 80_000.0, 1.0)
SPEC: dict[str, Any] = {
    "model": "m",
    "engine": {"image": "sglang"},
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
    "router": {"image": "smg"},
    "scaling": {
        "prefill": {"min": 1, "max": 8},
        "decode": {"min": 1, "max": 8},
        "profileRef": {"name": "p"},
        "forecast": {"bin": "10s", "history": "1h"},
        "behavior": {"interval": "10s", "scaleDownStabilization": "30s"},
    },
}


class Loads:
    """A reader of loads that follows a script of rates; an error is raised, a delay is waited for."""

    def __init__(self, rates: list[float], lengths: Lengths | None = LENGTHS, late_share: float | None = None) -> None:
        self.rates, self.lengths, self.late_share = rates, lengths, late_share
        self.error: Exception | None = None
        self.released = asyncio.Event()
        self.released.set()

    async def history(self, source: Source, key: Any, now_seconds: float) -> LoadHistory:
        await self.released.wait()
        if self.error:
            raise self.error
        end = now_seconds // BIN * BIN
        ends = [end - BIN * (len(self.rates) - 1 - index) for index in range(len(self.rates))]
        demands = [demand_at(rate, self.lengths) for rate in self.rates]
        past = tuple(PastLoad(at, BIN, demand) for at, demand in zip(ends, demands, strict=True))
        return LoadHistory(end, BIN, past, self.lengths)

    async def now(self, source: Source, key: Any, now_seconds: float, **objectives: float) -> LoadNow:
        if self.error:
            raise self.error
        return LoadNow(self.rates[-1], self.lengths, self.late_share)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first fit may take longer than a pass waits; here it is waited for."""
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 30.0)


class AtOnce(Executor):
    """Forecasts are there once they are asked for."""

    def submit(self, call: Any, /, *arguments: Any, **others: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*arguments, **others))
        return done


LEADS = PerRole(20.0, 30.0)


async def look(
    loop: ScalingLoop,
    model: EngineModel | str,
    now: float,
    workers: tuple[int, int] = (1, 1),
    waiting: float = 0.0,
    leads: PerRole[float] = LEADS,
    ordered: bool | None = None,
) -> Planned:
    spec = DisaggregatedInferenceSpec.model_validate(SPEC)
    return await loop.look(spec, model, "http://prometheus", counted(workers, waiting), leads, (), now, ordered=ordered)


def counted(workers: tuple[int, int], waiting: float = 0.0) -> PerRole[Workers]:
    return PerRole(Workers(workers[0], waiting_tokens=waiting), Workers(workers[1]))


def loop_on(loads: Loads, miss: float | None = None) -> ScalingLoop:
    return ScalingLoop(Key("ns", "m"), loads, AtOnce(), miss)  # type: ignore[arg-type]


def pair(planned: Planned) -> tuple[int, int]:
    assert planned.decision
    return planned.decision.prefill, planned.decision.decode


async def test_more_load_needs_more_workers(model: EngineModel):
    calm = await look(loop_on(Loads([1.0] * 12)), model, 10_000.0)
    busy = await look(loop_on(Loads([30.0] * 12)), model, 10_000.0)
    assert pair(calm) == (1, 1)
    assert pair(busy)[0] > 3
    assert busy.decision
    assert busy.decision.reason is Reason.DEMAND_ROSE


async def test_a_plan_is_of_the_load_the_lateness_and_the_past_that_were_read(
    model: EngineModel, monkeypatch: pytest.MonkeyPatch
):
    told: list[tuple[Any, ...]] = []

    def observe(self: Autoscaler, sample: Sample, model: EngineModel, policy: Policy, *past: Any) -> None:
        told.append((sample, model.startup_seconds, *past))

    monkeypatch.setattr(Autoscaler, "observe", observe)
    steady_seconds = 500.0
    loop = ScalingLoop(Key("ns", "m"), Loads([1.0] * 12, late_share=0.2), AtOnce(), steady=lambda _: steady_seconds)  # type: ignore[arg-type]
    await look(loop, model, 10_000.0)
    ((sample, startup_seconds, past, offset_seconds),) = told
    assert (sample.at_seconds, sample.late_share, sample.window_seconds) == (500.0, 0.2, 30.0)  # three intervals
    assert sample.demand.requests_per_second == 1.0
    assert startup_seconds == {"prefill": 20.0, "decode": 30.0}, "as they were measured"
    assert [one.end_seconds + offset_seconds for one in past][-1] == 500.0
    assert len(past) == 12


async def test_lengths_of_prompts_are_those_of_more_than_the_last_moment(model: EngineModel):
    class Swinging(Loads):
        async def now(self, source: Source, key: Any, now_seconds: float, **objectives: float) -> LoadNow:
            return LoadNow(self.rates[-1], replace(LENGTHS, input_tokens=9000.0), None)

    usual = replace(LENGTHS, input_tokens=1000.0, uncached_share=0.5)
    planned = await look(loop_on(Swinging([1.0] * 12, usual)), model, 10_000.0)
    assert planned.reading
    assert planned.reading.prompt_tokens == 500.0
    unknown = await look(loop_on(Loads([0.0] * 12, None)), model, 10_000.0)
    assert unknown.reading
    assert unknown.reading.prompt_tokens is None


async def test_a_ramp_is_planned_for_before_it_arrives(model: EngineModel):
    ramp = [20.0 + 2.5 * i for i in range(61)]
    loads = Loads(ramp[:-1])
    loop = loop_on(loads)
    await look(loop, model, 10_000.0)
    loads.rates = ramp
    planned = await look(loop, model, 10_010.0)
    assert planned.outlook
    assert planned.outlook.decode.now < planned.outlook.decode.peak
    assert planned.outlook.decode.requests_per_second > ramp[-1]
    assert planned.decision
    assert planned.decision.planned_for
    assert planned.decision.planned_for.decode.requests_per_second == planned.outlook.decode.requests_per_second


async def test_short_history_is_planned_for_as_observed(model: EngineModel):
    planned = await look(loop_on(Loads([5.0, 6.0])), model, 10_000.0)
    assert planned.outlook
    assert planned.outlook.prefill.expected is None
    assert planned.trust is None or not planned.trust.trusted
    assert planned.decision
    assert planned.decision.reason is not Reason.TELEMETRY_FAILED


async def test_a_load_that_is_not_known_has_no_outlook(model: EngineModel):
    loads = Loads([5.0] * 12)
    loop = loop_on(loads)
    assert (await look(loop, model, 10_000.0)).outlook
    loads.error = QueryFailed(ConditionReason.QUERY_FAILED, "no answer")
    assert (await look(loop, model, 10_020.0)).outlook is None


async def test_workers_that_start_more_slowly_look_further_ahead(model: EngineModel):
    slow = await look(loop_on(Loads([5.0] * 12)), model, 10_000.0, leads=PerRole(300.0, 30.0))
    assert slow.outlook
    assert (slow.outlook.prefill.lead_seconds, slow.outlook.decode.lead_seconds) == (310.0, 40.0)


async def test_what_is_known_of_the_order_of_prompts_stays_while_nobody_tells(model: EngineModel):
    """Sizing of as many requests: where prompts are served in order, a shortage makes its share late and no more."""
    uneven = replace(LENGTHS, input_tokens_second_moment=4 * LENGTHS.input_tokens**2)
    sizes = {}
    for first, told in (("in order", True), ("as they come", False), ("not told", None)):
        loop = loop_on(Loads([17.0] * 12, uneven))
        one = await look(loop, model, 10_000.0, ordered=told)
        later = await look(loop, model, 10_010.0, ordered=None)
        assert one.decision
        assert later.decision
        assert one.decision.weighed
        assert later.decision.weighed
        sizes[first] = one.decision.weighed.prefill.now
        assert later.decision.weighed.prefill.now == sizes[first]
    assert sizes["in order"] < sizes["as they come"] == sizes["not told"]


@pytest.mark.parametrize("error", [QueryFailed(ConditionReason.QUERY_FAILED, "no answer"), KeyError("le")])
async def test_a_reading_that_fails_in_whatever_way_holds_the_workers_and_is_kept_for_the_report(
    model: EngineModel, error: Exception
):
    loads = Loads([30.0] * 12)
    loop = loop_on(loads)
    first = await look(loop, model, 10_000.0)
    loads.error = error
    held = await look(loop, model, 10_020.0, workers=(2, 2))
    assert pair(held) == pair(first)
    assert held.decision
    assert held.decision.reason is Reason.TELEMETRY_FAILED
    assert held.reading
    assert held.reading.failure
    loads.error = None
    again = await look(loop, model, 10_040.0)
    assert again.reading
    assert again.reading.failure is None


async def test_no_traffic_scales_down_to_the_minimum_once_all_plans_agree(model: EngineModel):
    loads = Loads([30.0] * 12)
    loop = loop_on(loads)
    await look(loop, model, 10_000.0)
    loads.rates = [0.0] * 12
    targets = [pair(await look(loop, model, 10_000.0 + 10 * step, workers=(8, 8))) for step in range(1, 121)]
    assert targets[0] > (1, 1), "the window holds"
    assert targets[-1] == (1, 1)


async def test_without_a_profile_nothing_is_planned():
    planned = await look(loop_on(Loads([1.0])), "no profile of that name", 10_000.0)
    assert planned.decision is None
    assert planned.profile_problem == "no profile of that name"


async def test_the_load_is_read_once_an_interval(model: EngineModel):
    loads = Loads([1.0] * 12)
    loop = loop_on(loads)
    first = await look(loop, model, 10_000.0)
    loads.rates = [30.0] * 40
    assert (await look(loop, model, 10_001.0)).reading is first.reading
    assert (await look(loop, model, 10_010.0)).reading is not first.reading


async def test_a_queue_between_two_readings_adds_workers(model: EngineModel):
    loop = loop_on(Loads([1.0] * 12))
    calm = await look(loop, model, 10_000.0)
    assert not loop.would_grow(counted((1, 1)), 10_001.0)
    assert loop.would_grow(counted((1, 1), waiting=1e6), 10_001.0)
    queued = await look(loop, model, 10_001.0, waiting=1e6)
    assert queued.reading is calm.reading
    assert pair(queued)[0] > pair(calm)[0]
    assert queued.decision
    assert queued.decision.reason is Reason.BACKLOG
    assert not loop.would_grow(counted((1, 1), waiting=1e6), 10_002.0), "it is answered already"


async def test_passes_between_two_readings_teach_nothing_and_hide_nothing(model: EngineModel):
    hurried, calm = (loop_on(Loads([1.0] * 12, late_share=0.5)) for _ in range(2))
    for now in (10_000.0, 10_001.0, 10_004.0, 10_009.0, 10_010.0):
        in_hurry = await look(hurried, model, now)
    first = await look(calm, model, 10_000.0)
    at_ease = await look(calm, model, 10_010.0)
    assert in_hurry.miss == at_ease.miss
    assert first.miss
    assert at_ease.miss
    assert at_ease.miss < first.miss


async def test_a_restart_goes_on_from_what_the_status_says_was_dared(model: EngineModel):
    loads = Loads([1.0] * 12, late_share=0.5)
    loop = loop_on(loads)
    first = await look(loop, model, 10_000.0)
    for now in (10_010.0, 10_020.0):
        late = await look(loop, model, now)
    stored = {"status": {"missShare": miss_share(late, None)}}
    loads.late_share = None
    after = await look(loop_on(loads, stored_miss(stored)), model, 11_000.0)
    assert late.miss
    assert first.miss
    assert late.miss < 0.9 * first.miss
    assert after.miss == pytest.approx(late.miss, rel=0.01)


async def test_what_was_dared_outlives_a_profile_that_goes_and_comes(model: EngineModel):
    loop = loop_on(Loads([1.0] * 12, late_share=0.5))
    await look(loop, model, 10_000.0)
    late = await look(loop, model, 10_010.0)
    await look(loop, "no profile of that name", 10_011.0)
    assert (await look(loop, model, 10_012.0)).miss == late.miss


def test_what_is_dared_is_written_when_it_moved_by_a_tenth():
    first = miss_share(Planned(None, miss=0.12345), None)
    assert first == 0.123
    assert miss_share(Planned(None, miss=0.131), first) == first
    assert miss_share(Planned(None, miss=0.140), first) == 0.14
    assert miss_share(Planned(None, miss=0.107), first) == 0.107
    assert miss_share(Planned(None), first) == miss_share(None, first) == first
    assert miss_share(None, None) is stored_miss({}) is None


async def test_a_prometheus_that_hangs_keeps_no_pass_from_acting(model: EngineModel, monkeypatch: pytest.MonkeyPatch):
    loads = Loads([30.0] * 12)
    loop = loop_on(loads)
    first = await look(loop, model, 10_000.0)
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 0.01)
    loads.released.clear()
    meanwhile = await look(loop, model, 10_010.0, waiting=1e6)
    assert meanwhile.reading is first.reading
    assert pair(meanwhile)[0] > pair(first)[0]
    assert loop.seconds_until_due(10_010.0) == 0.01
    loads.released.set()
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 30.0)
    assert (await look(loop, model, 10_011.0)).reading is not first.reading


async def test_a_reading_that_takes_long_is_waited_for_once(model: EngineModel):
    loads = Loads([30.0] * 12)
    loads.released.clear()
    loop = loop_on(loads)
    first = asyncio.create_task(look(loop, model, 10_000.0))  # waits for as long as this test may take
    await asyncio.sleep(0)
    later = await look(loop, model, 10_040.0)
    assert later.reading is None
    first.cancel()
    loop.stop()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs_a_stabilisation(model: EngineModel, step: float):
    spec = DisaggregatedInferenceSpec.model_validate(
        {**SPEC, "scaling": {**SPEC["scaling"], "behavior": {"interval": "10s", "scaleDownStabilization": "30m"}}}
    )
    loads = Loads([30.0] * 12)
    stepped = 0.0
    loop = ScalingLoop(Key("ns", "m"), loads, AtOnce(), steady=lambda wall: wall - stepped)  # type: ignore[arg-type]

    async def at(seconds: float) -> Planned:
        wall = 100_000.0 + seconds + stepped
        return await loop.look(spec, model, "http://prometheus", counted((8, 8)), LEADS, (), wall)

    loads.rates = [0.0] * 12
    await at(0)
    first = pair(await at(60))
    stepped = step
    held = [await at(seconds) for seconds in range(120, 1800, 120)]
    assert {pair(planned) for planned in held} == {first} == {(8, 8)}
    assert pair(await at(1860)) == (1, 1) if step > 0 else (8, 8)  # set back, the load is that of before: held
    readings = [planned.reading for planned in held if planned.reading]
    if step > 0:
        assert "set forward by 3600 s" in readings[0].remarks[0]
    else:
        assert readings[0].failure
        assert readings[0].failure.reason is ConditionReason.CLOCK_SKEW


async def test_a_false_bin_moves_neither_forecast_nor_plan(model: EngineModel):
    ramp = [10.0 + (i % 3) for i in range(90)]
    loads = Loads([*ramp[:-2], 5000 * ramp[-2], ramp[-1]])
    planned = await look(loop_on(loads), model, 10_000.0)
    honest = await look(loop_on(Loads(ramp)), model, 10_000.0)
    assert pair(planned) == pair(honest)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
async def test_lengths_are_used_for_an_hour_after_the_last_request(model: EngineModel, lengths: Lengths | None):
    loads = Loads([30.0] * 12, lengths)
    loop = loop_on(loads)
    first = await look(loop, model, 10_000.0)
    assert first.reading
    if lengths is None:  # after a restart, and engines tell nothing
        assert first.reading.failure
        assert first.reading.failure.reason is ConditionReason.NO_SERIES
        assert pair(first) == (1, 1)
        return
    loads.lengths = None
    known = await look(loop, model, 13_000.0, workers=(8, 8))
    assert known.reading
    assert known.reading.demand
    held = await look(loop, model, 13_700.0, workers=(8, 8))
    assert held.reading
    assert held.reading.failure
    assert held.reading.failure.reason is ConditionReason.NO_SERIES
    loads.rates = [0.0] * 12
    idle = await look(loop, model, 13_800.0, workers=(8, 8))
    assert idle.reading
    assert idle.reading.failure is None, "no request is a load, whatever their lengths"


async def test_lengths_of_before_do_not_stand_in_while_many_requests_go_untold(model: EngineModel):
    class Silent(Loads):
        async def history(self, source: Source, key: Any, now_seconds: float) -> LoadHistory:
            found = await super().history(source, key, now_seconds)
            return replace(found, absent=queries.PROMPTS if self.lengths is None else None)

    loads = Silent([30.0] * 12)
    loop = loop_on(loads)
    await look(loop, model, 10_000.0)
    loads.lengths = None
    held = await look(loop, model, 10_100.0, workers=(8, 8))
    assert held.reading
    assert held.reading.failure
    assert "no series of prompts" in str(held.reading.failure)
    loads.rates = [0.01] * 12
    few = await look(loop, model, 10_200.0, workers=(8, 8))
    assert few.reading
    assert few.reading.failure is None
