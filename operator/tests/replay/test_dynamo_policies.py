from dopd.planning import Objectives
from dopd.replay.dynamo_policies import DopdPolicy, Recorded


def metrics(now, requests, prefill=1, decode=1, queued=0):
    return {
        "now_ms": now * 1e3,
        "traffic": {"duration_s": 15.0, "num_req": requests, "avg_isl": 1000.0, "avg_osl": 200.0},
        "prefill_fpm_snapshots": [{"sum_queued_prefill_tokens": queued}] * prefill,
        "decode_fpm_snapshots": [{"num_queued_decode": 0}] * decode,
        **{f"{state}_{role}_count": 0 for state in ("starting", "draining") for role in ("prefill", "decode")},
        "active_prefill_count": prefill,
        "active_decode_count": decode,
    }


def test_plan_follows_what_the_foreign_telemetry_shows(model):
    policy = DopdPolicy(model, Objectives(), 15.0)
    calm = policy.on_tick(metrics(15, 15))
    busy = policy.on_tick(metrics(30, 3000))
    assert busy["target_prefill"] > calm["target_prefill"] == 1
    assert busy["next_tick_ms"] > 30e3


def test_no_request_is_a_demand_of_none(model):
    answer = DopdPolicy(model, Objectives(), 15.0).on_tick(metrics(15, 0))
    assert (answer["target_prefill"], answer["target_decode"]) == (1, 1)


def test_a_record_holds_each_change_and_takes_none_for_as_it_is():
    answers = iter([(None, None), (3, None), (3, 2), (None, 2)])

    class Scripted:
        def initial_tick_ms(self):
            return 5000

        def on_tick(self, metrics):
            prefill, decode = next(answers)
            return {"target_prefill": prefill, "target_decode": decode, "next_tick_ms": 0}

    recorded = Recorded(Scripted(), (2, 1))
    assert recorded.initial_tick_ms() == 5000.0
    for now in (5000, 10_000, 15_000, 20_000):
        recorded.on_tick({"now_ms": now})
    assert recorded.timeline == [(0.0, 2, 1), (10.0, 3, 1), (15.0, 3, 2)]
