"""Engines as processes: simulated ones and real ones, asserted alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from dopd.api.names import Role
from e2e.sglang.engines import StartedEngine, StartedPair, start_engine, start_gateway, start_simulator
from e2e.sglang.fleet import Fleet, Server

TEST_SECONDS = 300
KINDS = ("simulated", "real")
START = {"simulated": start_simulator, "real": start_engine}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real starts take real time; installing SGLang, which a fixture may do, is not limited."""
    for item in items:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))
        kind = getattr(item, "callspec", None) and item.callspec.params.get("kind")  # type: ignore[attr-defined]
        if kind == "simulated" and (mark := item.get_closest_marker("differs")):
            item.add_marker(pytest.mark.xfail(reason=mark.args[0], strict=True))


@dataclass(frozen=True)
class Served:
    """Engines that are ready, with a gateway before the pair."""

    regular: StartedEngine
    pair: StartedPair
    gateway: Server

    @property
    def engines(self) -> dict[str, StartedEngine]:
        """All of them by what they are."""
        return {"regular": self.regular, "prefill": self.pair.prefill, "decode": self.pair.decode}


@contextmanager
def serve(kind: str) -> Iterator[Served]:
    """Start a regular engine, a pair with the operator's flags, and a gateway; end them afterwards."""
    start = START[kind]
    with Fleet() as fleet:
        pair = StartedPair(start(fleet, Role.PREFILL), start(fleet, Role.DECODE))
        served = Served(start(fleet, None), pair, start_gateway(fleet, pair))
        fleet.wait_until_ready()
        yield served


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What is under test."""
    return str(request.param)


@pytest.fixture(scope="module")
def served(kind: str) -> Iterator[Served]:
    """One set of engines for a module's tests."""
    with serve(kind) as each:
        yield each
