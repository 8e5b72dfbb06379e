"""Holding the workers as they are, whatever moment the look falls into."""

from dataclasses import replace
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.reconcile.observe import Observed
from dopd.reconcile.reconciler import _held
from dopd.rollout import Worker
from dopd.telemetry.gateway import GatewayView

SERVING = Worker("a", labelled=True, ready=True, scheduled=True, created_seconds=0.0, registered=True, idle=False)
DRAINING = replace(SERVING, name="b", labelled=False, draining_since_seconds=1.0)


def look(desired: int | None, *workers: Worker) -> Observed:
    resource: dict[str, Any] = {"metadata": {"name": "m", "namespace": "ns", "uid": "u"}}
    if desired is not None:
        resource["status"] = {"decode": {"desired": desired, "ready": 0, "summary": ""}}
    return Observed(
        resource=resource,
        spec=None,
        spec_problem="",
        children={},
        pods={},
        ending={},
        finished={},
        gateway=GatewayView(frozenset(), (), ()),
        loads={},
        workers={Role.DECODE: list(workers)},
        model="",
    )


@pytest.mark.parametrize(
    ("observed", "held"),
    [
        (look(None), 2),
        (look(1, SERVING), 1),
        (look(1, SERVING, DRAINING), 1),
        (look(3, SERVING), 3),
        (look(2), 2),
        (look(None, SERVING, DRAINING), 1),
    ],
    ids=["new", "settled", "draining", "growing", "all of them lost", "its status lost"],
)
def test_held(observed: Observed, held: int):
    assert _held(observed, Role.DECODE, at_first=2) == held


def test_a_worker_that_no_gateway_lists_any_more_can_serve_again_at_once():
    let_go, broken = replace(DRAINING, registered=False), replace(DRAINING, registered=False, ready=False)
    counts = look(2, SERVING, DRAINING, let_go, broken).role_counts(Role.DECODE)
    assert (counts.serving, counts.draining, counts.returning) == (1, 3, 1)
