"""Which release an image promises, and what that release can do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.workloads.sglang_versions import Feature, parse_version, supports, version_of_image


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("lmsysorg/sglang:v0.5.23-cu126", (0, 5, 23)),
        ("lmsysorg/sglang:v0.5.23", (0, 5, 23)),
        ("docker.io/lmsysorg/sglang:v0.5.4.post1-rocm630-mi30x", (0, 5, 4)),
        ("lmsysorg/sglang:0.5.12-cu130-runtime", (0, 5, 12)),
        ("registry.example.com:5000/team/our-sglang:v0.5.22_2", (0, 5, 22)),
        ("dopd.dev/sglang:0.5.23-dopd.1", (0, 5, 23)),
        (f"lmsysorg/sglang:v0.5.21-cu126@sha256:{'0' * 64}", (0, 5, 21)),
        (f"lmsysorg/sglang@sha256:{'0' * 64}", None),
        ("lmsysorg/sglang", None),
        ("registry.example.com:5000/sglang", None),
        ("lmsysorg/sglang:latest", None),
        ("lmsysorg/sglang:dev-cu12", None),
        ("lmsysorg/sglang:nightly-dev-20261120-1a2b3c4d", None),
        ("lmsysorg/sglang:v0.5.23rc1", None),
        ("lmsysorg/sglang:v0.5.23-rc.1-cu126", None),
        ("lmsysorg/sglang:v0.5", None),
        ("lmsysorg/sglang:v0.5.23.4", None),
        ("vllm/vllm-openai:v0.10.0", None),
        ("example.com/sglang/llm:v1.2.0", None),
        ("", None),
    ],
)
def test_version_of_image(image, version):
    assert version_of_image(image) == version


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.5.23", (0, 5, 23)), ("0.5.22.post1", (0, 5, 22)), ("0.5.24.dev3+g1234567", None), ("0.5.24-dev", None)],
)
def test_the_version_that_an_engine_says(text, version):
    """`version` of /server_info."""
    assert parse_version(text) == version


@given(st.text(max_size=200))
def test_any_text_is_a_version_or_none(text):
    assert version_of_image(text) is None or len(version_of_image(text)) == 3


@pytest.mark.parametrize(
    ("version", "feature", "expected"),
    [
        ((0, 5, 20), Feature.SHORTEST_PREFILL_FIRST, False),
        ((0, 5, 21), Feature.SHORTEST_PREFILL_FIRST, True),
        ((0, 6, 0), Feature.SHORTEST_PREFILL_FIRST, True),
        ((0, 5, 19), Feature.READY_ENDPOINT, False),
        ((0, 5, 10), Feature.PLUGINS, False),
        ((0, 5, 11), Feature.PLUGINS, True),
        (None, Feature.LOADS, False),
    ],
)
def test_supports(version, feature, expected):
    assert supports(version, feature) is expected
