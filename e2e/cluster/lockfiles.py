"""Pinned Python dependencies with hashes: one lock file for development, one for each image with only what it needs.

The image locks take the versions of the development lock, so that what is tested is what is shipped.
"""

import shutil
import tomllib
from pathlib import Path
from typing import Any

from e2e.cluster import versions
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.steps import output, say

DEVELOPMENT = Path("requirements.lock")
OPERATOR = Path("operator/requirements.lock")
SIMULATOR = Path("worker_images/simulator/requirements.lock")
GATEWAY = Path("e2e/images/gateway/requirements.lock")
BUILD = Path("build.lock")
SGLANG_CPU = Path("worker_images/sglang/requirements.lock")

_OPTIONS = (
    "--generate-hashes",
    "--python-version=3.11",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--quiet",
)


# A checkout may be on any system and any newer Python. An image is Linux with Python 3.11: its lock has no conditions,
# so that a host with another Python can fetch the wheels.
_ANYWHERE = ("--universal",)
_IMAGE = ("--python-platform=linux", f"--constraint={REPOSITORY / DEVELOPMENT}")


# SGLang's pins are a closed set that a person has tried, see the file. Its wheel needs glibc 2.34; bookworm has 2.36.
_CLOSED_SET = ("--python-platform=x86_64-manylinux_2_36", "--no-deps")


_NOT_FOR_ALL = ("estimate",)
"""Extras that a checkout does without: large, and not for every Python that a checkout may have."""


def write_all() -> None:
    """Write every lock file anew; a pin that still fits stays as it is.

    Raises:
        ClusterError: uv is not installed, or found no versions that fit.
    """
    if not shutil.which("uv"):
        raise ClusterError("uv is not on PATH: `pip install uv` into an environment of its own, and try again")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    _compile(DEVELOPMENT, development_requirements(project), _ANYWHERE)
    _compile(OPERATOR, project["project"]["dependencies"], _IMAGE)
    _compile(SIMULATOR, project["project"]["optional-dependencies"]["simulator"], _IMAGE)
    _compile(GATEWAY, [f"smg=={versions.GATEWAY}"], _IMAGE)
    _compile(BUILD, project["build-system"]["requires"], _IMAGE)
    closed_set = (REPOSITORY / SGLANG_CPU).with_suffix(".in").read_text().splitlines()
    _compile(SGLANG_CPU, closed_set, _CLOSED_SET)


def development_requirements(project: dict[str, Any]) -> list[str]:
    """Return all that a checkout needs: to run with its usual extras, to test, and to build the wheel.

    Args:
        project: the content of pyproject.toml.
    """
    extras = [
        requirements
        for extra, requirements in project["project"]["optional-dependencies"].items()
        if extra not in _NOT_FOR_ALL
    ]
    groups = project["dependency-groups"].values()
    named = [item for group in groups for item in group if isinstance(item, str)]  # not {include-group = ...}
    return [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(item for extra in extras for item in extra),
        *named,
    ]


def _compile(lock: Path, requirements: list[str], options: tuple[str, ...]) -> None:
    say(f"locking {lock}")
    command = ["uv", "pip", "compile", "-", *_OPTIONS, *options, f"--output-file={REPOSITORY / lock}"]
    output(command, stdin="\n".join(requirements), timeout_seconds=600)
