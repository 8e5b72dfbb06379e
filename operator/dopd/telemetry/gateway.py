"""What the gateway believes: its list of workers (SMG `GET /workers`), compared with what should be there.

The door for it: a row is a worker, or makes it unknown who else that gateway pod lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from dopd.api.names import ROUTER_PORT
from dopd.cluster.podhttp import PodHttp, PodHttpError
from dopd.telemetry.addresses import listed_address
from dopd.telemetry.doors import Answer, BadAnswer, printable, validated
from dopd.telemetry.patience import LOOK_SECONDS, answers_within
from dopd.telemetry.stand_in import STAND_IN_ADDRESSES, StandIn

MOST_WORKERS = 10_000


@dataclass(frozen=True)
class GatewayView:
    """Workers as the gateway pods list them.

    Attributes:
        listed: addresses (host:port, see `addresses`) that any gateway pod lists, draining ones included.
        roles: for each gateway pod, address to role of the workers that it routes to.
        silent: gateway pods that did not answer, or with a row that can not be read: they may list more.
        problems: why a silent one is silent, by pod name.
        answered: names of the pods of `roles`.
        lists: addresses that each of these lists, draining ones included, by pod name.
        stand_ins: the stand-in that each of these has, by pod name; it is in none of the others.
    """

    listed: frozenset[str]
    roles: tuple[dict[str, str], ...]
    silent: tuple[str, ...]
    problems: Mapping[str, str] = field(default_factory=dict)
    answered: tuple[str, ...] = ()
    lists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict)

    def registered(self, address: str | None) -> bool | None:
        """Whether some gateway may still send requests to an address; None when that is not known."""
        if address in self.listed:
            return True
        return None if self.silent else False


@dataclass(frozen=True)
class Workers:
    """One gateway pod's list.

    Attributes:
        listed: addresses of all workers whose row can be read.
        roles: address to role of those that are routed to.
        problem: which row can not be read, and why; "" when all can.
        stand_in: what the operator put there itself; None without one.
    """

    listed: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    stand_in: StandIn | None = None


def _address(url: str) -> str:
    address = listed_address(url)
    if not address:
        raise ValueError("no URL with a host")
    return address


class _Row(Answer):
    url: Annotated[str, Field(max_length=2048), AfterValidator(_address)]
    worker_type: Annotated[str, Field(max_length=64)]
    status: str | None = None
    id: Annotated[str, Field(max_length=64)] | None = None
    model_id: Annotated[str, Field(max_length=1024)] | None = None


class _List(Answer):
    workers: Annotated[list[Any], Field(max_length=MOST_WORKERS)]


def parse_workers(answer: Any) -> Workers:
    """Read the answer of `/workers` (smg 1.13.0).

    Raises:
        BadAnswer: it is no list of workers at all.
    """
    listed, roles, problem, stand_in = set(), {}, "", None
    for number, row in enumerate(validated(_List, answer).workers):
        try:
            worker = validated(_Row, row)
        except BadAnswer as error:
            problem = problem or f"workers.{number}: {error}"
            continue
        if worker.url in STAND_IN_ADDRESSES and worker.id:
            stand_in = StandIn(worker.id, worker.model_id or "", going=worker.status == "draining")
            continue
        listed.add(worker.url)
        if worker.status != "draining":
            roles[worker.url] = worker.worker_type
    return Workers(frozenset(listed), roles, problem, stand_in)


async def read_gateways(http: PodHttp, pods: Sequence[dict[str, Any]]) -> GatewayView:
    """Ask every gateway pod for its workers."""

    async def one(pod: dict[str, Any]) -> Workers:
        try:
            return parse_workers(await http.get_json(pod, ROUTER_PORT, "/workers"))
        except (PodHttpError, BadAnswer) as error:
            return Workers(problem=printable(str(error)))

    # A gateway pod without an address never got a request and knows no worker.
    asked = [pod for pod in pods if pod.get("status", {}).get("podIP")]
    late = Workers(problem=f"no answer within {LOOK_SECONDS:g} s")
    answers = [answer or late for answer in await answers_within(LOOK_SECONDS, one, asked)]
    names = [pod["metadata"]["name"] for pod in asked]
    problems = {name: a.problem for name, a in zip(names, answers, strict=True) if a.problem}
    whole = {name: a for name, a in zip(names, answers, strict=True) if not a.problem}
    return GatewayView(
        listed=frozenset().union(*(answer.listed for answer in answers)),
        roles=tuple(dict(answer.roles) for answer in whole.values()),
        silent=tuple(problems),
        problems=problems,
        answered=tuple(whole),
        lists={name: answer.listed for name, answer in whole.items()},
        stand_ins={name: answer.stand_in for name, answer in whole.items() if answer.stand_in},
    )
