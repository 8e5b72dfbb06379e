"""Sleep and wake of a whole resource: the real operator on an API server in memory, gateways that count requests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from dopd.api.names import POOL_LABEL, ROLE_LABEL, ROUTER_METRICS_PORT, ROUTER_POOL, Role
from dopd.cluster import kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler

from ..reconcile.test_scaling import Loads
from .api import NAMESPACE, MemoryApi
from .scenarios import BOTH, CAP, spec
from .test_every_write import PROFILE
from .world import NAME, World, is_ready

Json = dict[str, Any]
KEY = Key(NAMESPACE, NAME)
MODEL = "m"
AFTER_SECONDS = 60
pytestmark = pytest.mark.timeout(180)


@dataclass
class Row:
    """The stand-in in a gateway's list: of which model, and whether the real one is still its alias."""

    model: str
    alias: bool = False


@dataclass
class Quiet(World):
    """A cluster whose engines hold nothing, and whose gateways answer as SMG 1.13.0 does.

    Attributes:
        counted: requests that the first gateway has counted; others none.
        silent: it does not tell how many.
        first: name of that gateway.
        loads: what Prometheus tells.
        stand_ins: in the lists of gateways, by uid.
        written: to their control planes.
        answers: what a client got from each gateway that the Service sends to, pass by pass.
    """

    counted: int = 7
    silent: bool = False
    first: str = ""
    loads: Loads = field(default_factory=lambda: Loads([0.0]))
    stand_ins: dict[str, Row] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    async def get_json(self, pod: Json, *arguments: Any, **named: Any) -> Any:
        self.requests.clear()
        answer = await super().get_json(pod, *arguments, **named)
        if row := self.stand_ins.get(pod["metadata"]["uid"]):
            url = {"url": "http://127.0.0.1:8000", "id": "u", "worker_type": "prefill"}
            answer["workers"].append({**url, "status": "ready", "model_id": row.model})
        return answer

    async def write_json(self, pod: Json, port: int, method: str, path: str, body: Any, *_: Any) -> tuple[int, Any]:
        uid = pod["metadata"]["uid"]
        self.written.append(method)
        assert (path == "/workers") == (method == "POST") == (uid not in self.stand_ins)
        if method == "DELETE":
            del self.stand_ins[uid]
        else:
            [model] = body["models"]
            self.stand_ins[uid] = Row(model["id"], bool(model.get("aliases")) and not self.lists.get(uid))
        return 202, {}

    def pass_time(self) -> None:
        super().pass_time()
        for uid, mine in self.lists.items():
            if uid in self.stand_ins and mine:
                self.stand_ins[uid].alias = False
        reached = [p for p in self.pods(ROUTER_POOL) if p["metadata"]["uid"] in self.lists]
        if not self.service.get("publishNotReadyAddresses"):
            reached = [p for p in reached if is_ready(p)]
        self.answers += [self.answer(pod["metadata"]["uid"]) for pod in reached]

    def answer(self, gateway: str) -> str:
        """Of SMG with service discovery, by what its list has."""
        workers = {p["metadata"]["uid"]: p["metadata"]["labels"][POOL_LABEL] for p in self.workers()}
        roles, row = {workers[uid] for uid in self.lists[gateway]}, self.stand_ins.get(gateway)
        if roles == set(Role):
            return "200"
        if "decode" in roles and row and row.model == MODEL:
            return "503 no_compatible_pd_pair"
        return "503" if roles or (row and (row.model == MODEL or row.alias)) else "404"

    async def get_text(self, pod: Json, port: int, path: str) -> str:
        if port != ROUTER_METRICS_PORT:
            return ""
        self.first = self.first or pod["metadata"]["name"]
        count = self.counted if pod["metadata"]["name"] == self.first else 0
        return f"smg_router_requests_total {'NaN' if self.silent else count}\n"

    def operator(self) -> Reconciler:
        return Reconciler(
            self.api,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            prometheus_url="http://prometheus",
            now=lambda: datetime.fromtimestamp(self.api.seconds, UTC),
            monotonic=lambda: self.api.seconds,
            loads=self.loads,  # type: ignore[arg-type]
        )

    @property
    def service(self) -> Json:
        found: Json = self.api.objects["Service", "m-router"]["spec"]
        return found

    @property
    def resource(self) -> Json:
        found: Json = self.api.objects[kinds.INFERENCE.kind, NAME]
        return found

    @property
    def ready(self) -> tuple[str, str]:
        conditions = self.resource["status"]["conditions"]
        return next((c["status"], c["reason"]) for c in conditions if c["type"] == "Ready")

    @property
    def reason(self) -> str:
        return str(self.resource["status"]["decisions"][0]["reason"])


