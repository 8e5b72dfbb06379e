"""config/operator/operator.yaml: what the chart renders by its defaults, for kustomize.

Kustomize changes it further (config/README.md), so it carries no label that says Helm manages it.
"""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import programs

CHART = Path(__file__).parent / "dopd"
OPERATOR = CHART.parents[1] / "config" / "operator" / "operator.yaml"
NAMESPACE = "dopd-system"
_OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart")
_HEAD = "# Written by `make chart` from charts/dopd. Do not edit: change it by kustomize, see config/README.md.\n"


def operator() -> str:
    """The manifests of the operator, without the definitions.

    Raises:
        subprocess.CalledProcessError: Helm refused the chart; its message is in the error's output.
        ClusterError: Helm is not there and can not be built.
    """
    command: list[str | Path] = [
        *(programs.helm(), "template", "dopd", CHART, f"--namespace={NAMESPACE}"),
        *("--set=crds.enabled=false", "--set=podMonitor.enabled=false"),
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    manifests = [_without_labels(manifest) for manifest in yaml.safe_load_all(text) if manifest]
    return _HEAD + "---\n".join(yaml.safe_dump(manifest, sort_keys=False, width=120) for manifest in manifests)


def _without_labels(manifest: dict[str, Any]) -> dict[str, Any]:
    labels = manifest["metadata"].get("labels", {})
    for name in _OF_HELM:
        labels.pop(name, None)
    return manifest


def main() -> None:
    """Write the file."""
    OPERATOR.parent.mkdir(parents=True, exist_ok=True)
    OPERATOR.write_text(operator())


if __name__ == "__main__":
    main()
