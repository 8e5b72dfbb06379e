"""What is installed from the wheel: packages, shipped profiles, extras."""

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from dopd.replay.profiles import shipped

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    path = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")))))
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_shipped_profile(wheel):
    held = {Path(name).stem for name in wheel.namelist() if name.startswith("dopd/perf/profiles/")}
    assert held == set(shipped())


def test_the_wheel_holds_the_code_and_none_of_the_tests(wheel):
    names = set(wheel.namelist())
    assert {"dopd/cli/main.py", "dopd_forecasting/__init__.py", "dopd_simulator/__main__.py"} <= names
    assert not [name for name in names if "tests/" in name]


def test_the_extra_for_estimates_is_pinned(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    requires = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist") or []
    assert any("aiconfigurator-core==0.12.0" in line and "estimate" in line for line in requires)
