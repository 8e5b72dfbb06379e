"""The project's images: built on the published Python image where it can be pulled, else on our own Debian.

A plain `docker build` fetches packages itself. Here they are fetched on the host, by the hashes of the lock files, and
laid into the context as wheelhouse/, because a build may have no network. Every image carries a tag made of its inputs,
beside the tag that manifests name: what is there is never built or loaded again.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import dopd
from e2e.cluster import lockfiles, versions
from e2e.cluster.cache import build_log, cached, digest
from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.locks import exclusive
from e2e.cluster.nodeimage import base_image
from e2e.cluster.paths import REPOSITORY, cache_dir
from e2e.cluster.steps import run

PYTHON_VERSION = "3.11"
# glibc of Debian bookworm is 2.36; pip takes a wheel only for the platforms that it is told.
_GLIBC_MINORS = range(17, 37)

PUBLISHED = "DOPD_PUBLISHED"
"""Environment variable with a registry: what is released comes from there, in the version of this checkout."""
RELEASED = ("operator", "simulator")
"""Images that a release publishes (release/plan.py), as far as test clusters run them."""

_SGLANG_SOURCES = (Path("worker_images/sglang/dopd_scheduling"), Path("worker_images/sglang/dopd_sglang"))
_PROJECT_SOURCES = (
    Path("pyproject.toml"),
    Path("README.md"),
    Path("LICENSE"),
    Path("forecasting/dopd_forecasting"),
    Path("operator/dopd"),
    Path("worker_images/simulator/dopd_simulator"),
    *_SGLANG_SOURCES,
)


@dataclass(frozen=True)
class Image:
    """How one image is made.

    Attributes:
        name: its repository below `dopd.dev/`.
        tag: the tag that manifests name.
        folder: where its Dockerfile is, relative to the repository.
        locks: lock files of the wheels that it installs or builds with.
        sources: what else its Dockerfile copies, files and folders, relative to the repository.
        usually: how long its build usually takes.
    """

    name: str
    tag: str
    folder: Path
    locks: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()
    usually: str = "1 min"

    @property
    def reference(self) -> str:
        """The name and tag that manifests use."""
        return f"dopd.dev/{self.name}:{self.tag}"

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All that is copied from the repository into the context."""
        return (self.folder / "Dockerfile", *self.locks, *self.sources)


OPERATOR = Image("operator", "dev", Path("operator"), (lockfiles.BUILD, lockfiles.OPERATOR), _PROJECT_SOURCES)
IMAGES = (
    OPERATOR,
    Image(
        "simulator",
        "dev",
        Path("worker_images/simulator"),
        (lockfiles.BUILD, lockfiles.SIMULATOR),
        _PROJECT_SOURCES,
    ),
    Image("gateway", versions.GATEWAY, Path("e2e/images/gateway"), (lockfiles.GATEWAY,)),
    Image("prometheus", versions.PROMETHEUS, Path("e2e/images/prometheus")),
)

SGLANG_CPU = Image(
    "sglang-cpu",
    versions.SGLANG,
    Path("worker_images/sglang/cpu"),
    (lockfiles.SGLANG_CPU,),
    (Path("worker_images/sglang/cpu/make_stub_libraries.py"), Path("worker_images/sglang/cpu/stand_ins")),
    usually="5 min",
)
"""SGLang itself without a GPU, in place of the published image."""

SGLANG = Image(
    "sglang",
    "cpu",
    Path("worker_images/sglang"),
    (lockfiles.BUILD,),
    (Path("operator/dopd/__init__.py"), Path("worker_images/sglang/pyproject.toml"), *_SGLANG_SOURCES),
)
"""The worker on it: 2.5 GB, so that only who asks for it gets it."""


def build_all(docker: Docker, *, with_sglang: bool = False) -> dict[str, str]:
    """Build what is not there yet; pull what is released, where `PUBLISHED` names a registry.

    Args:
        docker: the Docker that builds.
        with_sglang: also the SGLang worker without a GPU.

    Returns:
        For each reference that manifests use, the tag by inputs that names the same image.

    Raises:
        ClusterError: a wheel or a published image cannot be fetched, or a build failed.
    """
    registry = os.environ.get(PUBLISHED, "")
    pulled = {image.reference: take(docker, image, registry) for image in IMAGES if registry and image.name in RELEASED}
    with exclusive(cache_dir() / "locks" / "images", waiting_for="it builds images"):
        base = _base(docker)
        missing = [image for image in IMAGES if image.reference not in pulled]
        built = pulled | {image.reference: _build(docker, image, {"BASE": base}) for image in missing}
        if with_sglang:
            built[SGLANG.reference] = _build_sglang(docker, base)
        return built


