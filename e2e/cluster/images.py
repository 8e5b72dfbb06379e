"""The project's images: built on the published Python image where it can be pulled, else on our own Debian.

Wheels are fetched on the host, by the hashes of a lock file, because a build may have no network. Every image carries a
tag made of its inputs, beside the tag that manifests name: what is there is never built or loaded again.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Image:
    """How one image is made.

    Attributes:
        name: its repository below `dopd.dev/`.
        tag: the tag that manifests name.
        folder: where its Dockerfile is, relative to the repository.
        lock: lock file of the wheels that it installs.
        own_wheel: whether it installs this project.
    """

    name: str
    tag: str
    folder: Path
    lock: Path | None = None
    own_wheel: bool = False

    @property
    def reference(self) -> str:
        """The name and tag that manifests use."""
        return f"dopd.dev/{self.name}:{self.tag}"


IMAGES = (
    Image("operator", "dev", Path("operator"), lockfiles.OPERATOR, own_wheel=True),
    Image("simulator", "dev", Path("worker_images/simulator"), lockfiles.SIMULATOR, own_wheel=True),
    Image("gateway", versions.GATEWAY, Path("e2e/images/gateway"), lockfiles.GATEWAY),
    Image("prometheus", versions.PROMETHEUS, Path("e2e/images/prometheus")),
)


def build_all(docker: Docker) -> dict[str, str]:
    """Build what is not there yet.

    Returns:
        For each reference that manifests use, the tag by inputs that names the same image.

    Raises:
        ClusterError: a wheel cannot be fetched, or a build failed.
    """
    with exclusive(cache_dir() / "locks" / "images", waiting_for="it builds images"):
        base = _base(docker)
        with _own_wheel() as wheel:
            return {image.reference: _build(docker, image, base, wheel) for image in IMAGES}


def _base(docker: Docker) -> str:
    published = versions.PUBLISHED_BASE_IMAGE
    if docker.has_image(published):
        return published
    # A base of our own that is there already says that the published one could not be had.
    if docker.tags("dopd.dev/base") or docker.pull(published):
        return base_image(docker)
    return published


def _build(docker: Docker, image: Image, base: str, wheel: Path) -> str:
    folder = REPOSITORY / image.folder
    machine = docker.machine()
    parts: list[str | bytes | Path] = [docker.image_id(base), folder / "Dockerfile"]
    parts += [REPOSITORY / image.lock, machine] if image.lock else []
    parts += [wheel] if image.own_wheel else []
    exact = f"dopd.dev/{image.name}:{digest(*parts)}"
    if not docker.has_image(exact):
        with tempfile.TemporaryDirectory(prefix="dopd-context-") as context:
            _fill(Path(context), image, machine, wheel)
            docker.build(
                exact, Path(context), arguments={"BASE": base}, what=f"building image {image.name}", usually="30 s"
            )
        _forget_former(docker, image, exact)
    docker.output("tag", exact, image.reference)
    return exact


def _fill(context: Path, image: Image, machine: str, wheel: Path) -> None:
    shutil.copy(REPOSITORY / image.folder / "Dockerfile", context)
    if image.lock:
        shutil.copy(REPOSITORY / image.lock, context / "requirements.lock")
        shutil.copytree(wheelhouse(REPOSITORY / image.lock, machine), context / "wheelhouse")
    if image.own_wheel:
        shutil.copy(wheel, context)


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
        what = f"fetching the wheels of {lock.relative_to(REPOSITORY)}"
        run(command, what=what, usually="20 s", log=build_log("wheels"))

    return cached("wheels", PYTHON_VERSION, digest(lock, machine), fetch)


@contextmanager
def _own_wheel() -> Iterator[Path]:
    """Build this project's wheel; the same files give the same bytes."""
    with tempfile.TemporaryDirectory(prefix="dopd-wheel-") as folder:
        command = [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={folder}"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"the project's wheel does not build:\n{done.stderr or done.stdout}")
        yield next(Path(folder).glob("*.whl"))
