"""What is told of an exchange, and what counts as the middle of a move."""

from typing import Any

import pytest

from dopd.api.names import FLIP_TO, ROLE_LABEL
from e2e.upgrade.handover import Handover, table
from e2e.upgrade.middles import MIDDLES


class Workers:
    """A ground with these pods."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self._pods = pods

    def pods(self) -> list[dict[str, Any]]:
        return [{"metadata": pod} for pod in self._pods]

    def uids(self) -> set[str]:
        return {pod["uid"] for pod in self._pods}


def worker(uid: str, *, serves: bool = True, flip_to: str = "") -> dict[str, Any]:
    annotations = {FLIP_TO: flip_to} if flip_to else {}
    return {"uid": uid, "labels": {ROLE_LABEL: "decode"} if serves else {}, "annotations": annotations}


SERVE = (worker("a"), worker("b"))


@pytest.mark.parametrize(
    ("name", "there", "under_way"),
    [
        ("drain", SERVE, False),
        ("drain", (worker("a"), worker("b", serves=False)), True),
        ("flip", SERVE, False),
        ("flip", (worker("a"), worker("b", flip_to="prefill")), True),
        ("rollout", SERVE, False),
        ("rollout", (worker("a"), worker("c")), True),
        ("rollout", (worker("c"), worker("d")), False),
    ],
)
def test_a_move_is_under_way_from_its_first_sign_to_its_last(name: str, there: Any, under_way: bool) -> None:
    assert MIDDLES[name].under_way(Workers(*there), {"a", "b"}) is under_way  # type: ignore[arg-type]


def test_each_exchange_is_a_row_and_what_went_wrong_stands_below() -> None:
    well = Handover("upgrade", "a drain", 61.2, 14.9, 120, 0, "nothing", 6)
    ill = Handover("rollback", "a drain", 70.0, 15.0, 100, 2, "2 lost", 7, ["no request should be lost"])
    lines = table([well, ill], "v0.1.0").splitlines()
    assert "| a drain | upgrade | 61 | 15 | 120 | 0 | 6 of 6 |" in lines
    assert lines[-1] == "**a drain, rollback: no request should be lost.**"