def take(docker: Docker, image: Image, registry: str) -> str:
    """Pull a published image, and give it the reference that manifests use; return its name.

    Raises:
        ClusterError: the registry does not have it.
    """
    published = f"{registry}/{image.name}:{dopd.__version__}"
    trouble = docker.pull(published)
    if trouble:
        raise ClusterError(
            f"{PUBLISHED}={registry}: {published} can not be had: {trouble}. Publish it, or leave it out"
        )
    docker.output("tag", published, image.reference)
    return published


def build_operator(docker: Docker, root: Path, version: str) -> dict[str, str]:
    """Build the operator's image from another checkout, beside that of this one; see `build_all`.

    Args:
        docker: the Docker that builds.
        root: where that checkout is.
        version: its name in the image's tag.

    Raises:
        ClusterError: a wheel cannot be fetched, a build failed, or the checkout has its parts in other places.
    """
    image = replace(OPERATOR, name="earlier-operator", tag=version)
    missing = [str(path) for path in image.inputs if not (root / path).exists()]
    if missing:
        raise ClusterError(f"{version} has no {', '.join(missing)}: its image is made in another way; name a later one")
    with exclusive(cache_dir() / "locks" / "images", waiting_for="it builds images"):
        return {image.reference: _build(docker, image, {"BASE": _base(docker)}, root)}


def build_sglang(docker: Docker) -> dict[str, str]:
    """Build the SGLang worker without a GPU, and nothing else; see `build_all`."""
    with exclusive(cache_dir() / "locks" / "images", waiting_for="it builds images"):
        return {SGLANG.reference: _build_sglang(docker, _base(docker))}


def _build_sglang(docker: Docker, base: str) -> str:
    sglang = _build(docker, SGLANG_CPU, {"BASE": base})
    return _build(docker, SGLANG, {"BASE": sglang, "PYTHON": base})


def _base(docker: Docker) -> str:
    published = versions.PUBLISHED_BASE_IMAGE
    if docker.has_image(published):
        return published
    # A base of our own that is there already says that the published one could not be had.
    if docker.tags("dopd.dev/base") or docker.pull(published):
        return base_image(docker)
    return published


def _build(docker: Docker, image: Image, bases: dict[str, str], root: Path = REPOSITORY) -> str:
    machine = docker.machine()
    parts: list[str | Path] = [docker.image_id(base) for base in bases.values()]
    parts += [root / path for path in image.inputs]
    parts += [machine] if image.locks else []
    exact = f"dopd.dev/{image.name}:{digest(*parts)}"
    if not docker.has_image(exact):
        with tempfile.TemporaryDirectory(prefix="dopd-context-") as context:
            fill(Path(context), image, machine, root)
            docker.build(
                exact,
                Path(context),
                dockerfile=image.folder / "Dockerfile",
                arguments=bases | ({"PIP_NO_INDEX": "1"} if image.locks else {}),
                what=f"building image {image.name}",
                usually=image.usually,
            )
        _forget_former(docker, image, exact)
    docker.output("tag", exact, image.reference)
    return exact


def fill(context: Path, image: Image, machine: str, root: Path = REPOSITORY) -> None:
    """Lay the build context of an image: its inputs at their places in the repository, and wheels in wheelhouse/."""
    for path in image.inputs:
        source, target = root / path, context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for lock in image.locks:
        shutil.copytree(wheelhouse(root / lock, machine), context / "wheelhouse", dirs_exist_ok=True)


def _forget_former(docker: Docker, image: Image, exact: str) -> None:
    """Untag earlier builds, so that a day of changes does not fill the disk."""
    for former in docker.tags(f"dopd.dev/{image.name}"):
        if former not in (exact, image.reference):
            docker.output("rmi", "--no-prune", former)


def wheelhouse(lock: Path, machine: str) -> Path:
    """Return the folder with the wheels of a lock file for Linux on `machine` (`x86_64`, `aarch64`).

    Raises:
        ClusterError: pip cannot fetch them; holds the end of its log.
    """

    def fetch(target: Path) -> None:
        platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={PYTHON_VERSION}",
            *platforms,
            f"--dest={target}",
            f"--requirement={lock}",
        ]
        what = f"fetching the wheels of {lock.parent.name}/{lock.name}"
        run(command, what=what, usually="20 s", log=build_log("wheels"))

    return cached("wheels", PYTHON_VERSION, digest(lock, machine), fetch)
