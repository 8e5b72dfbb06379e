"""The chart: what it renders is accepted, restricted, and fits the operator and the pods that it makes."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import dopd
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ENGINE_PORT, ROUTER_PORT, Role
from dopd.cli import run
from dopd.cli.arguments import namespaces
from dopd.telemetry import queries
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from e2e.cluster.controlplane import ControlPlane

from .chart import CHART, EVERYTHING, as_list, helm, render, setting
from .resources import inference

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
PROMETHEUS_OPERATOR = "--api-versions=monitoring.coreos.com/v1"


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def pod_templates() -> dict[str, dict[str, Any]]:
    """Templates of the pods that the operator makes, by pool."""
    spec = DisaggregatedInferenceSpec.model_validate(json.loads(inference("m"))["spec"])
    owner = Owner("m", "ns", "uid")
    children = child_manifests(owner, spec, Targets(1, 1))
    templates = [child["spec"]["template"] for child in of_kind(children, "Deployment")]
    templates += [worker_template(owner, spec, role) for role in Role]
    return {template["metadata"]["labels"]["dopd.dev/pool"]: template for template in templates}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def test_helm_finds_nothing_to_complain_about():
    done = helm("lint", CHART, "--strict", *setting(EVERYTHING))
    assert done.returncode == 0, done.stdout


def test_it_has_the_version_of_the_operator():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == dopd.__version__


@pytest.mark.parametrize("watched", [{}, {"watchNamespaces[0]": "default", "watchNamespaces[1]": "kube-public"}])
def test_what_it_renders_with_everything_on_is_accepted(plane: ControlPlane, namespace: str, watched: dict[str, str]):
    manifests = render(namespace, **EVERYTHING, **watched)
    known = [manifest for manifest in manifests if manifest["kind"] not in ("PodMonitor", "PrometheusRule")]
    assert len(manifests) - len(known) == 5
    plane.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=as_list(known))


def test_it_installs_upgrades_and_leaves_nothing(plane: ControlPlane, crds: None, namespace: str):
    where = (f"--kubeconfig={plane.kubeconfig}", f"--namespace={namespace}")
    off = {**EVERYTHING, "podMonitor.enabled": "false", "alerts.enabled": "false", "recordingRules.enabled": "false"}
    for values in (off, {**off, "replicas": "1", "watchNamespaces[0]": namespace}):
        done = helm("upgrade", "--install", "dopd", CHART, *where, *setting(values))
        assert done.returncode == 0, done.stderr
    assert "kubectl get pdi" in done.stdout
    made = ("deployment,service,serviceaccount,role,rolebinding,networkpolicy", "--selector=helm.sh/chart", *where)
    assert len(plane.kubectl("get", *made, "--output=name").split()) == 8
    assert helm("uninstall", "dopd", *where, "--wait").returncode == 0
    everything = (
        "deployment,service,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,clusterrole,"
        "validatingadmissionpolicy,validatingadmissionpolicybinding"
    )
    assert plane.kubectl("get", everything, "--selector=helm.sh/chart", *where, "--output=name") == ""


def test_recording_rules_record_the_series_of_this_cluster():
    values = {"recordingRules.enabled": "true", "prometheus.seriesLabels.cluster": "eu-west"}
    plain, of_cluster = (
        of_kind(render("here", **options), "PrometheusRule")[0]["spec"]["groups"][0]["rules"]
        for options in ({"recordingRules.enabled": "true"}, values)
    )
    assert {rule["record"]: rule["expr"] for rule in plain} == {
        signal.record: signal.promql("60000ms") for signal in queries.RECORDED
    }
    matching = queries.matchers({"cluster": "eu-west"})
    for rule, signal in zip(of_cluster, queries.RECORDED, strict=True):
        assert rule["labels"] == {"cluster": "eu-west"}
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert 'cluster="eu-west"' in selector
        assert rule["expr"].count("cluster=") == signal.promql("60000ms", matching).count("cluster=")


def test_pods_are_restricted(plane: ControlPlane, namespace: str):
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    (deployment,) = of_kind(render(namespace), "Deployment")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}}
    pod["spec"] = {**deployment["spec"]["template"]["spec"], "serviceAccountName": "default"}
    plane.kubectl("apply", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"imgae.tag": "x"}, "imgae"),
        ({"image.tagg": "x"}, "tagg"),
        ({"image.pullPolicy": "Sometimes"}, "pullPolicy"),
        ({"replicas": "two"}, "replicas"),
        ({"watchNamespaces[0]": "Bad_Name"}, "watchNamespaces"),
        ({"prometheusURL": "prometheus:9090"}, "prometheusURL"),
        ({"prometheusHistoryURL": "thanos:9090"}, "prometheusHistoryURL"),
        ({"leaseSeconds": "1"}, "leaseSeconds"),
        ({"logFormat": "xml"}, "logFormat"),
        ({"podMonitor.enabled": "auto"}, "podMonitor"),
        ({"podMonitor.interval": "15"}, "interval"),
        ({"networkPolicy.prometheusPorts[0]": "0"}, "prometheusPorts"),
        ({"networkPolicy.enginePorts[0]": "70000"}, "enginePorts"),
        ({"podMonitor.sampleLimit.workers": "0"}, "workers"),
        ({"apiKeySecrets[0]": "No_Name"}, "apiKeySecrets"),
        ({"templatePolicy.validationActions[0]": "Refuse"}, "validationActions"),
        ({"templatePolicy.allowedCapabilities[0]": "CAP SYS"}, "allowedCapabilities"),
    ],
)
def test_a_value_that_is_wrong_is_refused_by_name(values: dict[str, str], words: str):
    done = helm("template", "dopd", CHART, *setting(values))
    assert done.returncode != 0
    assert words in done.stderr


def test_the_schema_knows_exactly_the_values():
    def keys(value: Any) -> Any:
        return {name: keys(child) for name, child in value.items()} if isinstance(value, dict) and value else None

    def known(schema: dict[str, Any]) -> Any:
        assert schema.get("additionalProperties", False) is False
        return {name: known(child) if "properties" in child else None for name, child in schema["properties"].items()}

    schema = known(SCHEMA)
    assert schema.pop("global", None) is None
    values = keys(VALUES)
    values["resources"] = None  # as in a pod, and checked by the API server
    values["dashboard"]["labels"] = None  # whatever the sidecar looks for
    values["templatePolicy"]["namespaceSelector"] = None  # as in Kubernetes, likewise
    assert schema == values


def test_the_environment_is_what_the_command_reads(monkeypatch: pytest.MonkeyPatch):
    values = {"watchNamespaces[0]": "a", "watchNamespaces[1]": "b", "prometheusURL": "http://p:9090"}
    manifests = render("here", "--set-json=leaseSeconds=7.5", **values, logFormat="text")
    (deployment,) = of_kind(manifests, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    options = SimpleNamespace(**run.command.make_context("run", container["args"][1:]).params)
    assert (namespaces(options.namespace), options.prometheus_url) == (("a", "b"), "http://p:9090")
    assert (options.lease_name, options.lease_namespace, options.lease_seconds) == ("dopd", "here", 7.5)
    assert options.http_port == container["ports"][0]["containerPort"]
    assert options.log_format == "text"


@pytest.mark.parametrize(
    ("enabled", "options", "count"),
    [
        ("null", (), 0),
        ("null", (PROMETHEUS_OPERATOR,), 3),
        ("true", (), 3),
        ("false", (PROMETHEUS_OPERATOR,), 0),
    ],
)
def test_pod_monitors_are_made_where_the_cluster_knows_them(enabled: str, options: tuple[str, ...], count: int):
    manifests = render("here", *options, **{"podMonitor.enabled": enabled})
    assert len(of_kind(manifests, "PodMonitor")) == count


def test_pod_monitors_fit_the_pods():
    manifests = render("here", **EVERYTHING)
    (deployment,) = of_kind(manifests, "Deployment")
    templates = {**pod_templates(), "operator": deployment["spec"]["template"]}
    for pool, template in templates.items():
        selected = [
            m["spec"]
            for m in of_kind(manifests, "PodMonitor")
            if selects(m["spec"]["selector"], template["metadata"]["labels"])
        ]
        assert len(selected) == 1, pool
        assert selected[0]["sampleLimit"] >= 20000, pool
        (endpoint,) = selected[0]["podMetricsEndpoints"]
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert endpoint["port"] in ports, pool
        # The Prometheus Operator writes what a label name of Prometheus can not hold as "_".
        carried = {label.replace(".", "_").replace("/", "_") for label in selected[0].get("podTargetLabels", [])}
        assert carried == (set() if pool == "operator" else {queries.INSTANCE, queries.POOL}), pool


def test_the_network_policy_lets_the_operator_reach_engines_and_gateways():
    (policy,) = of_kind(render("here", **EVERYTHING), "NetworkPolicy")
    rules = [rule for rule in policy["spec"]["egress"] if "to" in rule]
    for pool, template in pod_templates().items():
        port = ROUTER_PORT if pool == "router" else ENGINE_PORT
        assert any(
            selects(rule["to"][0]["podSelector"], template["metadata"]["labels"])
            and port in [entry["port"] for entry in rule["ports"]]
            for rule in rules
        ), pool
