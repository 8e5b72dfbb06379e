"""The order of prompts: what the operator asks for reaches running workers, and a short prompt passes long ones.

The engines are simulated ones, which go by the operator's file as dopd's plugin does in SGLang (e2e/sglang has it).
"""

from e2e.load import BackgroundLoad, Schedule, Target
from e2e.load.schedule import Arrival
from e2e.stack import Stack, condition, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import GATEWAY_NODE_PORT, MODEL, changed, static

ARRIVAL_SECONDS = 120
"""The engines look at their file at least twice a minute, and so does the operator at the engines."""


def test_settings_reach_running_workers_and_replace_none(stack: Stack, apply: Apply) -> None:
    resource = static("ordered", prefill=2)
    name = apply(resource)
    until_ready(stack, name)
    wait_for(lambda: reason(stack, name) == "PluginOrders", "the plugin orders prompts", timeout_seconds=60)
    before = workers(stack, name)
    apply(changed(resource, {"scheduling__policy": "ShortestFirst", "slo__ttftSeconds": 3}))
    wait_for(lambda: reason(stack, name) == "OldSettings", "workers go by the settings before", timeout_seconds=40)
    # The kubelet renews a mounted ConfigMap once a minute or so, and at once when the pod changes.
    stack.kubectl("annotate", "pods", f"--selector=dopd.dev/instance={name},dopd.dev/pool=prefill", "e2e/look=now")
    wait_for(lambda: reason(stack, name) == "PluginOrders", "they took over", timeout_seconds=ARRIVAL_SECONDS)
    assert workers(stack, name) == before
    apply(changed(resource, {"scheduling__policy": "EngineDefault"}))
    wait_for(lambda: reason(stack, name) is None, "the order is off", timeout_seconds=30)


def test_short_prompts_pass_long_ones(stack: Stack, apply: Apply) -> None:
    name = apply(static("mixed", node_port=GATEWAY_NODE_PORT))
    until_ready(stack, name)
    wait_for(lambda: reason(stack, name) == "PluginOrders", "the plugin orders prompts", timeout_seconds=60)
    long = [Arrival(0.0, 12_000, 4) for _ in range(4)]
    short = [Arrival(0.3 + 0.02 * number, 100, 4) for number in range(20)]
    with BackgroundLoad(Target(stack.gateway_url, MODEL), Schedule((*long, *short))) as load:
        results = load.wait()
        assert load.lost == []
    first_tokens = {
        kind: [r.at_seconds + (r.ttft_seconds or 0) for r in results if (r.input_tokens > 1000) == (kind == "long")]
        for kind in ("long", "short")
    }
    assert len(first_tokens["short"]) == 20
    assert max(first_tokens["short"]) < max(first_tokens["long"])


def reason(stack: Stack, name: str) -> str | None:
    """Of the condition SchedulingActive; None without one."""
    return condition(stack.inference(name), "SchedulingActive").get("reason")


def workers(stack: Stack, name: str) -> set[str]:
    """The pods of the prefill workers."""
    return {pod["metadata"]["uid"] for pod in stack.pods(name, "prefill")}
