"""What a prefill worker says of its order, among thousands of other lines."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cluster.podhttp import PodHttpError
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.prompt_order import (
    AGAIN_SECONDS,
    PROVED_SECONDS,
    PromptOrder,
    PromptOrderReader,
    parse_prompt_order,
)

OTHERS = """# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="prefill",model_name="m"} 3.0
"""


def told(active: float = 1, policy: str = "on-time-first", fallbacks: str = "") -> str:
    return f"""{OTHERS}# TYPE dopd_prefill_order_info gauge
dopd_prefill_order_info{{plugin_version="0.1.0",policy="{policy}",sglang_version="0.5.23"}} 1.0
dopd_prefill_order_info{{plugin_version="0.1.0",policy="before",sglang_version="0.5.23"}} 0.0
# TYPE dopd_prefill_order_active gauge
dopd_prefill_order_active {active}
# TYPE dopd_prefill_order_fallbacks_total counter
{fallbacks}
dopd_prefill_prompts_total{{length="short"}} 3.0
"""


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (OTHERS, PromptOrder()),
        ("", PromptOrder()),
        (told(), PromptOrder(frozenset({"on-time-first"}), True)),
        (
            told(0, fallbacks='dopd_prefill_order_fallbacks_total{reason="error"} 2.0'),
            PromptOrder(frozenset({"on-time-first"}), False, ("error",)),
        ),
        (told() + 'dopd_prefill_order_active{pid="7"} 0.0', PromptOrder(frozenset({"on-time-first"}), False)),
    ],
)
def test_what_is_read(text: str, order: PromptOrder):
    assert parse_prompt_order(text) == order


STATE = "dopd_prefill_order_"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{STATE}active what", "ValueError .*float"),
        (f"{STATE}info{{policy=", "Error"),
        (f'{STATE}info{{policy="a" 1', "Error"),
        (f"{STATE}active 1\n" * 500, "more than 200 lines"),
        (f'{STATE}info{{policy="{"x" * 2000}"}} 1', "longer ones"),
        (f'{STATE}info{{policy="{"x" * 100}"}} 1', "label policy"),
        (f'{STATE}fallbacks_total{{reason="a\\nb"}} 1', "label reason"),
        ("\n".join(f'{STATE}fallbacks_total{{reason="{n}"}} 1' for n in range(50)), "at most 16"),
    ],
)
def test_what_prometheus_would_not_read_or_is_too_much_is_named(text: str, words: str):
    with pytest.raises(BadAnswer, match=words):
        parse_prompt_order(text)


@given(st.lists(st.text(max_size=40), max_size=6), st.sampled_from(["active", "info", "fallbacks_total"]))
def test_any_text_is_an_order_or_a_bad_answer(lines: list[str], name: str):
    with contextlib.suppress(BadAnswer):
        order = parse_prompt_order("\n".join(f"{STATE}{name}{line}" for line in lines))
        assert all(policy.isprintable() for policy in order.policies)


class Pods:
    """Pods whose text is given by name; the others do not answer."""

    def __init__(self, **texts: str) -> None:
        self.texts, self.asked = texts, 0

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        assert (port, path) == (30000, "/metrics")
        self.asked += 1
        if pod["metadata"]["name"] not in self.texts:
            raise PodHttpError("no answer")
        return self.texts[pod["metadata"]["name"]]


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}"}}


async def test_who_does_not_answer_is_absent_and_nobody_is_asked_again_at_once():
    pods, clock = Pods(a=told(), b="dopd_prefill_order_active what"), Clock()
    reader = PromptOrderReader(pods, clock)  # type: ignore[arg-type]
    all_three = [pod("a"), pod("b"), pod("c")]
    assert set(await reader.read(all_three)) == {"a"}
    clock.seconds += AGAIN_SECONDS / 2
    assert set(await reader.read(all_three)) == {"a"}
    assert pods.asked == 3
    pods.texts["c"] = OTHERS
    clock.seconds += AGAIN_SECONDS
    assert set(await reader.read(all_three)) == {"a", "c"}
    assert pods.asked == 6


@pytest.mark.parametrize("missed", ["no answer", "a bad one"])
async def test_what_a_worker_told_holds_for_a_while_in_which_it_tells_nothing(missed: str):
    pods, clock = Pods(a=told()), Clock()
    reader, one = PromptOrderReader(pods, clock), [pod("a")]  # type: ignore[arg-type]
    proof = (await reader.read(one))["a"]
    if missed == "no answer":
        del pods.texts["a"]
    else:
        pods.texts["a"] = "dopd_prefill_order_active what"
    asked = pods.asked
    for _ in range(int(PROVED_SECONDS / AGAIN_SECONDS) - 1):
        clock.seconds += AGAIN_SECONDS
        assert await reader.read(one) == {"a": proof}
        asked += 1
        assert pods.asked == asked, "it is asked again all the same"
    clock.seconds += AGAIN_SECONDS
    assert await reader.read(one) == {}
    pods.texts["a"] = told(0)
    clock.seconds += AGAIN_SECONDS
    assert not (await reader.read(one))["a"].active, "a new word counts at once"


async def test_a_worker_that_has_been_replaced_is_not_known_by_the_word_of_the_one_before():
    pods, clock = Pods(a=told()), Clock()
    reader = PromptOrderReader(pods, clock)  # type: ignore[arg-type]
    await reader.read([pod("a")])
    del pods.texts["a"]
    assert await reader.read([{"metadata": {"name": "a", "uid": "another"}}]) == {}
