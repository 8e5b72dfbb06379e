"""config/: kustomize bases and samples are accepted, and Flux's expressions say what Argo CD's health check says."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import dopd
from charts import manifests
from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from ..gitops.lua import health
from ..gitops.test_health import STATUSES, recorded
from .cluster import MERGE
from .resources import eventually

CONFIG = Path(__file__).parents[3] / "config"
HEALTH_OF = {"failed": "Degraded", "inProgress": "Progressing", "current": "Healthy"}


def built(plane: ControlPlane, folder: str) -> list[dict[str, Any]]:
    return [manifest for manifest in yaml.safe_load_all(plane.kubectl("kustomize", str(CONFIG / folder))) if manifest]


def test_the_operator_is_that_of_the_chart():
    assert manifests.OPERATOR.read_text() == manifests.operator(), "run `make chart`"


def test_the_default_is_accepted(plane: ControlPlane):
    for manifest in built(plane, "default"):
        meta = manifest["metadata"]
        assert "helm" not in json.dumps(meta).lower()
        if manifest["kind"] == "Namespace":
            plane.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
        options = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--filename=-")
        plane.kubectl("apply", *options, stdin=json.dumps(manifest))
    plane.kubectl("delete", "namespace", manifests.NAMESPACE, "--wait=false")


def test_the_kustomization_of_the_docs_does_what_it_says(plane: ControlPlane, tmp_path: Path):
    page = (CONFIG.parent / "docs" / "gitops.md").read_text()
    (example,) = re.findall(r"```yaml\n(resources:.*?)```", page, re.S)
    changed = yaml.safe_load(example)
    assert changed["resources"] == [f"https://git.example.com/platform/dopd//config/default?ref=v{dopd.__version__}"]
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({**changed, "resources": [beside(tmp_path, "default")]})
    )
    made = yaml.safe_load_all(plane.kubectl("kustomize", str(tmp_path)))
    (deployment,) = [manifest for manifest in made if manifest["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example.com/dopd/operator:{dopd.__version__}"
    environment = [variable["name"] for variable in container["env"]]
    assert environment.count("DOPD_PROMETHEUS_URL") == 1
    plane.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        "--namespace=default",
        "--filename=-",
        stdin=json.dumps({**deployment, "metadata": {"name": "dopd"}}),
    )


def beside(folder: Path, name: str) -> str:
    """A folder of config/ as seen from another folder: kustomize takes no absolute path."""
    return "../" * len(folder.parts[1:]) + str(CONFIG / name).lstrip("/")


@pytest.mark.parametrize("sample", sorted(path.name for path in (CONFIG / "samples").iterdir()))
def test_samples_are_accepted(plane: ControlPlane, crds: None, namespace: str, sample: str):
    plane.kubectl(
        *("apply", f"--kustomize={CONFIG / 'samples' / sample}", f"--namespace={namespace}"),
        *("--dry-run=server", "--validate=strict"),
    )


def test_the_health_checks_reach_the_settings_of_argo_cd(plane: ControlPlane, tmp_path: Path):
    """As a component of a kustomization that holds argocd-cm, as Argo CD's own manifests do."""
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    here = CONFIG / "argocd"
    kustomization = {"resources": ["argocd-cm.yaml"], "components": [beside(tmp_path, "argocd")]}
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump({**settings, "data": {"url": "https://argocd"}}))
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (found,) = yaml.safe_load_all(plane.kubectl("kustomize", str(tmp_path)))
    scripts = {"dopd.dev_DisaggregatedInference": "health.lua", "argoproj.io_Application": "application-health.lua"}
    assert found["data"] == {
        "url": "https://argocd",
        **{f"resource.customizations.health.{kind}": (here / file).read_text() for kind, file in scripts.items()},
    }


def test_profiles_are_synced_before_the_resources_that_name_them(plane: ControlPlane):
    waves = {
        manifest["kind"]: int(manifest["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])
        for manifest in built(plane, "samples/scaled")
    }
    assert waves["EngineProfile"] < waves["DisaggregatedInference"]


def flux_expressions() -> dict[str, str]:
    """Flux's expressions, for CEL as the API server has it: fields of the object are variables in Flux alone."""
    documents = yaml.safe_load_all((CONFIG / "flux" / "dopd.yaml").read_text())
    (models,) = [d for d in documents if d["kind"] == "Kustomization" and d["metadata"]["name"] == "models"]
    (checks,) = models["spec"]["healthCheckExprs"]
    return {
        name: re.sub(r"(?<![.\w])(status|metadata)\.", r"object.\1.", text)
        for name, text in checks.items()
        if name in HEALTH_OF
    }


def test_flux_judges_as_argo_cd_does(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str):
    """By the API server's CEL: a policy that answers what the expressions say to each recorded status."""
    parts = [f"'{name}=' + ({text} ? 'yes' : 'no')" for name, text in flux_expressions().items()]
    rule = {"apiGroups": ["dopd.dev"], "apiVersions": ["*"], "operations": ["UPDATE"]}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy: dict[str, Any] = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [{**rule, "resources": ["disaggregatedinferences/status"]}],
            "namespaceSelector": selector,
        },
        "validations": [{"expression": "false", "messageExpression": " + ' ' + ".join(parts)}],
    }
    group = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    binding = {"policyName": namespace, "validationActions": ["Deny"]}
    for kind, spec in (("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)):
        plane.kubectl("apply", "--filename=-", stdin=json.dumps({**group, "kind": kind, "spec": spec}))

    def judged(resource: dict[str, Any]) -> str:
        path = f"{kinds.INFERENCE.path(namespace, resource['metadata']['name'])}/status"
        answer = api.patch(path, params={"dryRun": "All"}, json={"status": resource["status"]}, headers=MERGE)
        return str(answer.json().get("message", ""))

    first = recorded("healthy-serving")
    name = first["metadata"]["name"]
    stored = {**first, "metadata": {"name": name}}
    api.post(kinds.INFERENCE.path(namespace), json=stored).raise_for_status()
    eventually(lambda: "current=" in judged(first), "the policy acts")
    for status in sorted(path.stem for path in STATUSES.iterdir()):
        resource = recorded(status)
        if "conditions" not in resource["status"]:
            continue  # Flux waits while an expression names a field that is not there
        generation = resource["metadata"]["generation"]
        resource["status"]["observedGeneration"] -= generation - 1  # the stored resource is of generation 1
        resource["metadata"]["generation"] = 1
        said = dict(part.split("=") for part in re.findall(r"\w+=(?:yes|no)", judged(resource)))
        verdict = "failed" if said["failed"] == "yes" else "current" if said["current"] == "yes" else "inProgress"
        if said["inProgress"] == "yes":
            verdict = "inProgress"
        expected = {"Suspended": "Healthy"}.get(health(resource)[0], health(resource)[0])
        assert HEALTH_OF[verdict] == expected, (status, said)
