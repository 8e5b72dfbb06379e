"""The loop of one resource: what it plans from what Prometheus says, and what it does when it says nothing."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Reason, Workers
from dopd.reconcile.queue import Key
from dopd.reconcile.scaling import Outlook, ScalingLoop
from dopd.telemetry.prometheus import Lengths, LoadHistory, QueryFailed

BIN = 10.0
LENGTHS = Lengths(1000.0, 1_500_000.0, 200.0, 1.0)
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
    """A reader of loads that follows a script of rates; an error is raised."""

    def __init__(self, rates: list[float], lengths: Lengths | None = LENGTHS) -> None:
        self.rates, self.lengths, self.error = rates, lengths, None

    async def read(self, url: str, key: Any, **times: float) -> LoadHistory:
        if self.error:
            raise self.error
        end = times["now_seconds"] // BIN * BIN
        points = tuple((end - BIN * (len(self.rates) - 1 - i), rate) for i, rate in enumerate(self.rates))
        return LoadHistory(end, points, self.lengths)


@pytest.fixture
def engine() -> EngineModel:
    return EngineModel(
        prefill_curve=((1.0, 0.01), (1000.0, 0.1), (8000.0, 1.0)),
        itl_curves=((1000.0, ((1.0, 0.01), (100.0, 0.04))),),
        kv_tokens=200_000,
        max_running_requests=100,
        chunk_tokens=8192,
        transfer_base_seconds=0.005,
        transfer_tokens_per_second=1e6,
        startup_seconds={"prefill": 20.0, "decode": 30.0},
        flip_seconds=5.0,
    )


async def look(loop: ScalingLoop, model: EngineModel | str, now: float, workers: tuple[int, int] = (1, 1)) -> Outlook:
    spec = DisaggregatedInferenceSpec.model_validate(SPEC)
    counts = {Role.PREFILL: Workers(workers[0]), Role.DECODE: Workers(workers[1])}
    leads = {Role.PREFILL: 20.0, Role.DECODE: 30.0}
    return await loop.look(spec, model, "http://prometheus", counts, leads, now)


def loop_on(loads: Loads) -> ScalingLoop:
    return ScalingLoop(Key("ns", "m"), loads)  # type: ignore[arg-type]


async def test_more_load_needs_more_workers(engine: EngineModel):
    calm = await look(loop_on(Loads([1.0] * 40)), engine, 10_000.0)
    busy = await look(loop_on(Loads([30.0] * 40)), engine, 10_000.0)
    assert calm.decision
    assert busy.decision
    assert (calm.decision.prefill, calm.decision.decode) == (1, 1)
    assert busy.decision.prefill > 3
    assert busy.decision.reason is Reason.DEMAND_ROSE


async def test_a_ramp_is_planned_for_before_it_arrives(engine: EngineModel):
    ramp = [2.0 + 0.25 * i for i in range(120)]
    outlook = await look(loop_on(Loads(ramp)), engine, 10_000.0)
    assert outlook.trust
    assert outlook.trust.trusted, outlook.trust
    assert outlook.forecast
    assert outlook.forecast.decode.requests_per_second > ramp[-1]


async def test_short_history_is_planned_for_as_observed(engine: EngineModel):
    outlook = await look(loop_on(Loads([5.0, 6.0])), engine, 10_000.0)
    assert outlook.forecast is None
    assert outlook.trust
    assert not outlook.trust.trusted
    assert outlook.decision
    assert outlook.decision.reason is not Reason.TELEMETRY_FAILED


async def test_a_failed_query_holds_the_workers_and_is_kept_for_the_report(engine: EngineModel):
    loads = Loads([30.0] * 40)
    loop = loop_on(loads)
    first = await look(loop, engine, 10_000.0)
    loads.error = QueryFailed("up", "no answer")  # type: ignore[assignment]
    held = await look(loop, engine, 10_020.0, workers=(2, 2))
    assert first.decision
    assert held.decision
    assert (held.decision.prefill, held.decision.decode) == (first.decision.prefill, first.decision.decode)
    assert held.decision.reason is Reason.TELEMETRY_FAILED
    assert held.failure
    loads.error = None
    assert (await look(loop, engine, 10_040.0)).failure is None


async def test_no_traffic_scales_down_to_the_minimum_once_all_plans_agree(engine: EngineModel):
    loads = Loads([30.0] * 40)
    loop = loop_on(loads)
    await look(loop, engine, 10_000.0)
    loads.rates = [0.0] * 40
    targets = []
    for step in range(1, 8):
        outlook = await look(loop, engine, 10_000.0 + 10 * step, workers=(8, 8))
        assert outlook.decision
        targets.append((outlook.decision.prefill, outlook.decision.decode))
    assert targets[0] > (1, 1), "the window holds"
    assert targets[-1] == (1, 1)


async def test_without_a_profile_nothing_is_planned():
    outlook = await look(loop_on(Loads([1.0])), "no profile of that name", 10_000.0)
    assert outlook.decision is None
    assert outlook.profile_problem == "no profile of that name"


async def test_between_two_plans_the_last_one_stands(engine: EngineModel):
    loads = Loads([1.0] * 40)
    loop = loop_on(loads)
    first = await look(loop, engine, 10_000.0)
    loads.rates = [30.0] * 40
    assert await look(loop, engine, 10_001.0) is first
    assert await look(loop, engine, 10_010.0) is not first
