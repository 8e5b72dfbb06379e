"""The chart as Helm renders it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import programs
from e2e.cluster.controlplane import ControlPlane

CHART = Path(__file__).parents[3] / "charts" / "dopd"

EVERYTHING = {
    "podMonitor.enabled": "true",
    "podMonitor.labels.release": "prometheus",
    "dashboard.enabled": "true",
    "alerts.enabled": "true",
    "alerts.labels.release": "prometheus",
    "recordingRules.enabled": "true",
    "recordingRules.labels.release": "prometheus",
    "dashboard.annotations.grafana_folder": "Inference",
    "serviceMonitor.enabled": "true",
    "serviceMonitor.labels.release": "prometheus",
    "networkPolicy.enabled": "true",
    "counterfactual.enabled": "true",
    "commonLabels.team": "ml",
    "crds.annotations.note": "x",
    "image.digest": f"sha256:{'0' * 64}",
    "extraArgs[0]": "--verbose",
    "extraEnv[0].name": "HTTPS_PROXY",
    "extraEnv[0].value": "http://proxy:3128",
    "extraVolumes[0].name": "company",
    "extraVolumes[0].configMap.name": "company",
    "extraVolumeMounts[0].name": "company",
    "extraVolumeMounts[0].mountPath": "/etc/company",
    "podSecurityContext.runAsGroup": "5",
    "containerSecurityContext.runAsUser": "5",
    "templatePolicy.enabled": "true",
    "templatePolicy.imagePrefixes[0]": "registry.example.com/",
    "templatePolicy.namespaceSelector.matchLabels.serving": "narrow",
    "apiKeySecrets[0]": "llama-key",
    "prometheusURL": "https://prometheus.monitoring.svc:9091",
    "prometheusHistoryURL": "https://thanos.monitoring.svc:9091",
    "prometheus.bearerToken.existingSecret": "token",
    "prometheus.ca.existingConfigMap": "authority",
    "prometheus.clientCertificate.existingSecret": "certificate",
    "prometheus.headers.X-Scope-OrgID": "ml",
    "prometheus.headerSecrets.X-Key.existingSecret": "key",
    "prometheus.headerSecrets.X-Key.key": "key",
    "prometheus.queryParameters.max_source_resolution": "auto",
    "imagePullSecrets[0].name": "registry",
    "priorityClassName": "system-cluster-critical",
    "nodeSelector.pool": "system",
    "podLabels.team": "ml",
    "podAnnotations.note": "x",
    "serviceAccount.annotations.note": "x",
    "tolerations[0].operator": "Exists",
    "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight": "1",
    "affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey": "zone",
    "topologySpreadConstraints[0].maxSkew": "1",
    "topologySpreadConstraints[0].topologyKey": "zone",
    "topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway",
}

NOTHING = {
    "crds.enabled": "false",
    "userRoles.enabled": "false",
    "podMonitor.enabled": "false",
    "podDisruptionBudget.enabled": "false",
    "serviceAccount.name": "there",
    "podSecurityContext": "null",
    "containerSecurityContext": "null",
    "resources": "null",
    "topologySpreadConstraints": "null",
}
"""All that can be left out is."""


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    return subprocess.run([programs.helm(), *arguments], capture_output=True, text=True, check=False)


def setting(values: dict[str, str]) -> list[str]:
    """Options that set values."""
    return [f"--set={name}={value}" for name, value in values.items()]


def render(namespace: str, *options: str, **values: str) -> list[dict[str, Any]]:
    """The manifests of a release named dopd."""
    done = helm("template", "dopd", CHART, f"--namespace={namespace}", *setting(values), *options)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def grant(plane: ControlPlane, namespace: str, **values: str) -> list[dict[str, Any]]:
    """Give the operator's service account what the chart grants; the rules of its roles."""
    rights = [m for m in render(namespace, **values) if "Role" in m["kind"] or m["kind"] == "ServiceAccount"]
    rights = [m for m in rights if not aggregated(m)]
    plane.kubectl("apply", "--filename=-", stdin=as_list(rights))
    return [rule for manifest in rights for rule in manifest.get("rules", [])]


def aggregated(manifest: dict[str, Any]) -> bool:
    """Whether it is a ClusterRole for people, added to one of Kubernetes' own."""
    return any(".authorization.k8s.io/aggregate-to-" in label for label in manifest["metadata"].get("labels", {}))


def as_list(manifests: list[dict[str, Any]]) -> str:
    """Manifests for kubectl."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
