"""Build contexts hold what Dockerfiles copy, in the harness and in a plain `docker build .` alike."""

import fnmatch
import re
import shlex
from pathlib import Path

import pytest

import dopd
from e2e.cluster import images, versions
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import IMAGES, SGLANG, SGLANG_CPU, Image
from e2e.cluster.paths import REPOSITORY

ALL = (*IMAGES, SGLANG_CPU, SGLANG)


def copied(image: Image) -> set[str]:
    """What the Dockerfile copies from the context, without the wheels that only the harness lays there."""
    text = (REPOSITORY / image.folder / "Dockerfile").read_text()
    lines = [shlex.split(line)[1:-1] for line in re.findall(r"^COPY .*$", text, re.M) if "--from=" not in line]
    return {source.rstrip("/") for line in lines for source in line if source != "wheelhous[e]"}


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that fits it or a folder above it counts."""
    ignored = False
    folders = [str(folder) for folder in [Path(path), *Path(path).parents]][:-1]
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line.startswith(("#", "**/")) or not line:
            continue
        if any(fnmatch.fnmatchcase(folder, pattern) for folder in folders):
            ignored = not line.startswith("!")
    return ignored


@pytest.mark.parametrize("image", ALL, ids=lambda image: image.name)
def test_the_harness_lays_what_the_dockerfile_copies(image: Image) -> None:
    laid = {str(path) for path in image.inputs} - {str(image.folder / "Dockerfile")}
    assert laid == copied(image)


@pytest.mark.parametrize("image", ALL, ids=lambda image: image.name)
def test_a_plain_build_sends_what_the_dockerfile_copies(image: Image) -> None:
    assert [path for path in copied(image) if is_ignored(path)] == []


@pytest.mark.parametrize("path", [".git", ".venv/bin/python", "docs/index.md", "e2e/cluster/images.py"])
def test_a_plain_build_sends_little_else(path: str) -> None:
    assert is_ignored(path)


def test_a_context_holds_sources_at_their_places_and_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a.whl").touch()
    monkeypatch.setattr(images, "wheelhouse", lambda lock, machine: wheels)
    context = tmp_path / "context"
    context.mkdir()
    images.fill(context, SGLANG, "x86_64")
    assert (context / "worker_images/sglang/dopd_scheduling/order.py").is_file()
    assert (context / "wheelhouse/a.whl").is_file()
    assert not list(context.rglob("__pycache__"))


def test_one_release_of_sglang_is_named_everywhere() -> None:
    dockerfile = (REPOSITORY / SGLANG.folder / "Dockerfile").read_text()
    assert f"ARG BASE=lmsysorg/sglang:v{versions.SGLANG}\n" in dockerfile
    assert f"\nsglang=={versions.SGLANG}\n" in (REPOSITORY / "worker_images/sglang/requirements.in").read_text()
    assert f"\nsglang=={versions.SGLANG} " in (REPOSITORY / "worker_images/sglang/requirements.lock").read_text()


class Registry:
    """A Docker that pulls from a registry, which has some images."""

    def __init__(self, *has: str) -> None:
        self.has = has
        self.tagged: dict[str, str] = {}

    def pull(self, image: str) -> str:
        return "" if image in self.has else "manifest unknown"

    def output(self, verb: str, image: str, name: str) -> None:
        assert verb == "tag"
        self.tagged[name] = image


def test_a_published_image_takes_the_place_of_a_built_one() -> None:
    operator = next(image for image in IMAGES if image.name == "operator")
    name = f"ghcr.io/example/operator:{dopd.__version__}"
    docker = Registry(name)
    assert images.take(docker, operator, "ghcr.io/example") == name  # type: ignore[arg-type]
    assert docker.tagged == {operator.reference: name}
    with pytest.raises(ClusterError, match=r"other/operator.*manifest unknown.*Publish it, or leave it out"):
        images.take(docker, operator, "other")  # type: ignore[arg-type]
