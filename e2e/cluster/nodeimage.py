"""The node image and the base image, made of Debian packages and Go modules where no published image can be had.

Images are tagged by the hash of what they are made from: an image that is there is right, and a change makes a new one.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster import programs, versions
from e2e.cluster.cache import build_log, digest
from e2e.cluster.daemon import apt_install
from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.locks import exclusive
from e2e.cluster.paths import BUILD_FILES, cache_dir
from e2e.cluster.steps import run

# What the published python image has too: our own images build on either.
_BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_BASE_OPTIONS = (
    "--variant=minbase",
    f"--include={','.join(_BASE_PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)

_REGISTRY = "registry.k8s.io"
_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


def base_image(docker: Docker) -> str:
    """Return the image of a small Debian with Python 3.11, made when it is not there."""
    with exclusive(cache_dir() / "locks" / "base-image", waiting_for="it makes the base image"):
        return _base_image(docker)


def _base_image(docker: Docker) -> str:
    image = f"dopd.dev/base:{digest(versions.DEBIAN_RELEASE, *_BASE_OPTIONS)}"
    if docker.has_image(image):
        return image
    if not shutil.which("mmdebstrap"):
        apt_install("mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="dopd-base-") as folder:
        archive = Path(folder) / "base.tar"
        command: list[str | Path] = ["mmdebstrap", *_BASE_OPTIONS, versions.DEBIAN_RELEASE, archive]
        what = f"making a base image from Debian {versions.DEBIAN_RELEASE}"
        run(command, what=what, usually="40 s", log=build_log("base"))
        docker.output("import", archive, image)
    return image


def node_image(docker: Docker) -> str:
    """Return the image of a kind node with the pinned Kubernetes, made when it is not there."""
    with exclusive(cache_dir() / "locks" / "node-image", waiting_for="it makes the node image"):
        return _node_image(docker)


def _node_image(docker: Docker) -> str:
    base = base_image(docker)
    kube, coredns, pause = programs.kube(), programs.coredns(), programs.pause()
    containerd = programs.containerd()
    made_from = (kube.name, coredns.name, pause.name, containerd.name)
    image = f"dopd.dev/node:{digest(base, *made_from, BUILD_FILES / 'components', BUILD_FILES / 'node')}"
    if docker.has_image(image):
        return image
    preloaded = _component_images(docker, base, kube, coredns, pause)
    parts = [kube / "kube", *containerd.iterdir()]
    with _context(BUILD_FILES / "node", parts) as context:
        docker.build(
            f"{image}-bare",
            Path(context),
            arguments={
                "BASE": base,
                "KUBERNETES": versions.KUBERNETES,
                "PAUSE_IMAGE_TAG": versions.PAUSE_IMAGE_TAG,
            },
            what="making the node image",
            usually="1 min",
        )
    _preload(docker, f"{image}-bare", preloaded, image)
    return image


def _component_images(docker: Docker, base: str, kube: Path, coredns: Path, pause: Path) -> list[str]:
    """Make the images that kubeadm asks for, under the names that it knows them by."""
    names = [f"{_REGISTRY}/{name}:{versions.KUBERNETES}" for name in _COMPONENTS]
    names.append(f"{_REGISTRY}/etcd:{versions.ETCD_IMAGE_TAG}")
    with _context(BUILD_FILES / "components", [kube / "kube"]) as context:
        arguments = {"BASE": base}
        docker.build(
            names[0], Path(context), arguments=arguments, what="making the image of Kubernetes", usually="30 s"
        )
    for name in names[1:]:
        docker.output("tag", names[0], name)
    single = {
        f"{_REGISTRY}/pause:{versions.PAUSE_IMAGE_TAG}": pause / "pause",
        f"{_REGISTRY}/coredns/coredns:{versions.COREDNS}": coredns / "coredns",
    }
    for name, program in single.items():
        with _context(None, [program]) as context:
            dockerfile = f'FROM scratch\nCOPY {program.name} /\nENTRYPOINT ["/{program.name}"]\n'
            (Path(context) / "Dockerfile").write_text(dockerfile)
            docker.build(name, Path(context), arguments={}, what=f"making the image of {program.name}")
    return names + list(single)


def _context(folder: Path | None, programs: Iterable[Path]) -> tempfile.TemporaryDirectory[str]:
    """Make a build context of a folder's files and some programs."""
    context = tempfile.TemporaryDirectory(prefix="dopd-context-")
    if folder:
        shutil.copytree(folder, context.name, dirs_exist_ok=True)
    for program in programs:
        shutil.copy2(program, context.name)
    return context


def _preload(docker: Docker, bare: str, images: list[str], image: str) -> None:
    """Make `image` of the image `bare` with `images` in its containerd."""
    container = f"preload-{image.rpartition(':')[2]}"
    docker.output("rm", "--force", "--volumes", container)
    options = ["--interactive", "--privileged", f"--name={container}", "--entrypoint=/usr/local/bin/preload-images"]
    log = build_log("node")
    with log.open("ab") as output:
        # Leaving the block closes our end of the pipe, which ends a `save` that nobody reads any more.
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE, env=docker.environment) as save:
            load = subprocess.run(
                ["docker", "run", *options, bare],
                stdin=save.stdout,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=docker.environment,
                check=False,
            )
        if save.returncode != 0 or load.returncode != 0:
            raise ClusterError(f"putting images into the node image failed. Log: {log}")
    entrypoint = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
    docker.output("commit", "--change", entrypoint, "--change", "CMD []", container, image, timeout_seconds=600)
    docker.output("rm", "--force", "--volumes", container)
