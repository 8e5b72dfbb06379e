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
from dopd.cli import counterfactual, run
from dopd.cli.arguments import namespaces
from dopd.telemetry import queries
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from e2e.cluster.controlplane import ControlPlane

from .chart import CHART, EVERYTHING, NOTHING, as_list, helm, render, setting
from .resources import inference

STRICT = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
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
    known = [m for m in manifests if m["kind"] not in ("PodMonitor", "ServiceMonitor", "PrometheusRule")]
    assert len(manifests) - len(known) == 6
    plane.kubectl("apply", *STRICT, "--filename=-", stdin=as_list(known))
    for manifest in manifests:
        assert manifest["metadata"]["labels"]["team"] == "ml", manifest["kind"]


def test_what_it_renders_with_everything_off_is_accepted(plane: ControlPlane, namespace: str):
    manifests = render(namespace, **NOTHING)
    assert sorted({m["kind"] for m in manifests}) == [
        *("ClusterRole", "ClusterRoleBinding", "Deployment", "Role", "RoleBinding", "Service"),
    ]
    plane.kubectl("apply", *STRICT, "--filename=-", stdin=as_list(manifests))


def test_disabled_it_makes_nothing():
    assert render("here", enabled="false", **EVERYTHING) == []


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


def test_the_counterfactual_takes_its_arguments_and_may_read_two_kinds_alone(monkeypatch: pytest.MonkeyPatch):
    manifests = render("here", **{"counterfactual.enabled": "true", "prometheusURL": "http://p:9090"})
    named = [m for m in manifests if m["metadata"]["name"].startswith("dopd-counterfactual")]
    (deployment,) = of_kind(named, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    command, *arguments = container["args"]
    options = SimpleNamespace(**counterfactual.command.make_context(command, arguments).params)
    assert (options.since, options.every, options.most_requests) == (6 * 3600, 3600, 100000)
    assert options.prometheus_url == "http://p:9090"
    assert options.http_port == container["ports"][0]["containerPort"]
    (role,) = of_kind(named, "ClusterRole")
    resources = ["disaggregatedinferences", "engineprofiles"]
    assert role["rules"] == [{"apiGroups": ["dopd.dev"], "resources": resources, "verbs": ["get", "list"]}]
    memory = container["resources"]["limits"]["memory"]
    assert options.most_mib + 200 <= int(memory.removesuffix("Mi")), "the child and its parent fit into the pod"


def test_nothing_of_the_operator_selects_the_pod_of_the_counterfactual():
    manifests = render("here", **EVERYTHING)
    labels = next(
        m["spec"]["template"]["metadata"]["labels"]
        for m in of_kind(manifests, "Deployment")
        if m["metadata"]["name"] == "dopd-counterfactual"
    )
    for kind in ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
        for manifest in of_kind(manifests, kind):
            spec = manifest["spec"]
            selector = spec.get("podSelector", spec.get("selector", {}))
            selector = selector if kind != "Service" else {"matchLabels": selector}
            assert selects(selector, labels) == (manifest["metadata"]["name"] == "dopd-counterfactual"), kind


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
    manifests = render("here", **{**EVERYTHING, "serviceMonitor.enabled": "false"})
    own = {m["metadata"]["name"]: m["spec"]["template"] for m in of_kind(manifests, "Deployment")}
    assert own.keys() == {"dopd", "dopd-counterfactual"}
    templates = {**pod_templates(), **own}
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
        assert carried == (set() if pool in own else {queries.INSTANCE, queries.POOL}), pool


def test_a_service_monitor_takes_the_place_of_the_operators_pod_monitor():
    manifests = render("here", **EVERYTHING)
    (monitor,), (service,) = of_kind(manifests, "ServiceMonitor"), of_kind(manifests, "Service")
    assert selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    monitors = sorted(m["metadata"]["name"] for m in of_kind(manifests, "PodMonitor"))
    assert monitors == ["dopd-counterfactual", "dopd-gateways", "dopd-workers"]


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({}, [9090]),
        ({"prometheusURL": "http://p.m.svc:9091/x"}, [9091]),
        ({"prometheusURL": "https://p", "prometheusHistoryURL": "http://[fd00::1]:8481/select/0"}, [443, 8481]),
        ({"prometheusURL": "http://p"}, [80]),
        ({"prometheusURL": "http://p:80", "networkPolicy.prometheusPorts[0]": "9090"}, [9090]),
    ],
)
def test_the_network_policy_follows_the_port_of_prometheus(values: dict[str, str], ports: list[int]):
    (policy,) = of_kind(render("here", **{"networkPolicy.enabled": "true"}, **values), "NetworkPolicy")
    (rule,) = [r for r in policy["spec"]["egress"] if {"port": 6443, "protocol": "TCP"} in r["ports"]]
    assert [entry["port"] for entry in rule["ports"]] == list(dict.fromkeys([443, 6443, *ports]))


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, f"dopd.dev/operator:{dopd.__version__}"),
        ({"image.registry": "r:5000", "image.tag": "x"}, "r:5000/operator:x"),
        ({"image.registry": "", "image.repository": "team/op", "image.tag": "x"}, "team/op:x"),
        ({"image.repository": "r.example/op", "image.tag": "x"}, "r.example/op:x"),
        ({"global.imageRegistry": "mirror.example", "image.tag": "x"}, "mirror.example/operator:x"),
        ({"image.tag": "x", "image.digest": f"sha256:{'0' * 64}"}, f"dopd.dev/operator:x@sha256:{'0' * 64}"),
    ],
)
def test_the_image_is_what_registry_repository_tag_and_digest_say(values: dict[str, str], image: str):
    (deployment,) = of_kind(render("here", **values), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_no_user_id_is_fixed():
    """OpenShift gives each project its own, and refuses others. The image names one, by number, for everybody else."""
    (deployment,) = of_kind(render("here"), "Deployment")
    assert "runAsUser" not in json.dumps(deployment)
    assert re.search(r"^USER \d+", (CHART.parents[1] / "operator" / "Dockerfile").read_text(), re.M)


@pytest.mark.parametrize(
    ("values", "name"),
    [({}, "dopd"), ({"nameOverride": "split"}, "dopd-split"), ({"fullnameOverride": "mine"}, "mine")],
)
def test_names_can_be_overridden(values: dict[str, str], name: str):
    manifests = render("here", **values)
    for kind in ("Deployment", "Service", "ServiceAccount"):
        assert [m["metadata"]["name"] for m in of_kind(manifests, kind)] == [name]
    labels = of_kind(manifests, "Deployment")[0]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == values.get("nameOverride", "dopd")


def test_two_releases_share_no_object():
    """Of one name in two namespaces, and of two names in one."""

    def names(release: str, namespace: str, **values: str) -> set[tuple[str, str, str]]:
        made = yaml.safe_load_all(helm("template", release, CHART, f"--namespace={namespace}", *setting(values)).stdout)
        return {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]) for m in made if m}

    first = names("dopd", "a", **EVERYTHING)
    assert len(first) > 15
    others = {**EVERYTHING, "crds.enabled": "false"}
    assert not first & names("dopd", "b", **others)
    assert not first & names("dopd-eu", "a", **others)
    assert not first & names("dopd", "a", **others, fullnameOverride="eu") - {c for c in first if "Cluster" in c[0]}


def test_the_network_policy_lets_the_operator_reach_engines_and_gateways():
    policies = {m["metadata"]["name"]: m for m in of_kind(render("here", **EVERYTHING), "NetworkPolicy")}
    policy = policies["dopd"]
    rules = [rule for rule in policy["spec"]["egress"] if "to" in rule]
    for pool, template in pod_templates().items():
        port = ROUTER_PORT if pool == "router" else ENGINE_PORT
        assert any(
            selects(rule["to"][0]["podSelector"], template["metadata"]["labels"])
            and port in [entry["port"] for entry in rule["ports"]]
            for rule in rules
        ), pool
