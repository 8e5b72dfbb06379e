"""The flags that the operator sets: the released parsers know them, and no user can set them a second time."""

from pathlib import Path
from typing import Any

import pytest

from dopd.api.flags import ENGINE_FLAGS, ROUTER_FLAGS, Reserved
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engines import engine_flags
from dopd.workloads.router import router_flags

KNOWN = Path(__file__).parents[1] / "api" / "flags"
EVERYTHING: dict[str, Any] = {
    "apiKey": {"name": "s"},
    "ipFamily": "IPv6",
    "prefill": {"gpus": 8, "replicas": 1, "parallelism": {"pipeline": 2, "data": 2, "dataAttention": True}},
    "decode": {"gpus": 8, "replicas": 1, "parallelism": {"data": 4}},
}
OVER = {
    "--schedule-policy",
    "--power-of-two-load-metric",
    "--load-monitor-interval",
    "--log-level",
    "--disable-tokenizer-autoload",
    "--worker-startup-check-interval",
    "--disable-worker-overload-protection",
    "--shutdown-grace-period-secs",
}
"""Defaults of the operator that a user may set anew."""


def rendered(owner: Owner, raw_spec: dict[str, Any]) -> dict[str, set[str]]:
    spec = DisaggregatedInferenceSpec.model_validate({**raw_spec, **EVERYTHING})
    engine = [*engine_flags(spec, Role.PREFILL, spec.prefill), *engine_flags(spec, Role.DECODE, spec.decode)]
    words = {"sglang-0.5.23": engine, "smg-1.13.0": router_flags(owner, spec)}
    return {release: {word for word in found if word.startswith("--")} for release, found in words.items()}


@pytest.mark.parametrize(("release", "table"), [("sglang-0.5.23", ENGINE_FLAGS), ("smg-1.13.0", ROUTER_FLAGS)])
def test_what_is_set_exists_and_is_reserved(
    owner: Owner, raw_spec: dict[str, Any], release: str, table: tuple[Reserved, ...]
):
    flags = rendered(owner, raw_spec)[release]
    assert len(flags) > 10
    assert flags <= set((KNOWN / f"{release}.txt").read_text().split())
    assert flags - OVER <= {flag for group in table for flag in group.flags}
