"""`dopd doctor` on the Leases of shards."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from dopd.cli.installation import check_shards
from dopd.cluster.client import Kubernetes

SHARDS = 3


def lease(name: str, holder: str, age_seconds: float) -> dict[str, Any]:
    renewed = datetime.now(UTC) - timedelta(seconds=age_seconds)
    spec = {"holderIdentity": holder, "renewTime": renewed.isoformat(), "leaseDurationSeconds": 1}
    return {"metadata": {"name": name, "namespace": "ops"}, "spec": spec}


class Leases:
    """The API server, as far as it is asked."""

    def __init__(self, read: Callable[[], list[dict[str, Any]]]) -> None:
        self.read = read

    async def list(self, *_: object) -> list[dict[str, Any]]:
        return self.read()


def shards(age_seconds: float, holder: str = "b_1") -> list[dict[str, Any]]:
    """One of a, the others of another holder."""
    return [lease(f"dopd-shard-{number}", "a_1" if number == 0 else holder, age_seconds) for number in range(SHARDS)]


LAYOUT = lease("dopd", f"{SHARDS}-shards-of-15-s", 0)


@pytest.mark.parametrize("ahead_seconds", [0.0, 90.0, -90.0])
async def test_shards_that_are_renewed_are_held_whatever_our_clock_says(ahead_seconds: float):
    ages = iter([ahead_seconds + 0.5, ahead_seconds + 0.1])
    leases = Leases(lambda: shards(next(ages)))
    check = await check_shards(cast(Kubernetes, leases), LAYOUT, leases.read())
    assert check is not None
    assert "3 shards are held by 2 processes: a_1, b_1" in str(check)


@pytest.mark.parametrize("later", ["the same", "given back", "gone"])
async def test_a_shard_that_nobody_renews_has_nobody(later: str):
    old = shards(90)
    given_back = [*old[:2], lease("dopd-shard-2", "", 0)]
    answers = {"the same": [*shards(0)[:2], old[2]], "given back": given_back, "gone": shards(0)[:2]}
    check = await check_shards(cast(Kubernetes, Leases(lambda: answers[later])), LAYOUT, old)
    assert check is not None
    assert "nobody acts for" in str(check)
    assert "dopd-shard-2" in str(check)
