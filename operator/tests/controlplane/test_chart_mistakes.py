"""Values of the chart that can not work are refused: with field, value, what is expected, and a way out."""

import json
from pathlib import Path
from typing import Any

import pytest

from .chart import CHART, EVERYTHING, helm, setting

KUBERNETES_NAME = "a name of Kubernetes: lower-case letters"

MISTAKES: list[tuple[dict[str, Any], str, str, str]] = [
    # A name that is none: field, expectation, way out.
    ({"imgae": {"tag": "x"}}, 'imgae: {"tag":"x"}', "one of affinity, alerts", "Correct the name"),
    ({"image": {"tagg": "x"}}, 'image.tagg: "x"', "in image one of digest, pullPolicy, registry", "Correct the name"),
    ({"imagePullSecrets": [{"nam": "x"}]}, 'imagePullSecrets[0].nam: "x"', "one of name", "Correct the name"),
    # Of another type.
    ({"replicas": "two"}, 'replicas: "two" is a text', "a whole number from 0 to 10", "`replicas: 2`"),
    ({"replicas": 1.5}, "replicas: 1.5 is a number with a fraction", "a whole number", "`replicas: 2`"),
    ({"alerts": {"enabled": "yes"}}, 'alerts.enabled: "yes" is a text', "true or false", "`alerts.enabled: false`"),
    ({"podMonitor": {"enabled": "auto"}}, 'podMonitor.enabled: "auto"', "true, false or null", "enabled: true`"),
    ({"watchNamespaces": "ml"}, 'watchNamespaces: "ml" is a text', "a list, each once", '["inference"]'),
    ({"image": "dopd:1"}, 'image: "dopd:1" is a text', "a map with digest, pullPolicy", "Remove the line"),
    ({"image": None}, "image: null is no value", "a map with digest, pullPolicy", "Remove the line"),
    ({"prometheus": {"queryParameters": {"dedup": True}}}, "dedup: true is true or false", "one line", '"nocache"'),
    ({"nodeSelector": {"gpu": 8}}, "nodeSelector.gpu: 8 is a number", "a text", '{"pool":"system"}'),
    # Out of range.
    ({"leaseSeconds": 1}, "leaseSeconds: 1 is too small", "a number from 2 to 300", "`leaseSeconds: 15`"),
    ({"replicas": 11}, "replicas: 11 is too large", "from 0 to 10", "`replicas: 2`"),
    (
        {"prometheus": {"timeoutSeconds": 1e-5}},
        "prometheus.timeoutSeconds: 0.00001 is too small",
        "from 0.1 to 60",
        "Seconds: 10`",
    ),
    (
        {"prometheus": {"maxAnswerMiB": 1e-9}},
        "prometheus.maxAnswerMiB: 1e-9 is too small",
        "from 0.001 to 1024",
        "MiB: 64`",
    ),
    ({"podMonitor": {"sampleLimit": {"workers": 0}}}, "sampleLimit.workers: 0", "of 1 or more", "workers: 20000`"),
    ({"networkPolicy": {"enginePorts": [70000]}}, "enginePorts[0]: 70000", "from 1 to 65535", "[30000]`"),
    ({"networkPolicy": {"prometheusPorts": ["http"]}}, 'prometheusPorts[0]: "http"', "a whole number", "[9090]`"),
    ({"networkPolicy": {"apiServerPorts": []}}, "apiServerPorts: [] is empty", "a list of one or more", "[443,6443]`"),
    # Not what it should look like.
    ({"logFormat": "xml"}, 'logFormat: "xml"', "one of text, json", '`logFormat: "json"`'),
    ({"image": {"pullPolicy": "Sometimes"}}, 'pullPolicy: "Sometimes"', "Always, IfNotPresent, Never", "Policy: "),
    ({"image": {"repository": 'a" b'}}, "image.repository: ", "the name of an image", '`image.repository: "operator"`'),
    ({"image": {"repository": "Dopd"}}, 'image.repository: "Dopd"', "lower-case", '`image.repository: "operator"`'),
    ({"image": {"registry": "https://r.example"}}, 'registry: "https://r.example"', "without https://", "registry.ex"),
    ({"image": {"tag": "x y"}}, 'image.tag: "x y"', "a tag, such as 0.1.0", "`image.tag: "),
    ({"image": {"digest": "abc"}}, 'image.digest: "abc"', "sha256: and 64 digits", '"sha256:'),
    ({"watchNamespaces": ["Bad_Name"]}, 'watchNamespaces[0]: "Bad_Name"', "lower-case letters", '["inference"]'),
    ({"watchNamespaces": ["a" * 64]}, "has 64 characters", "63", '["inference"]'),
    ({"watchNamespaces": ["a", "a"]}, 'watchNamespaces: ["a","a"] says something twice', "each once", "inference"),
    ({"apiKeySecrets": ["a..b"]}, 'apiKeySecrets[0]: "a..b"', KUBERNETES_NAME, '["llama-key"]'),
    ({"imagePullSecrets": [{"name": ""}]}, 'imagePullSecrets[0].name: ""', KUBERNETES_NAME, '[{"name":"registry"}]'),
    ({"serviceAccount": {"name": "a: b\n  c"}}, "serviceAccount.name: ", KUBERNETES_NAME, '"dopd"'),
    ({"priorityClassName": "x: y #"}, "priorityClassName: ", KUBERNETES_NAME, "system-cluster-critical"),
    ({"fullnameOverride": "My_dopd"}, 'fullnameOverride: "My_dopd"', "lower-case letters", '"dopd-eu"'),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, 'podLabels: "app.kubernetes.io/name"', "none that", '"team"'),
    ({"commonLabels": {"team": "a b"}}, 'commonLabels.team: "a b"', "the value of a label", '{"team":"ml"}'),
    ({"podMonitor": {"interval": "15"}}, 'podMonitor.interval: "15"', "with its unit", '"15s"'),
    ({"podMonitor": {"interval": "0s"}}, 'podMonitor.interval: "0s"', "with its unit", '"15s"'),
    ({"serviceMonitor": {"interval": "1ms"}}, 'serviceMonitor.interval: "1ms"', "seconds or minutes", '"15s"'),
    ({"prometheusURL": "prometheus:9090"}, 'prometheusURL: "prometheus:9090"', "http:// or https://", "monitoring"),
    ({"prometheusURL": "http://*.x"}, 'prometheusURL: "http://*.x"', "a host", "monitoring.svc:9090"),
    ({"prometheusURL": "http://me:word@p"}, "prometheusURL: ", "credentials go to prometheus.basicAuth", "monitoring"),
    ({"prometheusURL": "http://p?x=1"}, "prometheusURL: ", "parameters to prometheus.queryParameters", "monitoring"),
    ({"prometheusHistoryURL": "thanos:9090"}, "prometheusHistoryURL: ", "http:// or https://", "thanos-query"),
    ({"prometheus": {"headers": {"A": "€"}}}, 'prometheus.headers.A: "€"', "ASCII that can be printed", "team-a"),
    ({"prometheus": {"headers": {"A": " b"}}}, 'prometheus.headers.A: " b"', "without a space at an end", "team-a"),
    ({"prometheus": {"headers": {"X.Y": "b"}}}, 'prometheus.headers: "X.Y"', "the name of a header", "X-Scope-OrgID"),
    ({"prometheus": {"seriesLabels": {"my-cluster": "x"}}}, '"my-cluster"', "a label of Prometheus", '"eu-west"'),
    ({"prometheus": {"bearerToken": {"existingSecret": "Bad Name"}}}, '"Bad Name"', KUBERNETES_NAME, "-token"),
    ({"prometheus": {"headerSecrets": {"A": {"existingSecret": "a", "key": ".."}}}}, 'A.key: ".."', "a key", "X-Api-"),
    ({"prometheus": {"headerSecrets": {"A": {"key": "k"}}}}, "A.existingSecret: null", KUBERNETES_NAME, "X-Api-"),
    ({"templatePolicy": {"validationActions": ["Refuse"]}}, '[0]: "Refuse"', "one of Deny, Warn, Audit", '["Deny"]'),
    ({"templatePolicy": {"allowedCapabilities": ["CAP SYS"]}}, '"CAP SYS"', "without CAP_", '["IPC_LOCK"]'),
    ({"extraEnv": [{"name": "DOPD_LEASE_NAME"}]}, "DOPD_LEASE_NAME", "none that the chart sets", "HTTPS_PROXY"),
    ({"extraArgs": [5]}, "extraArgs[0]: 5 is a number", "a text", "--verbose"),
]

