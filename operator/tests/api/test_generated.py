"""What is generated from the code stands in the repository as the code says."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from charts import generate as chart
from dopd.api.crds import build, render
from dopd.telemetry import recording

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("folder", ["crds", "charts/dopd/files/crds", "config/crd"])
def test_the_crds_are_those_of_the_models(folder: str):
    found = {path.name: path.read_text() for path in (ROOT / folder).glob("dopd.dev_*.yaml")}
    assert found == {name: render(definition) for name, definition in build().items()}, "run `make crds`"


def test_kustomize_takes_all_of_the_crds():
    found = yaml.safe_load((ROOT / "config" / "crd" / "kustomization.yaml").read_text())
    assert sorted(found["resources"]) == sorted(build())


def test_the_recording_rules_are_those_of_the_queries():
    text = (ROOT / "charts" / "dopd" / "rules" / "recording.yaml").read_text()
    assert text == recording.render(), "run `make crds`"


def test_the_reference_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {path.name: path.read_text() for path in (ROOT / "docs" / "reference").iterdir()}
    assert found == module.pages(), "run `make docs`"


def test_schema_checks_and_readme_of_the_chart_are_those_of_its_values():
    for path, text in chart.files().items():
        assert path.read_text() == text, f"{path.name}: run `make chart`"
