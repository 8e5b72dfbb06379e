from typing import Any

from e2e.endurance.cap import held

OPERATOR = "system:serviceaccount:dopd-system:dopd"
KUBELET = "system:node:worker"


def event(second: int, verb: str, pod: str, *, by: str = OPERATOR, part: str = "", code: int = 201) -> dict[str, Any]:
    return {
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": by},
        "requestURI": f"/api/v1/namespaces/default/pods/{pod}",
        "objectRef": {"resource": "pods", "name": pod, "subresource": part},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": f"2026-11-24T10:00:{second:02}.000000Z",
    }


def gpus(*events: dict[str, Any]) -> list[int]:
    return [each.gpus for each in held(events, "m")]


def test_a_worker_holds_its_gpu_from_its_creation_until_its_kubelet_says_that_it_is_gone() -> None:
    counted = gpus(
        event(1, "create", "m-prefill-a"),
        event(2, "create", "m-prefill-a", part="binding"),
        event(3, "create", "m-decode-b"),
        event(4, "delete", "m-prefill-a", code=200),
        event(9, "delete", "m-prefill-a", by=KUBELET, code=200),
    )
    assert counted == [1, 2, 1]


def test_a_worker_that_never_had_a_node_is_gone_when_it_is_deleted() -> None:
    assert gpus(event(1, "create", "m-prefill-a"), event(2, "delete", "m-prefill-a", code=200)) == [1, 0]


def test_what_was_refused_tried_out_or_is_no_worker_does_not_count() -> None:
    dry = event(3, "create", "m-decode-c")
    dry["requestURI"] += "?dryRun=All"
    evicted = event(4, "create", "m-prefill-a", part="eviction")
    others = [event(1, "create", "m-prefill-b", code=409), event(2, "create", "m-router-x"), dry, evicted]
    assert gpus(event(0, "create", "m-prefill-a"), *others) == [1]


def test_events_count_in_the_order_in_which_they_were_received() -> None:
    assert gpus(event(5, "delete", "m-prefill-a", code=200), event(1, "create", "m-prefill-a")) == [1, 0]
