"""The engine's own order: set where it is known to work, and nowhere else. A wrong flag ends an engine at its start."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engine_order import engine_order
from dopd.workloads.engines import worker_template

IMAGE = "lmsysorg/sglang:v0.5.23"
FLAG = ["--schedule-policy", "shortest-prefill-first"]


def spec_with(raw_spec: dict[str, Any], **changes: Any) -> DisaggregatedInferenceSpec:
    raw_spec["engine"]["image"] = IMAGE
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = raw_spec
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return DisaggregatedInferenceSpec.model_validate(raw_spec)


def command(owner: Owner, spec: DisaggregatedInferenceSpec, role: Role) -> list[str]:
    words: list[str] = worker_template(owner, spec, role)["spec"]["containers"][0]["command"]
    return words


def test_prefill_workers_get_it_and_decode_workers_never_do(owner: Owner, raw_spec: dict[str, Any]):
    spec = spec_with(raw_spec)
    words = command(owner, spec, Role.PREFILL)
    assert words[words.index("--schedule-policy") :][:2] == FLAG
    assert "--schedule-policy" not in command(owner, spec, Role.DECODE)


def test_the_users_arguments_come_after_it(owner: Owner, raw_spec: dict[str, Any]):
    words = command(owner, spec_with(raw_spec), Role.PREFILL)
    assert words.index("--schedule-policy") < words.index("--mem-fraction-static")


ENGINE_TEMPLATE = {"spec": {"containers": [{"name": "engine", "args": ["--disable-radix-cache"]}]}}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"engine__args": ["--schedule-policy", "hrrn"]}, "--schedule-policy"),
        ({"prefill__args": ["--schedule-policy=lpm"]}, "--schedule-policy"),
        ({"prefill__args": ["--schedule-po", "lpm"]}, "--schedule-policy"),
        ({"prefill__args": ["--disable-radix-cache"]}, "--disable-radix-cache"),
        ({"prefill__args": ["--disable-rad"]}, "--disable-radix-cache"),
        ({"prefill__template": ENGINE_TEMPLATE}, "--disable-radix-cache"),
        ({"engine__command": ["sh", "-c", "exec serve --disable-radix-cache $0"]}, "--disable-radix-cache"),
        ({"engine__args": ["--enable-priority-scheduling"]}, "--enable-priority-scheduling"),
        ({"engine__args": ["--config", "/etc/sglang.yaml"]}, "--config"),
        ({"engine__image": "lmsysorg/sglang@sha256:0123"}, "does not tell the release"),
        ({"engine__image": "example.com/llm:v1.2.0"}, "does not tell the release"),
        ({"engine__image": "lmsysorg/sglang:v0.5.20"}, "0.5.20"),
        ({"scheduling": {"policy": "EngineDefault"}}, "EngineDefault"),
    ],
)
def test_it_is_left_out_and_the_reason_is_told(owner: Owner, raw_spec: dict[str, Any], changes: Any, word: str):
    spec = spec_with(raw_spec, **changes)
    assert "shortest-prefill-first" not in command(owner, spec, Role.PREFILL)
    assert word in engine_order(spec).why_not


@pytest.mark.parametrize("words", [["--disable-cuda-graph"], ["--schedule-conservativeness", "0.3"], ["-x", "--"]])
def test_other_flags_do_not_keep_it_away(raw_spec: dict[str, Any], words: list[str]):
    assert engine_order(spec_with(raw_spec, prefill__args=words)).flags == tuple(FLAG)
