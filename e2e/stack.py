"""What the demo and the end-to-end tests stand on: a kind cluster, the images, Prometheus, the operator from its chart.

Every step can be repeated: what is there and right is left alone.
"""

import json
import time
import urllib.parse
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config

from e2e.cluster import clusters, programs, state
from e2e.cluster.daemon import docker_session
from e2e.cluster.docker import Docker
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_all
from e2e.cluster.kind import AUDIT_LOG
from e2e.cluster.load import load
from e2e.cluster.paths import REPOSITORY, clusters_dir
from e2e.cluster.ports import LOOPBACK
from e2e.cluster.state import State
from e2e.cluster.steps import output, say

Json = dict[str, Any]
Found = TypeVar("Found")

MANIFESTS = REPOSITORY / "e2e" / "manifests"
CHART = REPOSITORY / "charts" / "dopd"
OPERATOR_IMAGE = "dopd.dev/operator:dev"
OPERATOR_NAMESPACE = "dopd-system"
RECORD_FOLDER = "/tmp"
"""In the operator's pod: the one folder that it may write to."""
PROMETHEUS_NAMESPACE = "monitoring"
INFERENCE_PATH = "/apis/dopd.dev/v1alpha1/namespaces/default/disaggregatedinferences"
PODS_PATH = "/api/v1/namespaces/default/pods"
OPERATOR_PODS_PATH = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods"
OPERATOR_DEPLOYMENT_PATH = f"/apis/apps/v1/namespaces/{OPERATOR_NAMESPACE}/deployments/dopd"


