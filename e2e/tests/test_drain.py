"""A worker leaves in order: first its label, then what it runs, then its pod."""

from datetime import datetime

from e2e.cluster.daemon import docker_session
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.audit import Write, writes
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import GATEWAY_NODE_PORT, MODEL, changed, static

OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:dopd"
REPLICASET_USER = "system:serviceaccount:kube-system:replicaset-controller"
LOAD = Schedule.steady(requests_per_second=6, seconds=120, input_tokens=200, output_tokens=400)


def test_a_smaller_number_of_workers_loses_no_request(stack: Stack, apply: Apply) -> None:
    resource = static("drain", prefill=2, decode=3, node_port=GATEWAY_NODE_PORT)
    name = apply(resource)
    until_ready(stack, name)
    start = datetime.now().astimezone()
    with BackgroundLoad(Target(stack.gateway_url, MODEL), LOAD) as load:
        wait_for(lambda: len(load.results) >= 12, "the load flows", timeout_seconds=30)
        stack.apply(changed(resource, {"prefill__replicas": 1, "decode__replicas": 1}))
        wait_for(lambda: _present(stack, name) == (1, 1), "one worker of each role is left", timeout_seconds=90)
        results = load.stop()
    assert load.lost == []
    assert all(result.got_tokens == result.asked_tokens for result in results)
    with docker_session(stack.cluster.docker_host) as docker:
        done = writes(stack.audit_log(docker), since=start)
    for pod in {write.name for write in done if write.resource == "pods" and write.verb == "delete"}:
        label_off = _first(done, OPERATOR_USER, "patch", "pods", pod)
        deleted = _first(done, REPLICASET_USER, "delete", "pods", pod)
        role = "prefill" if "-prefill-" in pod else "decode"
        fewer = [
            write for write in done
            if (write.user, write.verb, write.name) == (OPERATOR_USER, "patch", f"{name}-{role}")
            and label_off.at < write.at <= deleted.at
        ]  # fmt: skip
        assert fewer, f"{pod} went without the operator having lowered replicas after its label went"
    assert sum(w.user == REPLICASET_USER and w.verb == "delete" for w in done) == 3


def _present(stack: Stack, name: str) -> tuple[int, int]:
    return len(stack.pods(name, "prefill")), len(stack.pods(name, "decode"))


def _first(done: list[Write], user: str, verb: str, resource: str, name: str) -> Write:
    found = [w for w in done if (w.user, w.verb, w.resource, w.name) == (user, verb, resource, name)]
    assert found, f"{user} did not {verb} {resource}/{name}"
    return found[0]
