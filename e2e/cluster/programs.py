"""The programs of a cluster, built from their Go modules into the cache.

Package registries serve sources where no release download can be had, and Go verifies each of them against the module
checksums. All programs are static: they run on the host, in the node image and in a pod alike.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import versions
from e2e.cluster.cache import build_log, cached, digest, entry
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import BUILD_FILES
from e2e.cluster.steps import output, run

KUBE_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubeadm",
    "kubectl",
)

ARGOCD_PROGRAMS = ("argocd-application-controller", "argocd-repo-server", "redis")


KUBE_USUALLY = "7 to 12 min on two cores"


def kube() -> Path:
    """Return the folder with Kubernetes and etcd: the program `kube` and a link to it for each of `KUBE_PROGRAMS`."""
    link_flags = _kube_link_flags()

    def build(target: Path) -> None:
        _go_build("kube", versions.KUBERNETES, target, link_flags, KUBE_USUALLY)
        for name in KUBE_PROGRAMS:
            (target / name).symlink_to("kube")

    return cached("kube", versions.KUBERNETES, _key("kube", link_flags), build)


def _kube_link_flags() -> str:
    major, minor, _ = versions.KUBERNETES.removeprefix("v").split(".")
    version_package = "k8s.io/component-base/version"
    stamps = {"gitVersion": versions.KUBERNETES, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {version_package}.{name}={value}" for name, value in stamps.items())])


def argocd() -> Path:
    """Return the folder with Argo CD: a link for each of `ARGOCD_PROGRAMS`, and in `crds` its definitions."""

    def build(target: Path) -> None:
        _go_build("argocd", versions.ARGOCD, target, "-s -w", "15 min on two cores")
        for name in ARGOCD_PROGRAMS:
            (target / name).symlink_to("argocd")
        _copy_crds(_sources("argocd", "github.com/argoproj/argo-cd/v3") / "manifests" / "crds", "*-crd.yaml", target)

    return cached("argocd", versions.ARGOCD, _key("argocd"), build)


def keda() -> Path:
    """Return the folder with KEDA: `operator`, `adapter`, and in `crds` its definitions."""

    def build(target: Path) -> None:
        _go_build("keda", versions.KEDA, target, "-s -w", "25 min on two cores", tools=True)
        _copy_crds(_sources("keda", "github.com/kedacore/keda/v2") / "config" / "crd" / "bases", "*.yaml", target)

    return cached("keda", versions.KEDA, _key("keda"), build)


def kueue() -> Path:
    """Return the folder with Kueue: its manager `kueue`, and `manifests.yaml` as its releases have them."""

    def build(target: Path) -> None:
        _go_build("kueue", versions.KUEUE, target, "-s -w", "10 min on two cores", tools=True)
        manifests = _sources("kueue", "sigs.k8s.io/kueue") / "config" / "default"
        (target / "manifests.yaml").write_text(output([kubectl(), "kustomize", manifests]))

    return cached("kueue", versions.KUEUE, _key("kueue"), build)


def _sources(name: str, module: str) -> Path:
    """Folder of a module that a program is built from."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    where = subprocess.run(
        command, cwd=BUILD_FILES / name, env=_go_environment(), capture_output=True, text=True, check=True
    )
    return Path(where.stdout.strip())


def _copy_crds(source: Path, pattern: str, target: Path) -> None:
    (target / "crds").mkdir()
    for path in source.glob(pattern):
        shutil.copyfile(path, target / "crds" / path.name)


def coredns() -> Path:
    """Return the folder with `coredns`."""

    def build(target: Path) -> None:
        _go_build("coredns", versions.COREDNS, target, "-s -w", "1 min")

    return cached("coredns", versions.COREDNS, _key("coredns"), build)


def kwok() -> Path:
    """Return the folder with `kwok`, which plays nodes and what happens to pods on them."""
    return _go_install("kwok", versions.KWOK, ["sigs.k8s.io/kwok/cmd/kwok"], "3 min")


def pause() -> Path:
    """Return the folder with `pause`, the process of a pod's sandbox."""

    def build(target: Path) -> None:
        _go_build("pause", "1", target, "-s -w", "")

    return cached("pause", "1", _key("pause"), build)


