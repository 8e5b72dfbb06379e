"""What the SGLang image installs."""

import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import dopd

FOLDER = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    path = Path(next(iter(WheelBuilder(str(FOLDER)).build(directory=str(tmp_path_factory.mktemp("wheel"))))))
    with zipfile.ZipFile(path) as archive:
        yield path.name, archive


def test_the_version_is_the_projects(wheel):
    assert wheel[0].startswith(f"dopd_sglang-{dopd.__version__}-py3")


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    folders = {name.split("/")[0] for name in wheel[1].namelist()}
    assert {name for name in folders if ".dist-info" not in name} == {"dopd_scheduling", "dopd_sglang"}


def test_sglang_finds_the_plugin_and_the_shell_the_preflight(wheel):
    path = next(name for name in wheel[1].namelist() if name.endswith("entry_points.txt"))
    entries = ConfigParser(delimiters="=")
    entries.read_string(wheel[1].read(path).decode())
    assert dict(entries["sglang.srt.plugins"]) == {"dopd": "dopd_sglang.plugin:register"}
    assert "dopd-preflight" in entries["console_scripts"]


def test_the_wheel_requires_nothing(wheel):
    path = next(name for name in wheel[1].namelist() if name.endswith("METADATA"))
    assert "Requires-Dist" not in wheel[1].read(path).decode()
