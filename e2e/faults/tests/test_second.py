"""The second operator of a fault is the first one but for its name, its Lease and the right to that."""

from e2e.faults.control_plane import SECOND, _second


def test_it_has_a_lease_and_pods_of_its_own() -> None:
    env = [{"name": "DOPD_LEASE_NAME", "value": "dopd"}, {"name": "HOME", "value": "/tmp"}]
    pod = {"serviceAccountName": "dopd", "containers": [{"name": "operator", "image": "i", "env": env}]}
    first = {
        "metadata": {"name": "dopd"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "dopd"}},
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "dopd"}}, "spec": pod},
        },
    }
    role, binding, deployment = _second(first)
    assert {each["metadata"]["name"] for each in (role, binding, deployment)} == {SECOND}
    spec = deployment["spec"]
    assert spec["replicas"] == 1
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == {"app": SECOND}
    [container] = spec["template"]["spec"]["containers"]
    assert {each["name"]: each["value"] for each in container["env"]} == {"DOPD_LEASE_NAME": SECOND, "HOME": "/tmp"}
    assert binding["subjects"][0]["name"] == "dopd"
    assert env[0]["value"] == "dopd", "the first one stays as it is"
