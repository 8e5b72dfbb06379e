"""Kinds of values that the chart's values.yaml names (`@schema {is: KIND}`): their rules, in JSON Schema and in words.

`expected` is what a refusal says in place of a regular expression.
"""

from typing import Any

Rule = dict[str, Any]

_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_HOST = r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?"
_LABEL_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_CHART_LABELS = ["app.kubernetes.io/name", "app.kubernetes.io/instance"]


def _text(pattern: str, expected: str, **more: Any) -> Rule:
    return {"type": "string", "pattern": pattern, "expected": expected, **more}


def _or_none(rule: Rule) -> Rule:
    return {**rule, "pattern": f"^$|{rule['pattern']}", "expected": f"{rule['expected']}, or nothing"}


def _map(values: Rule, names: str = "", expected: str = "", **more: Any) -> Rule:
    named = {"propertyNames": {"pattern": names, "expected": expected, **more}} if names else {}
    return {"type": "object", "additionalProperties": values, **named}


_name = _text(_NAME, "a name of Kubernetes: lower-case letters, digits, '-' and '.'", maxLength=253)
_label = _text(_LABEL, "at most 63 lower-case letters, digits and '-', not '-' at an end", maxLength=63)
_key = _text(r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$", "a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.'")
_string: Rule = {"type": "string"}
_line = _text(r"^[^\r\n]*$", "one line of text")
_variable_name = _text(
    r"^[A-Za-z_][A-Za-z0-9_.-]*$",
    "the name of a variable, and none that the chart sets: letters, digits and '_'",
    refused=["HOME", "DOPD_NAMESPACES", "DOPD_LEASE_NAME", "DOPD_LEASE_NAMESPACE", "DOPD_LEASE_SECONDS", "DOPD_SHARDS"],
)

TYPES: dict[str, Rule] = {
    "name": _name,
    "nameOrNone": _or_none(_name),
    "label": _label,
    "labelOrNone": _or_none(_label),
    "key": _key,
    "registry": _text(f"^({_HOST})?$", "a host, with its port if it has one, and without https:// and /"),
    "repository": _text(
        r"^[a-z0-9]([-a-z0-9._/:]*[a-z0-9])?$",
        "the name of an image: lower-case letters, digits, '-', '_', '.', '/', ':', without tag and digest",
    ),
    "tag": _text(
        r"^([A-Za-z0-9_][-A-Za-z0-9_.]{0,127}(@sha256:[0-9a-f]{64})?)?$",
        "a tag, such as 0.1.0: letters, digits, '-', '_' and '.', or nothing",
    ),
    "digest": _text(r"^(sha256:[0-9a-f]{64})?$", "sha256: and 64 digits of 0-9 and a-f, or nothing"),
    "imagePrefix": _text(r"^[-A-Za-z0-9._:/@]+$", "the beginning of an image's name"),
    "capability": _text(r"^[A-Z_]+$", "the name of a capability without CAP_, such as IPC_LOCK"),
    "url": _text(
        rf"^(https?://{_HOST}(/[^@?#\s]*)?)?$",
        "http:// or https://, a host, and if need be a port and a path; credentials go to prometheus.basicAuth"
        " and parameters to prometheus.queryParameters",
    ),
    "interval": _text(r"^[1-9][0-9]*(s|m)$", "a whole number of seconds or minutes, with its unit"),
    "duration": _text(r"^[1-9][0-9]*(s|m|h|d)$", "a whole number with its unit: s, m, h or d"),
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "strings": _map(_string),
    "ownLabels": _map(
        _text(_LABEL_VALUE, "the value of a label: letters, digits, '-', '_' and '.'", maxLength=63),
        _LABEL_NAME,
        "the name of a label, and none that the chart selects by",
        refused=_CHART_LABELS,
    ),
    "headers": _map(
        _text(r"^[!-~]([ -~]*[!-~])?$", "ASCII that can be printed, without a space at an end"),
        r"^[-_a-zA-Z0-9]+$",
        "the name of a header: letters, digits, '-' and '_'",
    ),
    "headerSecrets": _map(
        {"type": "object", "properties": {"existingSecret": _name, "key": _key}, "required": ["existingSecret", "key"]},
        r"^[-_a-zA-Z0-9]+$",
        "the name of a header: letters, digits, '-' and '_'",
    ),
    "queryParameters": _map(_line, r"^[-_a-zA-Z0-9]+$", "the name of a parameter: letters, digits, '-' and '_'"),
    "seriesLabels": _map(
        _line, r"^[a-zA-Z_][a-zA-Z0-9_]*$", "the name of a label of Prometheus: letters, digits and '_'"
    ),
    "variable": {
        "type": "object",
        "properties": {"name": _variable_name},
        "required": ["name"],
        "additionalProperties": True,
    },
    "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
}