def quiet(**scaling: Any) -> Quiet:
    world = Quiet(MemoryApi(), CAP)
    world.api.put(kinds.PROFILE, {"metadata": {"name": "p"}, "spec": PROFILE})
    behavior = {"interval": "5s", "scaleDownStabilization": "1s"}
    of = {"profileRef": {"name": "p"}, "behavior": behavior, "idle": {"after": f"{AFTER_SECONDS}s"}, **BOTH, **scaling}
    world.create(**{**spec(1, 1), "scaling": of})
    return world


async def passes(world: Quiet, operator: Reconciler, count: int) -> None:
    for _ in range(count):
        await operator.reconcile(KEY)
        world.pass_time()
        assert not world.violations


async def until(world: Quiet, operator: Reconciler, workers: int, most: int = 3 * AFTER_SECONDS) -> int:
    """Passes until so many workers are there and nothing moves."""
    for taken in range(most):
        if len(world.workers()) == workers and world.settled():
            return taken
        await passes(world, operator, 1)
    raise AssertionError(f"not {workers} workers: {world.state()}")


async def slept(world: Quiet) -> Reconciler:
    operator = world.operator()
    await until(world, operator, 2)
    await until(world, operator, 0)
    await passes(world, operator, 3)
    return operator


async def test_both_roles_go_to_zero_by_the_drain_and_the_gateway_stays():
    world = quiet()
    operator = world.operator()
    await until(world, operator, 2)
    await passes(world, operator, 3)
    assert "publishNotReadyAddresses" not in world.service
    assert await until(world, operator, 0) >= AFTER_SECONDS - 15
    await passes(world, operator, 3)
    assert len(world.pods(ROUTER_POOL)) == 1
    assert world.service["publishNotReadyAddresses"] is True, "clients reach a gateway that says 503"
    assert world.answers[-1] == "503"
    assert world.ready == ("True", "Asleep")
    assert world.reason == "Idle"
    status = world.resource["status"]
    assert [status[role]["summary"] for role in ("prefill", "decode")] == ["0/0", "0/0"]


async def test_at_zero_it_writes_nothing():
    world = quiet()
    operator = await slept(world)
    world.api.writes.clear()
    world.written.clear()
    await passes(world, operator, 40)
    assert world.api.writes == []
    assert world.written == []


async def test_the_first_request_wakes_both_roles_between_two_passes():
    world = quiet()
    operator = await slept(world)
    watched = operator.backlogs._watched[KEY]
    assert not await operator.backlogs.needs_more(watched.observed, watched.loop)
    world.counted += 1
    assert await operator.backlogs.needs_more(watched.observed, watched.loop)
    await passes(world, operator, 1)
    assert len(world.workers()) == 2, "both at once"
    assert world.ready[0] == "False"
    assert world.service["publishNotReadyAddresses"] is True, "until one serves"
    assert world.reason == "FirstRequest"
    await until(world, operator, 2)
    await passes(world, operator, 3)
    assert world.ready == ("True", "AsExpected")
    assert "publishNotReadyAddresses" not in world.service
    assert await until(world, operator, 0) >= AFTER_SECONDS - 15, "a wake holds"


TOLD_TO_COME_AGAIN = {"200", "503"}


async def test_clients_get_whole_answers_or_503_from_the_first_silence_to_the_second():
    world = quiet()
    operator = world.operator()
    await until(world, operator, 2)
    await passes(world, operator, 3)
    world.answers.clear()
    world.written.clear()
    for _ in range(2):
        await until(world, operator, 0)
        await passes(world, operator, 5)
        assert world.answers[-1] == "503"
        world.counted += 1
        await until(world, operator, 2)
        await passes(world, operator, 5)
        assert world.answers[-1] == "200"
    assert set(world.answers) == TOLD_TO_COME_AGAIN
    assert world.written == ["POST", "PUT", "DELETE"] * 2, "and while they serve no gateway has more than workers"


