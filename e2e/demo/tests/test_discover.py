from typing import Any

from e2e.manifests.prometheus.discover import targets

POD: dict[str, Any] = {
    "metadata": {"name": "demo-router-1", "namespace": "default", "labels": {"dopd.dev/pool": "router"}},
    "spec": {
        "containers": [
            {"ports": [{"name": "http", "containerPort": 8000}, {"name": "metrics", "containerPort": 29000}]}
        ]
    },
    "status": {"phase": "Running", "podIP": "10.0.0.7"},
}


def test_each_port_of_a_running_pod_is_a_target_with_the_labels_of_kubernetes_discovery() -> None:
    found = targets(POD)
    assert [target["targets"] for target in found] == [["10.0.0.7:8000"], ["10.0.0.7:29000"]]
    assert found[1]["labels"] == {
        "__meta_kubernetes_namespace": "default",
        "__meta_kubernetes_pod_name": "demo-router-1",
        "__meta_kubernetes_pod_label_dopd_dev_pool": "router",
        "__meta_kubernetes_pod_container_port_name": "metrics",
    }


def test_a_pod_that_does_not_run_is_no_target() -> None:
    assert targets({**POD, "status": {"phase": "Pending"}}) == []
    assert targets({**POD, "status": {"phase": "Succeeded", "podIP": "10.0.0.7"}}) == []
