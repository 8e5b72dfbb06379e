"""The commands against a real API server and a real Prometheus: a resource that an operator scales, and what they say.

The operator runs in this process, a pass at a time; nodes, gateways and engines are played (`cluster`).
"""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes.aio import client, config

from dopd.cli.main import main
from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.replay.profiles import load_profile
from e2e.cluster.controlplane import ControlPlane

from ..telemetry.real_prometheus import serving
from ..telemetry.world import METRICS
from .cluster import Cluster

pytestmark = pytest.mark.timeout(180)
GPUS = 8
PROFILE = "llama-3.1-8b-h100"
HOURS = 2.0
LENGTHS = {"sglang:prompt_tokens_histogram_sum": 2000.0, "sglang:uncached_prompt_tokens_histogram_sum": 2000.0}


def requests_until(at_seconds: float) -> float:
    """Requests since the begin of a load of 20 a second that grows to 50 in its last half hour."""
    begin, grows = -HOURS * 3600, -1800.0
    steady = 20.0 * (min(at_seconds, grows) - begin)
    grown = max(0.0, at_seconds - grows)
    return steady + 20.0 * grown + 30.0 * grown**2 / (2 * 1800.0)


def samples(namespace: str, now_seconds: float) -> Iterator[Any]:
    """What gateway and engines of resource llama would have told."""
    times = [-15.0 * k for k in range(int(HOURS * 240))][::-1]
    for pool, metrics in METRICS.items():
        carried = {
            "namespace": namespace,
            "pod": f"llama-{pool}-abc",
            "instance": f"{pool}:1",
            "dopd_dev_instance": "llama",
            "dopd_dev_pool": pool,
        }
        yield "up", carried, [(now_seconds + at, 1.0) for at in times]
        for (metric, bound), share in metrics.items():
            share = LENGTHS.get(metric, share)
            labels = carried | ({"le": bound} if bound else {})
            yield metric, labels, [(now_seconds + at, share * requests_until(at)) for at in times]


def manifest(url: str, **scaling: Any) -> dict[str, Any]:
    return {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "DisaggregatedInference",
        "metadata": {"name": "llama"},
        "spec": {
            "model": "meta-llama/Meta-Llama-3.1-8B",
            "engine": {"image": "never.pulled/sglang:v0.5.23"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "never.pulled/smg:1.13.0", "replicas": 1},
            "slo": {"ttftSeconds": 1.5, "itlSeconds": 0.05, "attainment": 0.99},
            "scaling": {
                "prefill": {"min": 1, "max": 6},
                "decode": {"min": 1, "max": 6},
                "gpuBudget": {"max": GPUS},
                "profileRef": {"name": PROFILE},
                **scaling,
            },
            "telemetry": {"prometheusURL": url},
        },
    }


@dataclass
class Scaled:
    """A resource that was scaled, and the commands that look at it.

    Attributes:
        plane: of its cluster.
        namespace: of it.
        folder: for files.
        url: of its Prometheus.
    """

    plane: ControlPlane
    namespace: str
    folder: Path
    url: str

    def dopd(self, *arguments: str, kubeconfig: Path | None = None) -> tuple[int, str, str]:
        """Exit status, output and complaints of a command, run in this process: an interpreter takes a second."""
        said, complaints = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complaints):
            code = main([*arguments, "--kubeconfig", str(kubeconfig or self.plane.kubeconfig)])
        return code, said.getvalue(), complaints.getvalue()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("prometheus", tmp_path_factory.mktemp("prometheus"), samples("shop", time.time())) as url:
        yield url


