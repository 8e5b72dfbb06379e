import json
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.kind import configuration
from e2e.cluster.nodes import NodeAddress, bridge, setup_script

PORTS = {"gateway": 41001, "prometheus": 41002, "spare": 41003}


def _configuration(way: str) -> dict[str, Any]:
    return configuration(PORTS, "some/node:1", Path("/state/policy.yaml"), way=way)


def test_one_control_plane_and_two_workers_on_the_given_image() -> None:
    nodes = _configuration("built")["nodes"]
    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
    assert {node["image"] for node in nodes} == {"some/node:1"}


def test_load_enters_through_loopback_alone() -> None:
    mappings = _configuration("built")["nodes"][0]["extraPortMappings"]
    assert {(each["hostPort"], each["containerPort"]) for each in mappings} == {
        (41001, 30080),
        (41002, 30090),
        (41003, 30091),
    }
    assert {each["listenAddress"] for each in mappings} == {"127.0.0.1"}


@pytest.mark.parametrize("way", ["built", "published"])
def test_the_api_server_writes_an_audit_log(way: str) -> None:
    patches = json.loads(_configuration(way)["kubeadmConfigPatchesJSON6902"][0]["patch"])
    arguments = {
        patch["value"]["name"]: patch["value"]["value"]
        for patch in patches
        if patch["path"] == "/apiServer/extraArgs/-"
    }
    assert arguments.keys() == {"audit-policy-file", "audit-log-path"}
    volumes = next(patch["value"] for patch in patches if patch["path"] == "/apiServer/extraVolumes")
    for file in arguments.values():
        assert any(Path(file).is_relative_to(volume["mountPath"]) for volume in volumes)


def test_only_built_images_lack_a_pod_network() -> None:
    assert _configuration("built")["networking"]["disableDefaultCNI"] is True
    published = _configuration("published")
    assert published["networking"]["disableDefaultCNI"] is False
    assert published["kubeadmConfigPatches"] == []


def test_each_node_routes_to_the_pods_of_the_others() -> None:
    nodes = [NodeAddress(f"n{i}", f"10.244.{i}.0/24", f"172.18.0.{i + 2}") for i in range(3)]
    script = setup_script(nodes[1], nodes)
    routes = [line for line in script.splitlines() if line.startswith("ip route")]
    assert routes == [
        "ip route replace 10.244.0.0/24 via 172.18.0.2",
        "ip route replace 10.244.2.0/24 via 172.18.0.4",
    ]


def test_pods_get_addresses_of_their_node() -> None:
    configured = json.dumps(bridge("10.244.7.0/24"))
    assert '"subnet": "10.244.7.0/24"' in configured
