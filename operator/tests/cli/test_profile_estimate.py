import sys
from types import SimpleNamespace

import pytest

from dopd.cli.main import main
from dopd.replay.profiles import load_profile, shipped


class DownloadError(Exception):
    """What the publisher's package raises."""


def compile_engine(model, *_args, **_options):
    raise DownloadError(f"Failed to download {model}'s config.json:\n404")


@pytest.fixture
def published(monkeypatch):
    """The publisher's package as far as an unknown model gets in it."""
    for name, content in {
        "engine": {"EngineHandle": SimpleNamespace(compile=compile_engine)},
        "memory": {},
        "utils": {"HuggingFaceDownloadError": DownloadError},
        "common": {"DefaultHFModels": {"Qwen/Qwen3-8B", "meta-llama/Meta-Llama-3.1-8B", "a", "b"}},
    }.items():
        monkeypatch.setitem(sys.modules, f"aiconfigurator_core.sdk.{name}", SimpleNamespace(**content))


def test_an_unknown_model_is_one_line_that_names_known_ones(published, capsys):
    command = "profile estimate --name n --model Qwen/Qwen3-9B --gpu h100_sxm --engine-version 0.5.10"
    assert main(command.split()) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "model Qwen/Qwen3-9B" in said
    assert "one of the 4 models that need no download, such as Qwen/Qwen3-8B" in said


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_profile_states_its_data_types(name):
    kind = "fp8" if "fp8" in name else "bfloat16"
    assert f"KV cache {kind}" in (load_profile(name).data_type or "")
