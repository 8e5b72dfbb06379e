"""The CustomResourceDefinitions, generated from the models. `python -m dopd.api.crds DIR ...` writes them.

A test compares the files in `crds/` and in the chart with what this generates.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from dopd.api.base import GROUP, VERSION
from dopd.api.gpupool import GpuPoolSpec, GpuPoolStatus
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.profile import EngineProfileSpec
from dopd.api.scale import WorkerScaleSpec, WorkerScaleStatus
from dopd.api.schema import structural_schema
from dopd.api.status import DisaggregatedInferenceStatus

Manifest = dict[str, Any]


def _column(name: str, path: str, kind: str = "string", description: str = "", wide: bool = False) -> Manifest:
    column: Manifest = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": 1} if wide else column


_AGE = _column("Age", ".metadata.creationTimestamp", "date", "Time since creation")

_INFERENCE_COLUMNS = [
    _column("P", ".status.prefill.summary", description="Prefill workers, desired/ready"),
    _column("D", ".status.decode.summary", description="Decode workers, desired/ready"),
    _column("Ratio", ".status.ratio.current", description="Prefill to decode workers that serve"),
    _column("Mode", ".status.mode", description="Auto, Advise, Paused, External or Static"),
    _column("Ready", ".status.conditions[?(@.type=='Ready')].status", description="Whether a request is served"),
    _column("Reason", ".status.conditions[?(@.type=='Ready')].reason", description="Why not ready"),
    _column("GPUs", ".status.gpus", "integer", "GPUs of the workers that are there", wide=True),
    _column(
        "On time",
        ".status.plan.attainment.summary",
        description="Expected share of requests on time / objective",
        wide=True,
    ),
    _column("Last decision", ".status.decisions[0].summary", description="Newest change of the target", wide=True),
    _column("Decided", ".status.decisions[0].time", "date", "How long ago that was", wide=True),
    _column("Model", ".spec.model", description="Served model", wide=True),
    _column("Endpoint", ".status.endpoint", description="URL of the gateway", wide=True),
    _AGE,
]
_PROFILE_COLUMNS = [
    _column("Model", ".spec.model", description="Model that was measured"),
    _column("GPU", ".spec.gpu", description="GPU type"),
    _column("GPUs", ".spec.gpus", "integer", "GPUs of one worker"),
    _column("Origin", ".spec.source.origin", description="Where the numbers come from"),
    _AGE,
]


_POOL_COLUMNS = [
    _column("GPUs", ".status.gpus", "integer", "Most GPUs that members hold together"),
    _column("Wanted", ".status.wanted", "integer", "GPUs that members want"),
    _column("Granted", ".status.granted", "integer", "GPUs that members may hold"),
    _column("Held", ".status.held", "integer", "GPUs that members hold"),
    _column("Denied", ".status.denied", "integer", "Members that get fewer than they want"),
    _column(
        "Satisfied", ".status.conditions[?(@.type=='Satisfied')].status", description="Whether all get what they want"
    ),
    _column(
        "Why",
        ".status.conditions[?(@.type=='Satisfied')].message",
        description="Who was denied what, and who has it",
        wide=True,
    ),
    _AGE,
]
_SCALE_COLUMNS = [
    _column("Asked", ".spec.workers", "integer", "Workers that the scaler asks for"),
    _column("Workers", ".status.workers", "integer", "Workers that there are"),
    _AGE,
]
_SCALE = {
    "specReplicasPath": ".spec.workers",
    "statusReplicasPath": ".status.workers",
    "labelSelectorPath": ".status.selector",
}


_INFERENCE_NAME = {
    "rule": "self.metadata.name.size() <= 46 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "message": "must be at most 46 lower-case letters, digits and '-', beginning with a letter, since Services and"
    " labels are named after it; choose another name",
    "fieldPath": ".metadata.name",
}


def _crd(
    kind: str,
    plural: str,
    short: str,
    spec: Manifest,
    *,
    columns: list[Manifest],
    status: Manifest | None = None,
    rules: list[Manifest] | None = None,
    scale: Manifest | None = None,
    scope: str = "Namespaced",
) -> Manifest:
    properties: Manifest = {
        "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
        "kind": {"type": "string", "description": "Type of this object."},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": spec,
    }
    version: Manifest = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": spec["description"],
                "required": ["spec"],
                "properties": properties,
                **({"x-kubernetes-validations": rules} if rules else {}),
            }
        },
    }
    if status:
        properties["status"] = status
        if "observedGeneration" in status["properties"]:
            # Not seen yet is not ready: kstatus (Flux, Helm 4) takes a resource without a status for done.
            properties["status"] = {**status, "default": {"observedGeneration": -1}}
        version["subresources"] = {"status": {}, **({"scale": scale} if scale else {})}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/name": "dopd"}},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["dopd"],
            },
            "versions": [version],
        },
    }


def build() -> dict[str, Manifest]:
    """The definitions by file name."""
    return {
        f"{GROUP}_disaggregatedinferences.yaml": _crd(
            "DisaggregatedInference",
            "disaggregatedinferences",
            "pdi",
            structural_schema(DisaggregatedInferenceSpec),
            columns=_INFERENCE_COLUMNS,
            status=structural_schema(DisaggregatedInferenceStatus),
            rules=[_INFERENCE_NAME],
        ),
        f"{GROUP}_engineprofiles.yaml": _crd(
            "EngineProfile",
            "engineprofiles",
            "dopdprofile",
            structural_schema(EngineProfileSpec),
            columns=_PROFILE_COLUMNS,
        ),
        f"{GROUP}_gpupools.yaml": _crd(
            "GpuPool",
            "gpupools",
            "dopdpool",
            structural_schema(GpuPoolSpec),
            columns=_POOL_COLUMNS,
            status=structural_schema(GpuPoolStatus),
            scope="Cluster",
        ),
        f"{GROUP}_workerscales.yaml": _crd(
            "WorkerScale",
            "workerscales",
            "dopdscale",
            structural_schema(WorkerScaleSpec),
            columns=_SCALE_COLUMNS,
            status=structural_schema(WorkerScaleStatus),
            scale=_SCALE,
        ),
    }


def render(definition: Manifest) -> str:
    """The YAML text of one definition, as it stands in the repository."""
    text: str = yaml.safe_dump(definition, sort_keys=False, width=110, allow_unicode=True)
    return f"# Generated from operator/dopd/api by `make crds`. Do not edit.\n{text}"


def main() -> None:
    """Write the definitions into each of the folders given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, definition in build().items():
            (folder / name).write_text(render(definition))


if __name__ == "__main__":
    main()