class Stack:
    """A cluster with everything on it that dopd needs.

    Attributes:
        cluster: what the harness knows of the cluster.
        programs: folder with kubectl.
    """

    def __init__(self, cluster: State) -> None:
        self.cluster = cluster
        self.programs: Path = programs.kubectl().parent
        settings = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
        self._api = client.ApiClient(settings)

    @property
    def gateway_url(self) -> str:
        """Where the node port of gateways is reached from this machine."""
        return f"http://{LOOPBACK}:{self.cluster.ports['gateway']}"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus is reached from this machine."""
        return f"http://{LOOPBACK}:{self.cluster.ports['prometheus']}"

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 120.0) -> str:
        """Run kubectl as administrator and return what it prints.

        Raises:
            ClusterError: it failed; holds what it said.
        """
        command: list[str | Path] = [self.programs / "kubectl", "--kubeconfig", self.cluster.kubeconfig, *arguments]
        return output(command, stdin=stdin, timeout_seconds=timeout_seconds)

    def apply(self, *manifests: Json) -> None:
        """Apply manifests as a user does."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def read(self, path: str, **query: str) -> Json | None:
        """GET a path of the API server, without the start of a program; None when there is nothing."""
        url = f"{self._api.configuration.host}{path}?{urllib.parse.urlencode(query)}"
        try:
            answer = self._api.rest_client.request("GET", url, headers={"Accept": "application/json"})
            answer.read()
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise ClusterError(f"GET {path}: {error.status} {error.reason}") from error
        found: Json | None = json.loads(answer.data) if answer.status == 200 else None
        return found

    def items(self, path: str, **query: str) -> list[Json]:
        """The items of a list."""
        return list((self.read(path, **query) or {}).get("items", []))

    def inference(self, name: str) -> Json | None:
        """A DisaggregatedInference of the default namespace."""
        return self.read(f"{INFERENCE_PATH}/{name}")

    def pods(self, name: str, pool: str | None = None) -> list[Json]:
        """The pods of a DisaggregatedInference, or of one of its pools."""
        selector = f"dopd.dev/instance={name}" + (f",dopd.dev/pool={pool}" if pool else "")
        return self.items(PODS_PATH, labelSelector=selector)

    def engine_load(self, pod: str) -> Json | None:
        """What an engine reports of its load, by rank in `loads`; None when there is no such pod.

        Raises:
            ClusterError: it does not answer.
        """
        return self.read(f"{PODS_PATH}/{pod}:30000/proxy/v1/loads")

    def evict(self, pod: str) -> None:
        """Evict a pod of the default namespace by the API.

        Raises:
            ClusterError: it was refused, by a disruption budget for instance.
        """
        meta = {"name": pod, "namespace": "default"}
        eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta})
        self.kubectl("create", "--raw", f"{PODS_PATH}/{pod}/eviction", "-f", "-", stdin=eviction)

    def audit_log(self, docker: Docker) -> list[Json]:
        """The events of the API server's audit log, oldest first."""
        lines = docker.execute(self.cluster.control_plane, "cat", AUDIT_LOG).splitlines()
        return [json.loads(line) for line in lines]

    def install_prometheus(self) -> None:
        """Run Prometheus and wait until it serves."""
        self.kubectl("apply", "-k", str(MANIFESTS / "prometheus"))
        self.kubectl("-n", PROMETHEUS_NAMESPACE, "rollout", "status", "deployment/prometheus", "--timeout=90s")

    def install_operator(self, image: str, chart: Path = CHART) -> None:
        """Install the operator from its chart, or bring it up to date, and wait until it is ready.

        Args:
            image: its image, under a tag that no other content has.
            chart: folder of the chart.
        """
        repository, _, tag = image.rpartition(":")
        options = f"--set-string=image.repository={repository},image.tag={tag},image.pullPolicy=Never"
        self._upgrade(chart, options, "--set=replicas=1")

    def change_operator(self, **values: int) -> None:
        """Change values of the operator's chart, and wait until it is ready."""
        self._upgrade(CHART, "--reuse-values", *(f"--set={name}={value}" for name, value in values.items()))

    def roll_operator_back(self) -> None:
        """Go back to what was installed before, chart and image, and wait until it is ready."""
        self._helm("rollback", "dopd")

    def operator_image(self) -> str:
        """The image that is installed."""
        pod = (self.read(OPERATOR_DEPLOYMENT_PATH) or {})["spec"]["template"]["spec"]
        return str(pod["containers"][0]["image"])

    def record_decisions(self) -> None:
        """Let the operator write down what its autoscalers are told and decide, from a restart on."""
        variable = f"DOPD_RECORD_FOLDER={RECORD_FOLDER}"
        self.kubectl("-n", OPERATOR_NAMESPACE, "set", "env", "deployment/dopd", variable)
        self.kubectl("-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/dopd", "--timeout=90s")

    def recording(self, name: str) -> str:
        """What was written down of a DisaggregatedInference of the default namespace, as JSON lines.

        Raises:
            ClusterError: nothing was.
        """
        file = f"{RECORD_FOLDER}/default.{name}.jsonl"
        text = self.kubectl("-n", OPERATOR_NAMESPACE, "exec", "deployment/dopd", "--", "cat", file)
        return text[: text.rfind("\n") + 1]  # the last line may be half written

    def uninstall_operator(self) -> None:
        """Take the operator away, and wait until it is gone."""
        self._helm("uninstall", "dopd")

    def _upgrade(self, chart: Path, *options: str) -> None:
        self._helm(
            "upgrade",
            "--install",
            "dopd",
            chart,
            "--create-namespace",
            "--take-ownership",  # of CustomResourceDefinitions that an earlier chart left beside the release,
            "--force-conflicts",  # and that kubectl wrote
            *options,
        )

    def _helm(self, *command: str | Path) -> None:
        where = (f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={OPERATOR_NAMESPACE}")
        output([programs.helm(), *command, *where, "--wait", "--timeout=90s"], timeout_seconds=120.0)


def cluster_name(purpose: str) -> str:
    """Name of this checkout's cluster for a purpose: runs from two checkouts side by side never meet."""
    return f"{purpose}-{zlib.crc32(str(REPOSITORY).encode()):08x}"


def up(name: str) -> Stack:
    """Bring everything up, but for a DisaggregatedInference.

    Raises:
        ClusterError: something cannot be brought up; names the cause and the cure.
    """
    cluster = clusters.up(name)
    with docker_session(cluster.docker_host) as docker:
        images = build_all(docker)
        load(docker, cluster, images)
    stack = Stack(cluster)
    say("installing Prometheus")
    stack.install_prometheus()
    say("installing the operator from charts/dopd")
    stack.install_operator(images[OPERATOR_IMAGE])
    return stack


def down(name: str) -> None:
    """Remove the cluster with everything on it."""
    clusters.down(name)


def find(name: str) -> Stack:
    """A stack that is up already.

    Raises:
        ClusterError: there is no cluster of this name.
    """
    known = state.load(name)
    if known is None or not known.ready:
        raise ClusterError(f"no cluster {name}: bring it up with `python -m e2e.cluster up --name {name}`")
    return Stack(known)


def wait_for(look: Callable[[], Found], what: str, *, timeout_seconds: float, every_seconds: float = 0.5) -> Found:
    """Look again and again until something true is found, and return it.

    Raises:
        TimeoutError: it did not come in time; says what was awaited and what was seen last.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_seconds:.0f} s: {what} (last seen: {found!r})")
        time.sleep(every_seconds)


def condition(resource: Json | None, kind: str) -> Json:
    """A condition of a resource; empty when it has none of that type."""
    found = (resource or {}).get("status", {}).get("conditions", [])
    return next((item for item in found if item["type"] == kind), {})


def collect(stack: Stack, occasion: str) -> Path:
    """Write what helps to understand a failure to a folder that outlives the cluster, and return the folder."""
    name = f"{stack.cluster.name}-{occasion}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder = clusters_dir().parent / "failures" / name
    folder.mkdir(parents=True, exist_ok=True)
    looks = {
        "resources.yaml": ("get", "pdi,engineprofile", "-A", "-o", "yaml"),
        "objects.txt": ("get", "all,pdb,lease", "-A", "-o", "wide"),
        "describe.txt": ("describe", "pdi,deploy,pods", "-n", "default"),
        "events.txt": ("get", "events", "-A", "--sort-by=.lastTimestamp"),
        "operator.log": ("logs", "-n", OPERATOR_NAMESPACE, "deployment/dopd", "--tail=-1", "--all-pods", "--prefix"),
        "pods.log": ("logs", "-l", "dopd.dev/instance", "--all-containers", "--prefix", "--tail=300"),
    }
    for file, command in looks.items():
        try:
            text = stack.kubectl(*command)
        except ClusterError as error:
            text = str(error)
        (folder / file).write_text(text)
    return folder
