"""`dopd doctor` against a real API server: it finds what is wrong, and finds nothing where all is well."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cli import installation
from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .admission import PROFILE, changed
from .chart import grant
from .operator_process import OperatorProcess
from .resources import eventually, get, inference
from .test_chart_rights import MAY


def doctor(kubeconfig: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    """Its exit status, and the lines by subject and check."""
    command = (sys.executable, "-m", "dopd.cli", "doctor", *arguments)
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return done.returncode, {_subject(line): line for line in lines} | {"errors": done.stderr}


def _subject(line: str) -> str:
    return ": ".join(line[5:].split(": ")[:2])


def scaling(name: str, url: str, profile: str) -> str:
    """A resource that scales."""
    manifest: dict[str, Any] = json.loads(inference(name))
    bounds = {"min": 1, "max": 2}
    for role in ("prefill", "decode"):
        del manifest["spec"][role]["replicas"]
    manifest["spec"] |= {
        "scaling": {"prefill": bounds, "decode": bounds, "profileRef": {"name": profile}},
        "telemetry": {"prometheusURL": url},
    }
    return json.dumps(manifest)


def test_what_it_asks_for_is_what_the_operator_needs():
    assert {(r.verb, r.group, f"{r.resource}/{r.subresource}".strip("/")) for r in installation.RIGHTS} == {
        right for right in MAY if right[2] != kinds.LEASE.plural
    }


def test_an_operator_that_can_do_its_work(
    plane: ControlPlane,
    api: httpx.Client,
    crds: None,
    namespace: str,
    tmp_path: Path,
):
    grant(plane, namespace, **{"watchNamespaces[0]": namespace})
    kubeconfig = plane.service_account_kubeconfig(namespace, "dopd")
    here = ("--namespace", namespace)
    operator = OperatorProcess(kubeconfig, tmp_path / "log", *here, lease_namespace=namespace)
    plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=inference("m"))
    operator.start()
    try:
        eventually(lambda: bool(get(api, namespace, kinds.EVENT)), "an Event")
        flags = (*here, "--lease-namespace", namespace)
        status, lines = doctor(kubeconfig, *flags)
    finally:
        operator.kill()
    assert status == 0, lines
    assert lines["cluster: DisaggregatedInference"].startswith("OK ")
    assert lines["cluster: EngineProfile"].startswith("OK ")
    assert lines["operator: Lease"].startswith("OK ")
    assert lines["operator: rights"].startswith("OK   operator: rights: whoever asks here may do all")
    assert lines[f"{namespace}/m: load"].startswith("--   ")


def test_what_is_wrong_is_named(
    plane: ControlPlane,
    api: httpx.Client,
    crds: None,
    namespace: str,
):
    api.post(
        kinds.PROFILE.path(namespace), json=changed(PROFILE, {"metadata.name": "p", "spec.model": "demo"})
    ).raise_for_status()
    nowhere = "http://127.0.0.1:1"
    for manifest in (scaling("good", nowhere, "p"), scaling("bad", "http://127.0.0.1:2", "gone")):
        plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=manifest)
    pooled = json.loads(inference("pooled", gpuPool={"name": "gone"}))
    plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=json.dumps(pooled))
    user = plane.kubeconfig_for("bob")
    reader = ("--clusterrole=view", "--user=bob", f"--namespace={namespace}")
    plane.kubectl("create", "rolebinding", "reader", *reader)
    flags = ("--namespace", namespace, "--lease-namespace", namespace)

    status, lines = doctor(plane.kubeconfig, *flags)
    assert status == 1
    assert lines[f"{namespace}/good: profile"].startswith("OK ")
    assert "has none of that name" in lines[f"{namespace}/bad: profile"]
    assert "no Lease dopd that can be read" in lines["operator: Lease"]
    assert "refused" in lines[f"{nowhere}: connection"]
    assert f"there is none of that name; named by {namespace}/pooled" in lines["GpuPool gone: pool"]
    assert "refused" in lines["http://127.0.0.1:2: connection"]

    status, lines = doctor(user, "--quiet", *flags)
    assert status == 1
    assert "bob" not in lines["operator: rights"]
    assert "may not" in lines["operator: rights"]
    assert "403 Forbidden" in lines[f"{namespace}: resources"]


class Server:
    """The API server, read by plain HTTP."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api

    async def request(self, method: str, path: str) -> Any:
        return self.api.request(method, path).raise_for_status().json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("bandwidth", {"type": "integer"}), "spec.bandwidth is not in the served schema"),
        (("gpu", {"type": "integer"}), "spec.gpu has other rules in the served schema"),
        (("gpu", None), "spec.gpu is in the served schema and not in this version"),
    ],
)
async def test_definitions_of_another_version(
    api: httpx.Client, crds: None, monkeypatch: pytest.MonkeyPatch, change: tuple[str, Any], words: str
):
    name, schema = change
    definition = installation.build()["dopd.dev_engineprofiles.yaml"]
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    if schema:
        spec["properties"][name] = schema
    else:
        del spec["properties"][name]
    monkeypatch.setattr(installation, "build", lambda: {"profiles": definition})
    (check,) = [check async for check in installation.check_definitions(Server(api))]
    assert check.failed
    assert check.found == words
    assert "kubectl apply --server-side" in check.fix


def test_no_cluster(tmp_path: Path):
    status, lines = doctor(tmp_path / "none")
    assert status == 1
    assert "set KUBECONFIG" in lines["errors"]
