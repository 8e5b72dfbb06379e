"""What engines are started with."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from dopd.api.names import Role
from e2e.sglang import engines
from e2e.sglang.engines import PLUGIN_GROUP, operator_flags, plugin_folder
from e2e.sglang.install import IMAGE_FOLDER
from e2e.sglang.model import VOCABULARY, model_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_operators_flags_with_the_local_model() -> None:
    flags = operator_flags(Role.PREFILL)
    assert flags[flags.index("--disaggregation-mode") + 1] == "prefill"
    assert flags[flags.index("--model-path") + 1] == str(model_folder())
    assert "--enable-metrics" in flags
    regular = operator_flags(None)
    assert not any(flag.startswith("--disaggregation") for flag in regular)
    assert set(regular) < set(flags)


def test_every_id_of_the_model_has_a_text() -> None:
    vocabulary = json.loads((model_folder() / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(VOCABULARY))
    assert json.loads((model_folder() / "config.json").read_text())["vocab_size"] == VOCABULARY


def test_sglang_finds_the_plugin_of_the_image(tmp_path: Path) -> None:
    folder = plugin_folder(IMAGE_FOLDER, tmp_path / "plugin")
    (found,) = importlib.metadata.distributions(path=[str(folder)])
    assert [point.name for point in found.entry_points if point.group == PLUGIN_GROUP] == ["dopd"]
    assert (folder / "dopd_sglang" / "plugin.py").is_file()


def test_flags_of_a_prefix_go_with_their_values() -> None:
    assert engines._without(["--a", "1", "--b-x", "2", "--c"], "--b-") == ["--a", "1", "--c"]
