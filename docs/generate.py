"""Write the reference pages from the code: fields of the resources, conditions and reasons, metrics.

`python docs/generate.py` writes them; a test fails when a page differs from what the code says.
"""

import ast
import inspect
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from dopd.api import conditions
from dopd.api.crds import build
from dopd.autoscaler import Cause, Reason, decision
from dopd.cli import counterfactual_metrics
from dopd.planning import Bound, bounds
from dopd.reconcile import metrics, pool_metrics, timing
from dopd.workloads.sglang_versions import Feature

FOLDER = Path(__file__).parent / "reference"
_HEAD = "% Written by docs/generate.py. Do not edit.\n\n"


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {
        "api.md": _api(),
        "conditions.md": _conditions(),
        "metrics.md": _metrics(),
        "sglang-versions.md": _sglang_versions(),
    }


def _sglang_versions() -> str:
    lines = [
        "# What came with which SGLang",
        "",
        "The operator reads the release from the image's tag. Found in the released wheels of 0.5.7 to 0.5.23.",
        "",
        "| since | what |",
        "|---|---|",
    ]
    lines += [f"| {'.'.join(map(str, feature.first))} | {feature.meaning} |" for feature in Feature]
    return _HEAD + "\n".join(lines) + "\n"


def _api() -> str:
    lines = ["# API reference", "", "`kubectl explain` says the same. Fields in bold are required.", ""]
    for definition in build().values():
        kind, version = definition["spec"]["names"]["kind"], definition["spec"]["versions"][0]
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        lines += [f"## {kind}", "", properties["spec"]["description"], ""]
        for part in ("spec", "status"):
            if part in properties:
                lines += ["| field | type | meaning |", "|---|---|---|"]
                lines += _rows(properties[part], part)
                lines.append("")
                rules = list(_rules(properties[part], part))
                if rules:
                    lines += ["Rules:", "", *(f"- `{path}`: {message}" for path, message in rules), ""]
    return _HEAD + "\n".join(lines)


def _rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        label = f"**`{here}`**" if name in schema.get("required", []) else f"`{here}`"
        yield f"| {label} | {_type(child)} | {child.get('description', '').replace('|', chr(92) + '|')} |"
        if not child.get("x-kubernetes-preserve-unknown-fields"):  # parts of a pod: Kubernetes documents them
            yield from _rows(child.get("items", child), f"{here}[]" if "items" in child else here)


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {schema['items']['type']}"
    limits = [
        f"{word} {schema[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in schema
    ]
    return ", ".join([schema["type"], *limits])


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from ((path, rule["message"]) for rule in schema.get("x-kubernetes-validations", []))
    for name, child in schema.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")
        if "items" in child:
            yield from _rules(child["items"], f"{path}.{name}[]")


def _conditions() -> str:
    lines = ["# Conditions and reasons", "", "## Conditions of a DisaggregatedInference", ""]
    lines += [(inspect.getdoc(conditions.ConditionType) or "").partition("\n\n")[2], ""]
    for name, text in _described(conditions, conditions.ConditionType):
        reasons = ", ".join(f"`{reason}`" for reason in conditions.REASONS[conditions.ConditionType(name)])
        lines.append(f"`{name}`\n: {text}\n  Reasons, beside `AsExpected`: {reasons}.\n")
    for heading, where, module, members in (
        ("Reasons of conditions", "What each means, and what to do about it.", conditions, conditions.ConditionReason),
        ("Reasons of a decision", "In `status.decisions`, Events and `dopd_decisions_total`.", decision, Reason),
        ("What decided", "The load that decided the workers of a role.", decision, Cause),
        ("Reasons of a GpuPool", "Of its condition `Satisfied`.", conditions, conditions.PoolReason),
        ("Bounds", "In `status.decisions[].limitedBy`.", bounds, Bound),
    ):
        lines += ["", f"## {heading}", "", where, ""]
        lines += [f"`{name}`\n: {text}\n" for name, text in _described(module, members)]
    return _HEAD + "\n".join(lines)


def _described(module: ModuleType, enumeration: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """Values of an enumeration with the docstrings under them.

    Raises:
        ValueError: a member has none.
    """
    tree = ast.parse(inspect.getsource(module))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enumeration.__name__)
    for member, below in pairwise([*body, ast.Pass()]):
        if isinstance(member, ast.Assign):
            value = ast.literal_eval(member.value)
            if not isinstance(below, ast.Expr):
                raise ValueError(f"{enumeration.__name__}: no docstring under {value}")
            yield value, " ".join(ast.literal_eval(below.value).split())


def _metrics() -> str:
    lines = [
        "# Metrics of the operator",
        "",
        "On port 8080, path `/metrics`. Those with the labels `namespace` and `inference` are set for a resource",
        "by the operator that acts (`dopd_leader` is 1).",
        "",
        *_metric_rows(metrics),
        *list(_metric_rows(timing))[2:],
        "",
        "## Of GpuPools",
        "",
        "On the same page. Operators that share a pool each show the whole of it, so take the `max` over them.",
        "",
        *_metric_rows(pool_metrics),
        "",
        "## Of `dopd counterfactual`",
        "",
        "On port 8080 of its own pod, where the chart's `counterfactual.enabled` is true.",
        "",
        *_metric_rows(counterfactual_metrics),
    ]
    return _HEAD + "\n".join(lines) + "\n"


def _metric_rows(module: ModuleType) -> Iterator[str]:
    yield "| name | type | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in vars(module).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "-"
            yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, text in pages().items():
        (FOLDER / file_name).write_text(text)
