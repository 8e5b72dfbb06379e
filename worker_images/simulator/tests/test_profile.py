"""Reading the EngineProfile that times the engine."""

import pytest
import yaml

from dopd.perf import EngineModel
from dopd_simulator.profile import DEFAULT_PROFILE, load_profile


def manifest():
    spec = DEFAULT_PROFILE.model_dump(mode="json", by_alias=True)
    return {"apiVersion": "dopd.dev/v1alpha1", "kind": "EngineProfile", "metadata": {"name": "p"}, "spec": spec}


def test_the_default_profile_is_complete():
    model = EngineModel.from_profile(DEFAULT_PROFILE)
    assert model.prefill_seconds(2048) == pytest.approx(0.0461)
    assert model.itl_seconds(64, 2048) == pytest.approx(0.0126)


@pytest.mark.parametrize("part", [lambda m: m, lambda m: m["spec"]])
def test_a_manifest_or_its_spec_is_read(tmp_path, part):
    file = tmp_path / "profile.yaml"
    file.write_text(yaml.safe_dump(part(manifest())))
    assert load_profile(file) == DEFAULT_PROFILE


def test_a_wrong_profile_names_file_and_field(tmp_path):
    document = manifest()
    document["spec"]["decode"]["kvTokens"] = -5
    file = tmp_path / "profile.yaml"
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(ValueError, match=r"profile\.yaml: not an EngineProfile: spec\.decode\.kvTokens"):
        load_profile(file)


@pytest.mark.parametrize("text", ["a: [", "just words", None])
def test_no_profile_at_all(tmp_path, text):
    file = tmp_path / "profile.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match="--sim-profile"):
        load_profile(file)