def containerd() -> Path:
    """Return the folder with `containerd`, `containerd-shim-runc-v2` and `ctr`.

    It is for the node image only: on a Docker daemon's PATH it would take the place of the daemon's own.
    """
    names = ("containerd", "containerd-shim-runc-v2", "ctr")
    packages = [f"github.com/containerd/containerd/v2/cmd/{name}" for name in names]
    return _go_install("containerd", versions.CONTAINERD, packages, "2 min")


@dataclass(frozen=True)
class Installable:
    """A program that is taken from the PATH in a range of versions, else made.

    Attributes:
        name: of the program.
        version: that is made.
        within: the oldest minor version that will do, and the first that will not.
        asked: arguments that make it tell its version.
        usually: how long making it takes.
        made: the folder of the cache that has it once it is made.
        make: makes it; returns that folder.
    """

    name: str
    version: str
    within: tuple[tuple[int, int], tuple[int, int]]
    asked: tuple[str, ...]
    usually: str
    made: Path
    make: Callable[[], Path]

    def installed(self) -> tuple[Path, str] | None:
        """Path and version of the one on the PATH, where that will do."""
        path = shutil.which(self.name)
        if not path:
            return None
        answer = subprocess.run([path, *self.asked], capture_output=True, text=True, check=False)
        found = re.search(r"v?((\d+)\.(\d+)\.\d+\S*)", answer.stdout)
        if answer.returncode or not found:
            return None
        oldest, below = self.within
        return (Path(path), found[1]) if oldest <= (int(found[2]), int(found[3])) < below else None

    def path(self) -> Path:
        """The program, made if need be."""
        found = self.installed()
        return found[0] if found else self.make() / self.name


def kind() -> Path:
    """Return the program kind."""
    return installable()["kind"].path()


def helm() -> Path:
    """Return the program helm."""
    return installable()["helm"].path()


def kubectl() -> Path:
    """Return the program kubectl."""
    return installable()["kubectl"].path()


def installable() -> dict[str, Installable]:
    """The programs that an installed one may stand in for, by name."""
    return {
        "kind": _module(
            "kind", versions.KIND, versions.KIND_RANGE, ("version", "--quiet"), "sigs.k8s.io/kind", "1 min"
        ),
        "kubectl": Installable(
            "kubectl",
            versions.KUBERNETES,
            versions.KUBECTL_RANGE,
            ("version", "--client"),
            KUBE_USUALLY,
            entry("kube", versions.KUBERNETES, _key("kube", _kube_link_flags())),
            kube,
        ),
        "helm": _module(
            "helm",
            versions.HELM,
            versions.HELM_RANGE,
            ("version", "--template={{.Version}}"),
            "helm.sh/helm/v4/cmd/helm",
            "4 min",
        ),
    }


def _module(
    name: str,
    version: str,
    within: tuple[tuple[int, int], tuple[int, int]],
    asked: tuple[str, ...],
    package: str,
    usually: str,
) -> Installable:
    made = entry(name, version, _module_key([package]))
    return Installable(
        name, version, within, asked, usually, made, lambda: _go_install(name, version, [package], usually)
    )


def _key(name: str, flags: str = "") -> str:
    return digest(BUILD_FILES / name, flags, platform.system(), platform.machine())


def _go_build(name: str, version: str, target: Path, link_flags: str, usually: str, *, tools: bool = False) -> None:
    """Build the program of a folder of ours or, with `tools`, those that its go.mod names."""
    command: list[str | Path] = [
        "go",
        "build",
        "-trimpath",
        "-mod=readonly",
        "-ldflags",
        link_flags,
        "-o",
        *([f"{target}/", "tool"] if tools else [target / name, "."]),
    ]
    run(
        command,
        what=f"building {name} {version} from its Go modules",
        usually=usually,
        log=build_log(name),
        cwd=BUILD_FILES / name,
        env=_go_environment(),
    )


def _go_install(name: str, version: str, packages: list[str], usually: str) -> Path:
    def build(target: Path) -> None:
        run(
            ["go", "install", "-trimpath", "-ldflags", "-s -w", *(f"{package}@{version}" for package in packages)],
            what=f"building {name} {version} from its Go module",
            usually=usually,
            log=build_log(name),
            env=_go_environment() | {"GOBIN": str(target)},
        )

    return cached(name, version, _module_key(packages), build)


def _module_key(packages: list[str]) -> str:
    return digest(*packages, platform.system(), platform.machine())


def _go_environment() -> dict[str, str]:
    if not shutil.which("go"):
        raise ClusterError("go is not on PATH: install Go 1.26 or newer, the harness builds its programs with it")
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