@pytest.fixture(scope="module")
def scaled(
    plane: ControlPlane, api: httpx.Client, crds: None, prometheus: str, tmp_path_factory: pytest.TempPathFactory
) -> Scaled:
    namespace, folder = "shop", tmp_path_factory.mktemp("cli")
    plane.kubectl("create", "namespace", namespace)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={namespace}", "--timeout=20s")
    profile = load_profile(PROFILE).model_dump(mode="json", by_alias=True, exclude_none=True)
    meta = {"apiVersion": "dopd.dev/v1alpha1", "kind": "EngineProfile", "metadata": {"name": PROFILE}}
    api.post(kinds.PROFILE.path(namespace), json={**meta, "spec": profile}).raise_for_status()
    api.post(kinds.INFERENCE.path(namespace), json=manifest(prometheus)).raise_for_status()
    asyncio.run(operate(plane, api, namespace))
    return Scaled(plane, namespace, folder, prometheus)


def status_of(api: httpx.Client, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(kinds.INFERENCE.path(namespace, "llama")).json()
    return found.get("status", {})


async def operate(plane: ControlPlane, api: httpx.Client, namespace: str) -> None:
    """Passes of an operator until the resource has all workers that its load needs."""
    configuration = client.Configuration()
    await config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    kubernetes, cluster = Kubernetes(client.ApiClient(configuration)), Cluster(api, namespace, 2 * GPUS)
    reconciler = Reconciler(kubernetes, cluster)  # type: ignore[arg-type]
    for _ in range(60):
        await reconciler.reconcile(Key(namespace, "llama"))
        cluster.turn()
        status = status_of(api, namespace)
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        if (
            ready
            and "plan" in status
            and all(status[r]["ready"] == status[r]["desired"] for r in ("prefill", "decode"))
        ):
            break
        await asyncio.sleep(0.2)
    else:
        pytest.fail(json.dumps(status, indent=1))
    await reconciler.reconcile(Key(namespace, "llama"))
    cluster.close()
    await kubernetes.close()


def test_status_of_one(scaled: Scaled):
    code, said, complaints = scaled.dopd("status", "llama", "-n", "shop")
    assert (code, complaints) == (0, "")
    assert "shop/llama   Auto   Ready" in said
    assert "DECIDED BY" in said
    assert "On time:" in said
    assert "expected on" in said
    assert "DemandRose" in said
    assert "\x1b" not in said, "colours are off when piped"


def test_status_of_all_in_every_form(scaled: Scaled):
    code, said, _ = scaled.dopd("status", "-n", "shop", "-o", "wide")
    assert code == 0
    assert said.splitlines()[0].split()[:4] == ["NAME", "PREFILL", "DECODE", "GPUS"]
    (as_json,) = json.loads(scaled.dopd("status", "-n", "shop", "-o", "json")[1])
    assert as_json in yaml.safe_load(scaled.dopd("status", "-A", "-o", "yaml")[1])
    assert as_json["plan"]["target"] == f"{as_json['prefill']['desired']}+{as_json['decode']['desired']}"


def test_kubectl_shows_gpus_attainment_and_the_last_decision(scaled: Scaled):
    heads, row = scaled.plane.kubectl("get", "pdi", "llama", "--namespace=shop", "-o", "wide").splitlines()
    for head in ("GPUS", "ON TIME", "LAST DECISION", "DECIDED"):
        assert head in heads
    assert "%/99%" in row
    assert "DemandRose" in row


def test_events_name_the_load_that_decided(scaled: Scaled):
    told = scaled.plane.kubectl("get", "events.events.k8s.io", "--namespace=shop", "-o", "json")
    notes = [event["note"] for event in json.loads(told)["items"] if event["reason"] == "DemandRose"]
    assert notes
    assert any("by what arrives now" in note or "by the load as it moves" in note for note in notes)
    assert all("of requests on time" in note for note in notes)


def test_explain(scaled: Scaled):
    code, said, complaints = scaled.dopd("explain", "llama", "-n", "shop")
    assert (code, complaints) == (0, "")
    for words in (
        "what arrives now",
        "a = λ·S = ",
        "D = s·ITL(b)/b = ",
        "the target",
        "one less",
        "misses the objective",
    ):
        assert words in said
    assert "worked out here" not in said, "the formulas give what the operator decided"
    told = json.loads(scaled.dopd("explain", "llama", "-n", "shop", "-o", "json")[1])
    target, *less = told["pairs"]
    assert target["attainment"] >= 0.99
    assert {pair["gpus"] for pair in less} == {target["gpus"] - 1}


def test_plan_what_if(scaled: Scaled):
    code, said, _ = scaled.dopd("plan", "llama", "-n", "shop", "--load-scale", "2", "--gpu-budget", "4")
    assert code == 1, "it misses the objective"
    assert "spec.scaling.gpuBudget.max 4" in said
    told = json.loads(scaled.dopd("plan", "llama", "-n", "shop", "--slo-ttft", "3", "-o", "json")[1])
    assert told["what if"]["needed"]["prefill"] <= told["now"]["needed"]["prefill"]


def test_plan_of_a_changed_spec(scaled: Scaled):
    changed, file = manifest(scaled.url, profileRef={"name": "gone"}), scaled.folder / "planned.yaml"
    file.write_text(yaml.safe_dump(manifest(scaled.url, prefill={"min": 4, "max": 6})))
    code, said, complaints = scaled.dopd("plan", "llama", "-n", "shop", "--spec", str(file))
    assert code == 0, complaints
    assert "spec.scaling.prefill.min 4" in said
    file.write_text(yaml.safe_dump(changed))
    code, _, complaints = scaled.dopd("plan", "llama", "-n", "shop", "--spec", str(file))
    assert code == 1
    assert "spec.scaling.profileRef names EngineProfile gone, and namespace shop has none of that name" in complaints


def test_profiles_of_the_cluster(scaled: Scaled):
    code, said, _ = scaled.dopd("profile", "list", "-n", "shop")
    assert code == 0
    assert [line.split()[:2] for line in said.splitlines()].count(["shop", PROFILE]) == 1
    assert scaled.dopd("profile", "show", PROFILE, "-n", "shop")[0] == 0
    code, said, _ = scaled.dopd("profile", "check", PROFILE, "--resource", "llama", "-n", "shop")
    assert code == 0, said
    assert "shop/llama: workers: are those of the profile" in said


def test_replay_of_its_own_history(scaled: Scaled):
    changed = manifest(scaled.url, gpuBudget={"max": 4})
    (scaled.folder / "changed.yaml").write_text(yaml.safe_dump(changed))
    report = scaled.folder / "report.md"
    arguments = ("replay", "--from", "llama", "-n", "shop", "--since", "10m", "--report", str(report))
    code, said, complaints = scaled.dopd(*arguments, "--spec", str(scaled.folder / "changed.yaml"))
    assert code == 1, complaints
    assert said.rstrip() == report.read_text().rstrip()
    assert "| requests on time |" in said
    assert "- `spec.scaling.gpuBudget.max`: `8` to `4`" in said
    assert "loses the objective" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("status", "lama", "-n", "shop"),
            "RESOURCE lama: namespace shop has no DisaggregatedInference of that name; did",
        ),
        (
            ("status", "llama", "-n", "shpo"),
            "namespace shpo has no DisaggregatedInference of that name, nor any other; there",
        ),
        (("explain", "llama", "--context", "prod"), "no cluster"),
        (("profile", "show", "gone", "-n", "shop"), "namespace shop has no EngineProfile of that name"),
    ],
)
def test_what_is_not_there(scaled: Scaled, arguments: tuple[str, ...], words: str):
    code, said, complaints = scaled.dopd(*arguments)
    assert (code, said) == (1, "")
    assert words in complaints
    assert len(complaints.splitlines()) == 1


def test_a_person_without_rights_is_told_which(scaled: Scaled):
    bob = scaled.plane.kubeconfig_for("bob-of-shop")
    code, _, complaints = scaled.dopd("status", "-n", "shop", kubeconfig=bob)
    assert code == 1
    assert "cannot list resource" in complaints
    assert "ask for the right, or name another namespace (-n)" in complaints