async def test_the_worker_of_one_role_that_is_there_long_before_the_other_changes_no_answer():
    world = quiet()
    operator = await slept(world)
    world.answers.clear()
    world.counted += 1
    await passes(world, operator, 1)
    [late] = world.pods(Role.PREFILL)
    for _ in range(20):
        world.born[late["metadata"]["uid"]] = world.tick  # its node takes longer
        await passes(world, operator, 1)
    assert [world.listed(pod) for pod in world.pods(Role.DECODE)] == [True]
    assert set(world.answers) == {"503"}
    await until(world, operator, 2)
    await passes(world, operator, 3)
    assert set(world.answers) == TOLD_TO_COME_AGAIN


async def test_a_gateway_that_begins_anew_while_all_sleep_knows_the_model_again():
    world = quiet()
    operator = await slept(world)
    world.stand_ins.clear()
    await passes(world, operator, 2)
    assert world.answers[-1] == "503"
    await passes(world, world.operator(), 2)
    assert world.written[-1] == "POST"
    assert world.answers[-2:] == ["503", "503"]


async def test_without_the_field_a_gateways_stand_in_goes():
    world = quiet()
    operator = await slept(world)
    world.change(scaling={"idle": None})
    await until(world, operator, 2)
    assert world.stand_ins == {}


async def test_a_request_while_the_last_workers_drain_takes_the_same_workers_back():
    world = quiet()
    operator = world.operator()
    await until(world, operator, 2)
    before = {pod["metadata"]["uid"] for pod in world.workers()}
    while any(ROLE_LABEL in pod["metadata"]["labels"] for pod in world.workers()):
        await passes(world, operator, 1)
    world.counted += 1
    await until(world, operator, 2)
    await passes(world, operator, 10)
    assert set(world.answers[-10:]) == {"200"}
    assert {pod["metadata"]["uid"] for pod in world.workers()} == before
    assert all(world.listed(pod) for pod in world.workers())


async def test_an_operator_that_begins_anew_at_each_pass_sleeps_on_and_wakes_by_what_prometheus_tells():
    world = quiet()
    await slept(world)
    for _ in range(20):
        await passes(world, world.operator(), 1)
    assert world.workers() == []
    world.loads.rates = [0.0, 2.0]
    await passes(world, world.operator(), 3)
    assert len(world.workers()) == 2


async def test_a_gateway_that_does_not_tell_what_it_counts_keeps_workers():
    world = quiet()
    world.silent = True
    operator = world.operator()
    await until(world, operator, 2)
    await passes(world, operator, 2 * AFTER_SECONDS)
    assert len(world.workers()) == 2


@pytest.mark.parametrize("mode", ["Advise", "Paused", "External"])
async def test_other_modes_put_nobody_to_sleep(mode: str):
    world = quiet(mode=mode)
    operator = world.operator()
    await until(world, operator, 2)
    await passes(world, operator, 2 * AFTER_SECONDS)
    assert len(world.workers()) == 2


async def test_a_sleeper_that_is_paused_stays_asleep_and_one_that_a_scaler_drives_wakes():
    world = quiet()
    operator = await slept(world)
    world.change(scaling={"mode": "Paused"})
    world.counted += 1
    await passes(world, operator, 20)
    assert world.workers() == []
    assert world.ready == ("True", "Asleep")
    world.change(scaling={"mode": "External"})
    await until(world, operator, 2)


async def test_a_rollout_while_asleep_wakes_nobody_and_the_next_wake_is_of_the_new_spec():
    world = quiet()
    operator = await slept(world)
    world.change(engine={"image": "engine:2"})
    await passes(world, operator, 20)
    assert world.workers() == []
    world.counted += 1
    await until(world, operator, 2)
    await passes(world, operator, 20)
    assert {pod["spec"]["containers"][0]["image"] for pod in world.workers()} == {"engine:2"}
    assert all(world.listed(pod) for role in Role for pod in world.pods(role))