TOGETHER: list[tuple[dict[str, Any], str, str, str]] = [
    # Right alone, wrong together.
    (
        {"prometheus": {"insecureSkipVerify": True, "ca": {"existingSecret": "a"}}},
        "prometheus.insecureSkipVerify: true",
        "ca has no effect",
        "Remove insecureSkipVerify",
    ),
    (
        {"prometheus": {"bearerToken": {"existingSecret": "a"}, "serviceAccountToken": {"enabled": True}}},
        "prometheus: bearerToken.existingSecret and serviceAccountToken.enabled are set",
        "one way to authenticate",
        "Give one of bearerToken",
    ),
    (
        {"prometheus": {"ca": {"existingSecret": "a", "existingConfigMap": "b"}}},
        'prometheus.ca: existingSecret "a" and existingConfigMap "b"',
        "one source",
        "Give one of",
    ),
    ({"prometheus": {"basicAuth": {"username": "a"}}}, "basicAuth.existingSecret: ", "belong together", "Name the Se"),
    ({"prometheus": {"basicAuth": {"existingSecret": "a"}}}, "basicAuth.username: ", "belong together", "Name the us"),
    ({"serviceAccount": {"name": "a", "annotations": {"b": "c"}}}, "annotations: ", "is not changed", "remove name"),
    ({"prometheusHistoryURL": "http://t:9090"}, "prometheusHistoryURL: ", "the load of now", "Set both"),
    ({"extraEnv": [{"name": "DOPD_PROMETHEUS_URL", "value": "x"}]}, '"DOPD_PROMETHEUS_URL"', "another", "Set it there"),
]


