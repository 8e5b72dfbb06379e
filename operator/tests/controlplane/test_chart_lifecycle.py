"""The chart in a cluster by real Helm: install, upgrade over changed definitions, rollback, uninstall."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from dopd.api.crds import build
from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.cluster.errors import ClusterError

from .chart import CHART, EVERYTHING, as_list, helm, setting
from .resources import eventually, inference

CRD = "disaggregatedinferences.dopd.dev"
DEFINITIONS = "customresourcedefinitions"
NEW_FIELD = "scheduling"
WITHOUT_PROMETHEUS_OPERATOR = {
    **EVERYTHING,
    "podMonitor.enabled": "false",
    "serviceMonitor.enabled": "false",
    "alerts.enabled": "false",
    "recordingRules.enabled": "false",
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """A cluster of this file's own: the definitions that other files need are deleted here."""
    with control_plane(controllers=False) as running:
        yield running


@pytest.fixture
def release(cluster: ControlPlane) -> Iterator[Callable[..., str]]:
    """Runs a command of Helm in namespace `here`; nothing is left of what it made."""

    def run(*arguments: str | Path, namespace: str = "here", expect_failure: bool = False) -> str:
        done = helm(*arguments, f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}")
        assert (done.returncode != 0) == expect_failure, done.stdout + done.stderr
        return done.stderr if expect_failure else done.stdout

    cluster.kubectl("apply", "--filename=-", stdin=as_list([namespace_named("here"), namespace_named("there")]))
    yield run
    for found in json.loads(run("list", "--all-namespaces", "--output=json")):
        run("uninstall", found["name"], namespace=found["namespace"])
    cluster.kubectl("delete", DEFINITIONS, "--all", "--wait=false")
    eventually(lambda: gone(cluster), "the definitions are gone", seconds=90.0)


def gone(cluster: ControlPlane) -> bool:
    """Whether no definition is left. One whose storage was just made is not looked at again until it changes (1.36)."""
    left = cluster.kubectl("get", DEFINITIONS, "--output=name")
    if left:
        with suppress(ClusterError):  # gone meanwhile
            cluster.kubectl("label", DEFINITIONS, "--all", f"looked-at={time.monotonic_ns()}", "--overwrite")
        time.sleep(1)
    return not left


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """An earlier version of the chart, whose definition knows a field less."""
    folder = Path(shutil.copytree(CHART, tmp_path / "dopd"))
    rewrite(folder / "Chart.yaml", lambda chart: chart.update(version="0.0.1"))

    def forget(definition: dict[str, Any]) -> None:
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        del schema["properties"]["spec"]["properties"][NEW_FIELD]

    rewrite(folder / "files" / "crds" / "dopd.dev_disaggregatedinferences.yaml", forget)
    return folder


def namespace_named(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def knows_the_field(cluster: ControlPlane) -> bool:
    definition = json.loads(cluster.kubectl("get", "crd", CRD, "--output=json"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return NEW_FIELD in schema["properties"]["spec"]["properties"]


def established(cluster: ControlPlane) -> bool:
    """Whether the definition is served; kubectl wait fails on one without conditions, as it is at first."""
    conditions = json.loads(cluster.kubectl("get", "crd", CRD, "--output=json")).get("status", {}).get("conditions")
    return {"Established": "True"}.items() <= {c["type"]: c["status"] for c in conditions or []}.items()


def store(cluster: ControlPlane, name: str) -> dict[str, Any]:
    """Store a resource, and return its spec as stored."""
    eventually(lambda: established(cluster), "the definition is served")
    cluster.kubectl("create", "--namespace=here", "--filename=-", stdin=inference(name))
    return spec_of(cluster, name)


def spec_of(cluster: ControlPlane, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "pdi", name, "--namespace=here", "--output=json"))["spec"]
    return found


def test_it_installs_with_everything_on_upgrades_and_leaves_only_definitions(
    cluster: ControlPlane, release: Callable[..., str]
):
    release("install", "dopd", CHART, *setting(WITHOUT_PROMETHEUS_OPERATOR))
    values = {**WITHOUT_PROMETHEUS_OPERATOR, "replicas": "1", "watchNamespaces[0]": "there"}
    assert "kubectl get pdi" in release("upgrade", "dopd", CHART, *setting(values))
    kinds = "deployment,service,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,configmap"
    unbound = "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    of_chart = ("--all-namespaces", "--selector=helm.sh/chart", "--output=name")
    assert len(cluster.kubectl("get", kinds, *of_chart).split()) == 14
    release("uninstall", "dopd", "--wait")
    assert cluster.kubectl("get", f"{kinds},{unbound}", *of_chart) == ""
    assert cluster.kubectl("get", "crd", *of_chart[1:]).count("dopd.dev") == len(build())


def test_an_upgrade_brings_changed_definitions_and_a_rollback_takes_them_back(
    cluster: ControlPlane, release: Callable[..., str], earlier: Path
):
    release("install", "dopd", earlier)
    assert not knows_the_field(cluster)
    stored = store(cluster, "kept")
    release("upgrade", "dopd", CHART, "--reset-then-reuse-values")
    assert knows_the_field(cluster)
    assert spec_of(cluster, "kept") == stored
    release("rollback", "dopd", "1")
    assert not knows_the_field(cluster)
    assert spec_of(cluster, "kept") == stored
    release("upgrade", "dopd", CHART)
    assert knows_the_field(cluster)


def test_an_uninstall_leaves_resources_and_another_install_finds_them(
    cluster: ControlPlane, release: Callable[..., str]
):
    release("install", "dopd", CHART)
    stored = store(cluster, "kept")
    assert CRD in release("uninstall", "dopd")
    assert spec_of(cluster, "kept") == stored
    release("install", "dopd", CHART)
    assert spec_of(cluster, "kept") == stored


def test_definitions_go_with_the_release_where_that_is_wanted(cluster: ControlPlane, release: Callable[..., str]):
    release("install", "dopd", CHART, "--set=crds.keep=false")
    store(cluster, "gone")
    release("uninstall", "dopd")
    eventually(lambda: gone(cluster), "the definitions are gone", seconds=90.0)


@pytest.mark.parametrize("by", ["crds of an earlier chart", "kubectl"])
def test_definitions_that_were_there_before_are_taken_over(
    cluster: ControlPlane, release: Callable[..., str], earlier: Path, by: str
):
    (earlier / "files" / "crds").rename(earlier / "crds")
    if by == "kubectl":
        cluster.kubectl("apply", "--server-side", f"--filename={earlier / 'crds'}")
    else:
        release("install", "dopd", earlier)
    stored = store(cluster, "kept")
    refusal = release("upgrade", "--install", "dopd", CHART, expect_failure=True)
    assert "customresourcedefinition" in refusal.lower()
    release("upgrade", "--install", "dopd", CHART, "--take-ownership", "--force-conflicts")
    assert knows_the_field(cluster)
    assert spec_of(cluster, "kept") == stored


def test_two_releases_share_a_cluster(cluster: ControlPlane, release: Callable[..., str]):
    release("install", "dopd", CHART, *setting({"watchNamespaces[0]": "here"}))
    second = {"watchNamespaces[0]": "there", "crds.enabled": "false"}
    release("install", "dopd", CHART, *setting(second), namespace="there")
    release("uninstall", "dopd", namespace="there")
    cluster.kubectl("get", "deployment", "dopd", "--namespace=here")
    store(cluster, "kept")
    with pytest.raises(ClusterError, match="not found"):
        cluster.kubectl("get", "deployment", "dopd", "--namespace=there")
