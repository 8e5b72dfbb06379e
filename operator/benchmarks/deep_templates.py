"""How soon a change is carried out beside resources whose templates are nested 1,500 deep.

Usage: python operator/benchmarks/deep_templates.py [--changes 30] [--deep 8]

A real API server and the operator as a process. In one namespace a resource of two static roles is changed again and
again: the time from the answer to the change until the Deployment has the new number of replicas, looked at each 10 ms.
First alone, then beside resources of another namespace that are nested too deep, one of which is written anew before
each change, so that it is passed over at the same moment; each such write costs the API server itself seconds. Printed
are lines of JSON, seconds.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "controlplane"))

from operator_process import OperatorProcess
from resources import connect, eventually, expected_children, inference

from dopd.cluster import kinds
from e2e.cluster.controlplane import control_plane

LEVELS = 1_500
MERGE = {"Content-Type": "application/merge-patch+json"}


def deep(name: str, number: int) -> str:
    """Manifest of a resource that is nested too deep; each number makes another one."""
    manifest = json.loads(inference(name))
    manifest["spec"]["prefill"]["template"] = {"spec": {"affinity": "DEEP"}}
    nested = '{"a":' * LEVELS + str(number) + "}" * LEVELS
    return json.dumps(manifest).replace('"DEEP"', nested)


def write(api: httpx.Client, namespace: str, name: str, number: int) -> None:
    """Create or replace such a resource."""
    path, text = kinds.INFERENCE.path(namespace), deep(name, number)
    if number == 0:
        answer = api.post(path, content=text, headers={"Content-Type": "application/json"}, timeout=30)
    else:
        spec = text[text.index('"spec": ') :]
        answer = api.patch(f"{path}/{name}", content="{" + spec, headers=MERGE, timeout=30)
    answer.raise_for_status()


def reaction_seconds(api: httpx.Client, namespace: str, replicas: int) -> float:
    """From the answer to a change until its Deployment has it."""
    path = kinds.INFERENCE.path(namespace, "m")
    api.patch(path, json={"spec": {"decode": {"replicas": replicas}}}, headers=MERGE).raise_for_status()
    began = time.monotonic()
    deployment = kinds.DEPLOYMENT.path(namespace, "m-decode")
    while api.get(deployment).raise_for_status().json()["spec"]["replicas"] != replicas:
        time.sleep(0.01)
    return time.monotonic() - began


def measure(api: httpx.Client, changes: int, others: int) -> None:
    """Make changes, each beside `others` that are written anew; print what they took."""
    for number in range(others):
        write(api, "deep", f"deep-{number}", 0)
    taken = []
    for change in range(changes):
        if others:
            write(api, "deep", f"deep-{change % others}", change + 1)
        taken.append(reaction_seconds(api, "victim", 2 + change % 2))
        time.sleep(1.0)
    ranked = sorted(taken)
    told = {
        "deep_resources": others,
        "changes": changes,
        "median": round(statistics.median(ranked), 3),
        "p90": round(ranked[int(0.9 * (len(ranked) - 1))], 3),
        "most": round(ranked[-1], 3),
    }
    print(json.dumps(told), flush=True)


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--deep", type=int, default=8)
    options = parser.parse_args()
    with control_plane() as plane, tempfile.TemporaryDirectory() as folder:
        plane.kubectl("apply", f"--filename={Path(__file__).parents[2] / 'crds'}")
        plane.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=20s")
        for namespace in ("victim", "deep"):
            plane.kubectl("create", "namespace", namespace)
        operator = OperatorProcess(plane.kubeconfig, Path(folder) / "log", "--lease-seconds", "15")
        operator.start()
        try:
            with connect(plane.kubeconfig) as api:
                headers = {"Content-Type": "application/json"}
                api.post(kinds.INFERENCE.path("victim"), content=inference("m", 1, 1), headers=headers)
                eventually(lambda: expected_children(api, "victim", {"m": (1, 1)}), "the children")
                measure(api, options.changes, 0)
                measure(api, options.changes, options.deep)
                measure(api, options.changes, 0)
        finally:
            operator.stop()


if __name__ == "__main__":
    main()