def answer(folder: Path, values: dict[str, Any], *options: str) -> str:
    """What Helm says to values; "" if it renders them."""
    (folder / "values.json").write_text(json.dumps(values))
    done = helm("template", "dopd", CHART, f"--values={folder / 'values.json'}", *options)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize(("values", "field", "expected", "fix"), MISTAKES + TOGETHER)
def test_a_mistake_is_named_with_its_way_out(
    tmp_path: Path, values: dict[str, Any], field: str, expected: str, fix: str
):
    said = answer(tmp_path, values)
    line = next((line for line in said.splitlines() if field in line), said)
    fault, _, rest = line.partition("Expected ")
    assert field in fault
    assert expected in rest
    assert fix in rest[rest.index(expected) :]


def test_all_mistakes_are_named_at_once(tmp_path: Path):
    said = answer(tmp_path, {"replicas": "two", "logFormat": "xml", "imgae": {}})
    assert len([line for line in said.splitlines() if line.startswith("- ")]) == 3


@pytest.mark.parametrize(
    "values",
    [
        {"prometheusURL": "https://[fd00::1]:9090/select/0/prometheus", "prometheus": {"headers": {"A": "b c"}}},
        {"serviceAccount": {"name": "a.b"}, "image": {"repository": "localhost:5000/dopd", "tag": "1.10"}},
        {"image": {"repository": "dopd", "tag": f"v1@sha256:{'0' * 64}"}, "podLabels": {"team": "ml"}},
        {
            "prometheus": {
                "seriesLabels": {"k8s_cluster": '"},x'},
                "bearerToken": {"existingSecret": "a.b", "key": ".k"},
            }
        },
        {"leaseSeconds": 7.5, "resources": None, "global": {"anything": 1}, "affinity": {"podAffinity": {}}},
    ],
)
def test_other_values_are_taken(tmp_path: Path, values: dict[str, Any]):
    assert not answer(tmp_path, values)


def test_the_schema_says_the_same_to_an_editor(tmp_path: Path):
    """Helm leaves the answer to the checks while there is `global`; without it, it applies the schema as editors do.

    It takes a null away before that, so a value that was taken away is for the checks alone.
    """
    schema = "don't meet the specifications of the schema"
    assert schema not in answer(tmp_path, {"global": None}, *setting(EVERYTHING))
    for values in (values for values, *_ in MISTAKES[::3] if None not in values.values()):  # each takes a start of Helm
        said = answer(tmp_path, {**values, "global": None})
        assert schema in said, values
