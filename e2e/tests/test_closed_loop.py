"""The loop beyond a steady load: queues that no forecast sees, a mix that shifts, advice that moves nothing."""

import time
from typing import Any

from e2e.cluster.daemon import docker_session
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import MODEL, auto, replicas

Json = dict[str, Any]
ACTS_WITHIN_SECONDS = 6.0
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:dopd"


def test_a_queue_that_no_forecast_sees_adds_workers_within_seconds(stack: Stack, apply: Apply) -> None:
    # The load is read each 45 s, so only what waits in the engines can be what is acted on.
    name = apply(auto("crowd", scaling__behavior__interval="45s"))
    until_ready(stack, name)
    wait_for(lambda: (stack.inference(name) or {})["status"].get("load"), "the load was read", timeout_seconds=60)
    crowd = Schedule.steady(requests_per_second=16, seconds=12, input_tokens=4000, output_tokens=32)
    with BackgroundLoad(Target(stack.gateway_url, MODEL), crowd) as load:
        wait_for(lambda: waiting_tokens(stack, name) > 0, "a queue", timeout_seconds=20, every_seconds=0.1)
        queued = time.monotonic()
        wait_for(
            lambda: replicas(stack, name)[0] > 1,
            "another prefill worker is asked for",
            timeout_seconds=ACTS_WITHIN_SECONDS,
            every_seconds=0.1,
        )
        print(f"acted {time.monotonic() - queued:.1f} s after the first queue")
        # The workers are asked for before the status is written, so the newest decision there may be an older one.
        reasons = wait_for(
            lambda: [decision["reason"] for decision in decisions(stack, name) if decision["from"] == "1+1"],
            "the decision is told",
            timeout_seconds=10,
        )
        assert reasons[-1] == "Backlog"
        load.wait()
        assert load.lost == []


def test_the_ratio_follows_the_mix_and_the_number_of_gpus_does_not(stack: Stack, apply: Apply) -> None:
    name = apply(
        auto(
            "mix",
            scaling__gpuBudget={"min": 4, "max": 4},
            scaling__prefill={"min": 1, "max": 3},
            scaling__decode={"min": 1, "max": 3},
        )
    )
    until_ready(stack, name)
    talk = Schedule.steady(requests_per_second=14, seconds=50, input_tokens=450, output_tokens=600)
    read = Schedule.steady(requests_per_second=7, seconds=50, input_tokens=2060, output_tokens=40)
    assert tokens_per_second(talk) == tokens_per_second(read)
    seen = []
    for schedule in (talk, read):
        with BackgroundLoad(Target(stack.gateway_url, MODEL), schedule) as load:
            time.sleep(schedule.seconds - 5)
            seen.append(replicas(stack, name))
            load.wait()
            assert load.lost == []
    talking, reading = seen
    assert sum(talking) == sum(reading) == 4
    assert talking[0] < reading[0], (talking, reading)


def test_advice_is_reported_and_moves_nothing(stack: Stack, apply: Apply) -> None:
    name = apply(auto("advised", scaling__mode="Advise"))
    until_ready(stack, name)
    load = Schedule.steady(requests_per_second=16, seconds=25, input_tokens=1000, output_tokens=200)
    with docker_session(stack.cluster.docker_host) as docker, BackgroundLoad(Target(stack.gateway_url, MODEL), load):
        began = len(stack.audit_log(docker))

        def advises_more() -> bool:
            return any(sum(map(int, decision["to"].split("+"))) > 2 for decision in decisions(stack, name))

        wait_for(advises_more, "more workers are advised", timeout_seconds=25)
        time.sleep(5)
        writes = [
            event
            for event in stack.audit_log(docker)[began:]
            if event["user"]["username"] == OPERATOR_USER
            and event["verb"] not in ("get", "list", "watch")
            and event["objectRef"]["resource"] in ("deployments", "pods", "services", "poddisruptionbudgets")
        ]
    assert writes == []
    assert replicas(stack, name) == (1, 1)
    assert (stack.inference(name) or {})["status"]["mode"] == "Advise"


def tokens_per_second(schedule: Schedule) -> int:
    """Prompt and answer tokens per second of a steady schedule."""
    return round(sum(a.input_tokens + a.output_tokens for a in schedule) / 50)


def decisions(stack: Stack, name: str) -> list[Json]:
    """The decisions that the status tells, newest first."""
    found: list[Json] = (stack.inference(name) or {}).get("status", {}).get("decisions", [])
    return found


def waiting_tokens(stack: Stack, name: str) -> int:
    """Prompt tokens that wait at the prefill workers, as their engines say."""
    loads = [
        stack.engine_load(pod["metadata"]["name"]) for pod in stack.pods(name, "prefill") if pod["status"].get("podIP")
    ]
    return sum(rank["num_waiting_uncached_tokens"] for load in loads if load for rank in load["loads"])
