"""Bad EngineProfiles are refused by the API server; those that dopd ships are accepted and can be planned with."""

from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dopd.api.profile import EngineProfileSpec
from dopd.cluster import kinds
from dopd.perf import EngineModel

from .admission import GONE, PROFILE, changed, missing_words, send

SHIPPED = sorted((Path(__file__).parents[2] / "dopd" / "perf" / "profiles").glob("*.yaml"))


def prefill(*points: tuple[int, float]) -> list[dict[str, Any]]:
    return [{"tokens": tokens, "seconds": seconds} for tokens, seconds in points]


def decode(*points: tuple[int, int, float]) -> list[dict[str, Any]]:
    return [{"batch": batch, "contextTokens": context, "itlSeconds": itl} for batch, context, itl in points]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec.prefill.points": prefill((1, 1))}, ["spec.prefill.points:", "at least 2"]),
        ({"spec.prefill.points": prefill((1, 2), (2, 1))}, ["spec.prefill.points:", "must not fall as tokens grow"]),
        ({"spec.prefill.points": prefill((1, 1), (1, 1))}, ["spec.prefill.points:", "remove the duplicate"]),
        ({"spec.prefill.points": prefill((0, 1), (1, 1))}, ["spec.prefill.points[0].tokens:", "or equal to 1"]),
        ({"spec.prefill.points": prefill((1, 1), (2, 0))}, ["spec.prefill.points[1].seconds:", "at least 1e-06"]),
        ({"spec.decode.points": []}, ["spec.decode.points:", "at least 1"]),
        ({"spec.decode.points": decode((1, 8, 2), (2, 8, 1))}, ["spec.decode.points:", "check for a swapped pair"]),
        ({"spec.decode.points": decode((1, 8, 1), (1, 8, 1))}, ["spec.decode.points:", "remove the duplicate"]),
        ({"spec.decode.points": decode((1, 8, 1), (2, 8, 1), (1, 9, 1))}, ["spec.decode.points:", "every batch at"]),
        ({"spec.decode.points": decode((1, 8, 1), (2, 9, 1))}, ["spec.decode.points:", "every batch at"]),
        ({"spec.decode.kvTokens": GONE}, ["spec.decode.kvTokens: Required"]),
        ({"spec.source.date": "yesterday"}, ["spec.source.date:", "YYYY-MM-DD"]),
        ({"spec.source.origin": "Guessed"}, ["spec.source.origin:", '"Estimated"']),
        ({"spec.correction": 0}, ["spec.correction:", "at least 0.01"]),
        ({"spec.correction": 1e-300}, ["spec.correction:", "at least 0.01"]),
        ({"spec.startup": {"prefillSecond": 1}}, ['unknown field "spec.startup.prefillSecond"']),
    ],
)
def test_bad_profiles_are_refused_by_field_and_fix(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    assert not missing_words(send(api, kinds.PROFILE, changed(PROFILE, changes)), words)


def test_the_largest_table_is_within_the_cost_limit_of_rules(api: httpx.Client, crds: None):
    grid = decode(
        *((batch, context, 0.001 * (batch + context)) for batch, context in product(range(1, 9), range(1, 9)))
    )
    curve = prefill(*((tokens, 0.001 * tokens) for tokens in range(1, 65)))
    manifest = changed(PROFILE, {"spec.decode.points": grid, "spec.prefill.points": curve})
    answer = send(api, kinds.PROFILE, manifest)
    assert answer.status_code == 201, answer.text
    EngineModel.from_profile(EngineProfileSpec.model_validate(manifest["spec"]))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_profiles_that_are_shipped_are_accepted(api: httpx.Client, crds: None, path: Path):
    manifest = yaml.safe_load(path.read_text())
    assert manifest["metadata"]["name"] == path.stem
    answer = send(api, kinds.PROFILE, manifest)
    assert answer.status_code == 201, answer.text
    EngineModel.from_profile(EngineProfileSpec.model_validate(manifest["spec"]))
