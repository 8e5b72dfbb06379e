"""Everything that a simulated engine shows, against what was recorded of a real one (`python -m e2e.sglang record`)."""

import re

import pytest

from dopd_simulator import SGLANG_VERSION
from e2e.sglang.model import VOCABULARY
from e2e.sglang.surface import Target, differences, exercise_pair, exercise_regular, note, read

KINDS = ("regular", "prefill", "decode")
KNOWN = {
    r"/loads/accelerator": "a simulated engine names the GPU of its profile, a real one on a CPU none",
    r"/metrics/sglang:cached_tokens": "no prefix cache is simulated",
    r"/metrics/sglang:realtime_tokens/labels/mode=prefill_cache": "no prefix cache is simulated",
    r"/metrics/sglang:http_\w+/labels/endpoint=/(freeze_gc|model_info)": "a real engine asks itself when it starts",
    r"/metrics/sglang:http_responses/labels/status_code=503": "/ready, asked while a real engine starts",
    r"/model_info/embedding": "of embedding models",
    r"/server_info/context_length": "the simulator is told, a real engine has it from the model",
    r"/server_info/(?!.*(memory_usage|simulated)).*: only real": "settings that change nothing in a simulator",
}
"""Differences that are meant, and why; one that is gone must go from here."""


@pytest.fixture
async def shown(simulate, http):
    """What simulated engines show, launched and used as the recorded ones were."""
    options = dict(disable_cuda_graph=True, max_running_requests=32, max_total_tokens=65536, sim_vocabulary=VOCABULARY)
    engines = {
        kind: await simulate("null" if kind == "regular" else kind, **options, disaggregation_decode_extra_slots=0)
        for kind in KINDS
    }
    targets = {kind: Target(engine.url, engine.bootstrap_port) for kind, engine in engines.items()}
    await exercise_regular(http, targets["regular"])
    await exercise_pair(http, targets["prefill"], targets["decode"])
    return {kind: await note(http, target) for kind, target in targets.items()}


async def test_a_simulated_engine_shows_what_a_real_one_does(shown):
    unused = set(KNOWN)
    unexpected = []
    for kind in KINDS:
        for difference in differences(read(kind), shown[kind]):
            known = [pattern for pattern in KNOWN if re.match(pattern, difference)]
            unused -= set(known)
            if not known:
                unexpected.append(f"{kind}: {difference}")
    assert not unexpected
    assert not unused, "known differences that are none any more"


@pytest.mark.parametrize("engine", KINDS)
def test_the_recording_is_of_the_version_that_is_simulated(engine):
    assert read(engine)["version"] == SGLANG_VERSION


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        ("metrics", lambda part: part.pop("sglang:num_running_reqs"), "/metrics/sglang:num_running_reqs: only real"),
        (
            "metrics",
            lambda part: part["sglang:realtime_tokens"]["labels"]["mode"].append("other"),
            "/metrics/sglang:realtime_tokens/labels/mode=other: only simulated",
        ),
        (
            "metrics",
            lambda part: part["sglang:time_to_first_token_seconds"]["le"].pop(3),
            "/metrics/sglang:time_to_first_token_seconds/le: ",
        ),
        ("loads", lambda part: part["loads"][0]["queues"].pop("paused"), "/loads/loads[]/queues/paused: only real"),
        (
            "loads",
            lambda part: part["loads"][0].update(num_running_reqs="text"),
            "/num_running_reqs: number real, text",
        ),
    ],
)
def test_a_difference_is_told_by_its_place(path, change, told):
    other = read("decode")
    change(other[path])
    (difference,) = differences(read("decode"), other)
    assert told in difference
