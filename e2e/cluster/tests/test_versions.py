import re
import tomllib

import pytest

from e2e.cluster import lockfiles, versions
from e2e.cluster.paths import BUILD_FILES, REPOSITORY


@pytest.mark.parametrize(
    ("program", "module", "version"),
    [
        ("kube", "k8s.io/kubernetes", versions.KUBERNETES),
        ("coredns", "github.com/coredns/coredns", versions.COREDNS),
        ("argocd", "github.com/argoproj/argo-cd/v3", versions.ARGOCD),
        ("keda", "github.com/kedacore/keda/v2", versions.KEDA),
        ("kueue", "sigs.k8s.io/kueue", versions.KUEUE),
    ],
)
def test_go_modules_pin_what_we_say(program: str, module: str, version: str) -> None:
    required = re.findall(
        rf"^(?:require)?\s*{re.escape(module)} (\S+)(?: // indirect)?$",
        (BUILD_FILES / program / "go.mod").read_text(),
        re.M,
    )
    assert required == [version]


def test_staging_modules_are_of_the_same_kubernetes() -> None:
    replaced = re.findall(
        r"^\s*(k8s\.io/\S+) => k8s\.io/\S+ (\S+)$", (BUILD_FILES / "kube" / "go.mod").read_text(), re.M
    )
    assert len(replaced) > 20
    assert {version for _, version in replaced} == {versions.KUBERNETES.replace("v1.", "v0.", 1)}


@pytest.mark.parametrize("lock", [lockfiles.OPERATOR, lockfiles.SIMULATOR])
def test_an_image_ships_the_versions_that_are_tested(lock: object) -> None:
    def pins(path: object) -> set[str]:
        return set(re.findall(r"^([\w.-]+==[\w.]+)", (REPOSITORY / str(path)).read_text(), re.M))

    assert pins(lock) <= pins(lockfiles.DEVELOPMENT)


def test_the_gateway_lock_is_of_the_version_that_its_image_is_named_after() -> None:
    assert f"smg=={versions.GATEWAY} " in (REPOSITORY / lockfiles.GATEWAY).read_text()


def test_the_development_lock_covers_running_testing_and_building() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    wanted = {re.split(r"[<>=]", each)[0].lower() for each in lockfiles.development_requirements(project)}
    assert {"kubernetes", "pytest", "hatchling", "uvloop", "mypy"} <= wanted
