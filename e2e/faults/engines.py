"""Faults of engines, and of pods that never come."""

import copy
import time
from collections.abc import Callable
from typing import Any

from e2e.endurance.rollouts import fillers
from e2e.faults import nodes
from e2e.faults.catalog import Fault, Loses, Outcome
from e2e.faults.trial import Trial
from e2e.stack import MANIFESTS
from e2e.tests.resources import auto

Json = dict[str, Any]
PERIODS_SECONDS = 30.0
"""Two periods of the operator, with its default interval of 15 s."""
LOADING_SECONDS = 20
"""That an engine loads its weights for: a small one. Decode notices after about 10 s that a prefill engine is dead."""
PENDING_SECONDS = 15
DRAIN_SECONDS = 20
_SCRIPT = MANIFESTS / "faults" / "engine.py"
_ARGS: list[str] = auto("any")["spec"]["engine"]["args"]
_CONFIG: Json = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "faulty-engine"},
    "data": {"engine.py": _SCRIPT.read_text()},
}


def _killed(role: str) -> Callable[[Trial], Outcome]:
    def cause(trial: Trial) -> Outcome:
        ground = trial.ground
        victim = ground.pods(role)[0]
        name = victim["metadata"]["name"]
        load = ground.load(name)
        restarts = nodes.restarts(victim)
        trial.begin()
        nodes.kill_container(trial.docker, victim)

        def back() -> bool:
            pod = next(p for p in ground.pods(role) if p["metadata"]["name"] == name)
            return nodes.restarts(pod) > restarts and _worked(ground.load(name)) and ground.settled((3, 3))

        took = trial.until(back, "it serves again")
        held = load.get("num_running_reqs", 0) + load.get("num_waiting_reqs", 0)
        longest = LOADING_SECONDS + PERIODS_SECONDS
        late = (f"took longer than its start and two periods, {longest:.0f} s",) if took > longest else ()
        return Outcome(f"{took:.0f} s after the kill", late, f"it held {held} requests at the look before")

    return cause


def _back_at_once(trial: Trial) -> Outcome:
    """The engine is there again before decode notices: in its pod, or in another one."""
    ground = trial.ground
    victim = ground.pods("prefill")[0]
    uid, restarts = victim["metadata"]["uid"], nodes.restarts(victim)
    trial.begin()
    nodes.kill_container(trial.docker, victim)

    def well() -> bool:
        pods = {pod["metadata"]["uid"]: pod for pod in ground.pods("prefill")}
        return (uid not in pods or nodes.restarts(pods[uid]) > restarts) and ground.settled((3, 3))

    took = trial.until(well, "all serve")
    replaced = uid not in {pod["metadata"]["uid"] for pod in ground.pods("prefill")}
    return Outcome(f"{took:.0f} s after the kill, {'in another pod' if replaced else 'in its pod'}")


def _worked(load: Json) -> bool:
    """Whether an engine was sent requests since it started. Its warm-up is one token."""
    return bool(load and (load["num_running_reqs"] or load["total_prefill_uncached_tokens"] > 1))


def _faulty(fault: str) -> dict[str, Any]:
    """A resource whose engines run the script of this fault."""
    spec = copy.deepcopy(auto("any")["spec"])
    changes: dict[str, Any] = {"engine__command": ["python3", "/faulty/engine.py"]}
    changes["engine__env"] = [*spec["engine"]["env"], {"name": "FAULT", "value": fault}]
    for role in ("prefill", "decode"):
        pod = spec[role]["template"]["spec"]
        pod["containers"][0]["volumeMounts"].append({"name": "faulty", "mountPath": "/faulty"})
        pod["volumes"].append({"name": "faulty", "configMap": {"name": "faulty-engine"}})
        changes[f"{role}__template"] = spec[role]["template"]
    changes["scaling__behavior__drainDeadline"] = f"{DRAIN_SECONDS}s"
    return changes


def _never_idle(trial: Trial) -> Outcome:
    trial.begin()
    trial.ground.scale((1, 2))
    took = trial.until_settled((1, 2))
    early = (f"released after {took:.0f} s, before drainDeadline",) if took < DRAIN_SECONDS else ()
    return Outcome(f"{took:.0f} s after the scale-down (drainDeadline {DRAIN_SECONDS} s)", early)


def _lies(trial: Trial) -> Outcome:
    trial.begin()
    trial.ground.scale((1, 1))
    took = trial.until_settled((1, 1))
    return Outcome(f"{took:.0f} s after the scale-down")


def _pending(trial: Trial) -> Outcome:
    ground = trial.ground
    with fillers(trial.stack):
        trial.begin()
        ground.scale((2, 4))
        trial.until(lambda: len(ground.pods("decode")) > 2, "pods that wait for a node")
        back = trial.until(lambda: len(ground.pods("decode")) == 2, "they are given back", 120)
        prefill = len(ground.pods("prefill"))
        freed = time.monotonic()
    trial.until_settled((2, 4), 240)
    took = time.monotonic() - freed
    short = () if prefill == 2 else (f"prefill had {prefill} workers",)
    words = (
        f"given back after {back:.0f} s (pendingDeadline {PENDING_SECONDS} s); well {took:.0f} s after GPUs were free"
    )
    return Outcome(words, short)


FAULTS: dict[str, Fault] = {
    **{
        f"{role}-killed": Fault(
            f"kill -9 of a {role} engine, one of three",
            "Nothing is needed of it: gateways leave the engine out while it is not ready, its kubelet starts it again"
            " in its pod. The other side gives the KV cache back",
            _killed(role),
            Loses.OWN,
            changes={"engine__args": [*_ARGS, "--sim-startup-seconds", str(LOADING_SECONDS)]},
        )
        for role in ("decode", "prefill")
    },
    "prefill-back-at-once": Fault(
        "kill -9 of a prefill engine that serves again before decode notices (3 s)",
        "The label goes until the engine has answered with each decode worker. Those that keep the dead one's address"
        " do not answer: after three canaries the pod is replaced by one with another address",
        _back_at_once,
        Loses.OWN,
    ),
    "pending": Fault(
        "A worker that no node can take",
        "`WorkersAvailable` names the pod and what it lacks. After `spec.rollout.pendingDeadline` the pod is given"
        " back, and tried anew after the same time; the other role keeps its workers",
        _pending,
        workers=(2, 2),
        changes={"rollout__pendingDeadline": f"{PENDING_SECONDS}s"},
    ),
    "never-idle": Fault(
        "An engine that never gets idle",
        "It leaves the gateways, and is deleted at `spec.scaling.behavior.drainDeadline`; what it runs then has the"
        " pod's grace period",
        _never_idle,
        workers=(2, 2),
        changes=_faulty("never-idle"),
        needs=(_CONFIG,),
    ),
    "lies": Fault(
        "An engine that says it is idle while it works",
        "It is deleted as soon as no gateway lists it. preStop and SIGTERM let it finish what it runs, within the grace"
        " period",
        _lies,
        workers=(2, 2),
        changes=_faulty("lies"),
        answer_tokens=(1500, 3000),
        needs=(_CONFIG,),
    ),
}
