"""What a newcomer does after the first answer: ask why, take the operator away, and put it back."""

import os
import subprocess
import sys
from typing import Any

from e2e.load import Schedule
from e2e.stack import OPERATOR_PODS_PATH, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.losses import none_lost
from e2e.tests.resources import GATEWAY_NODE_PORT, auto, changed, replicas, static
from e2e.tests.test_drain import uids

Json = dict[str, Any]
LOAD = Schedule.steady(requests_per_second=4, seconds=120, input_tokens=300, output_tokens=100)


def kubectl_dopd(stack: Stack, *arguments: str) -> str:
    """What `kubectl dopd` prints as the cluster's administrator.

    Raises:
        AssertionError: it ended with another exit status than 0.
    """
    environment = os.environ | {"KUBECONFIG": str(stack.cluster.kubeconfig), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "dopd.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"$ kubectl dopd {' '.join(arguments)}\n{done.stdout}")
    return done.stdout


def test_status_and_explain_tell_why_there_are_so_many_workers(stack: Stack, apply: Apply) -> None:
    name = apply(auto("asked", router__service={"type": "NodePort", "nodePort": GATEWAY_NODE_PORT}))
    until_ready(stack, name)
    with none_lost(stack, LOAD):

        def planned() -> bool:
            load: Json = (stack.inference(name) or {}).get("status", {}).get("load", {})
            return all(load.get(of, {}).get("requestsPerSecond", 0) > 3 for of in ("demand", "prefill", "decode"))

        wait_for(planned, "the load is planned for", timeout_seconds=90)
        told, why = kubectl_dopd(stack, "status", name), kubectl_dopd(stack, "explain", name)
    resource = stack.inference(name) or {}
    assert f"default/{name}   Auto   Ready" in told
    for role in ("prefill", "decode"):
        desired, ready = (resource["status"][role][key] for key in ("desired", "ready"))
        assert [role, str(desired), str(ready)] in [line.split()[:3] for line in told.splitlines()]
    assert "what arrives now" in why
    assert "the target" in why


def test_without_the_operator_workers_serve_on_and_the_next_one_takes_them_over(stack: Stack, apply: Apply) -> None:
    resource = static("left", prefill=1, decode=1, node_port=GATEWAY_NODE_PORT)
    name = apply(resource)
    until_ready(stack, name)
    before, image = uids(stack, name), stack.operator_image()
    with none_lost(stack, LOAD):
        stack.uninstall_operator()
        wait_for(lambda: not stack.items(OPERATOR_PODS_PATH), "the operator is gone", timeout_seconds=60)
        assert stack.inference(name), "definitions and resources stay"
        assert uids(stack, name) == before
        stack.install_operator(image)
        stack.apply(changed(resource, {"decode__replicas": 2}))
        until_ready(stack, name)
        wait_for(lambda: replicas(stack, name) == (1, 2), "the new operator acts", timeout_seconds=60)
        assert before < uids(stack, name)
