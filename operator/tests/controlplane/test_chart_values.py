"""Values of the chart that no operator could start with: Helm refuses them, with their path."""

import json
from pathlib import Path
from typing import Any

import pytest

from .chart import CHART, helm

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"serviceAccount": {"name": "a: b\n  c"}}, "/serviceAccount/name"),
    ({"priorityClassName": "x: y #"}, "/priorityClassName"),
    ({"image": {"repository": 'a" b'}}, "/image/repository"),
    ({"image": {"repository": "a", "tag": "x y"}}, "/image/tag"),
    ({"imagePullSecrets": [{"name": ""}]}, "/imagePullSecrets/0/name"),
    ({"watchNamespaces": ["a" * 64]}, "/watchNamespaces/0"),
    ({"apiKeySecrets": ["a..b"]}, "/apiKeySecrets/0"),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, "invalid propertyName 'app.kubernetes.io/name'"),
    ({"podMonitor": {"interval": "0s"}}, "/podMonitor/interval"),
    ({"podMonitor": {"interval": "1ms"}}, "/podMonitor/interval"),
    ({"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
    ({"prometheusURL": "http://*.x"}, "/prometheusURL"),
    ({"prometheusURL": "http://me:word@p"}, "/prometheusURL"),
    ({"prometheusURL": "http://p?x=1"}, "/prometheusURL"),
    ({"prometheus": {"headers": {"A": "€"}}}, "/prometheus/headers/A"),
    ({"prometheus": {"headers": {"A": " b"}}}, "/prometheus/headers/A"),
    ({"prometheus": {"seriesLabels": {"my-cluster": "x"}}}, "my-cluster"),
    ({"prometheus": {"bearerToken": {"existingSecret": "Bad Name"}}}, "/prometheus/bearerToken/existingSecret"),
    ({"prometheus": {"headerSecrets": {"A": {"existingSecret": "a", "key": ".."}}}}, "/headerSecrets/A/key"),
    ({"prometheus": {"timeoutSeconds": 1e-5}}, "/prometheus/timeoutSeconds"),
    ({"prometheus": {"maxAnswerMiB": 1e-9}}, "/prometheus/maxAnswerMiB"),
    ({"prometheus": {"insecureSkipVerify": True, "ca": {"existingSecret": "a"}}}, "ca has no effect"),
]


def rendered(folder: Path, values: dict[str, Any]) -> str:
    """What Helm says to values; "" if it renders them."""
    (folder / "values.json").write_text(json.dumps(values))
    done = helm("template", "dopd", CHART, f"--values={folder / 'values.json'}")
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_values_that_can_not_work_are_refused(tmp_path: Path, values: dict[str, Any], words: str):
    assert words in rendered(tmp_path, values)


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
    ],
)
def test_other_values_are_taken(tmp_path: Path, values: dict[str, Any]):
    assert not rendered(tmp_path, values)
