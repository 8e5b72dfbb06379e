"""A row in a gateway's list that is no worker, so that a gateway without workers knows the model.

SMG 1.13.0 with service discovery answers 404 `model_not_found` for a model that no worker in its list has, which tells
a client never to ask again; with one role of the model in its list it answers 503 with Retry-After. The stand-in is a
prefill worker at the gateway's own port (SMG lists none that does not answer). No request gets to it: it is said to be
of vLLM, and SMG pairs no prefill worker with a decode worker of another engine.

The door for it: the answers of SMG's control plane.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from dopd.api.inference import IpFamily
from dopd.api.names import ROUTER_PORT
from dopd.cluster.podhttp import PodHttpError, PodPost
from dopd.telemetry.doors import printable

WRITE_SECONDS = 5.0
_HOSTS = {IpFamily.IPV4: "127.0.0.1", IpFamily.IPV6: "[::1]"}
STAND_IN_ADDRESSES = frozenset(f"{host}:{ROUTER_PORT}" for host in _HOSTS.values())
"""As a gateway lists them; no pod has such an address."""

ASIDE = "dopd-asleep"
"""Name of the model of a stand-in that knows the real one as an alias. SMG forgets the alias as soon as a worker has a
model of that name, and the stand-in is no prefill worker of that model from then on."""


@dataclass(frozen=True)
class StandIn:
    """One in a gateway's list.

    Attributes:
        id: by which SMG knows it.
        model: whose worker it says to be: the real one, or `ASIDE`.
        going: it is being removed.
    """

    id: str
    model: str
    going: bool = False


async def write_stand_in(
    http: PodPost, gateway: dict[str, Any], there: StandIn | None, model: str, served: str, family: IpFamily
) -> str:
    """Add, change or remove the stand-in of a gateway.

    Args:
        http: the way to it.
        gateway: its pod.
        there: the one that it has.
        model: what it should say to be of, the served one or `ASIDE`; "" for none at all.
        served: the model that clients ask for.
        family: of the addresses on which the gateway listens.

    Returns:
        What went wrong, "" when nothing did.
    """
    path = f"/workers/{there.id}" if there else "/workers"
    method = "POST" if there is None else "PUT" if model else "DELETE"
    body = _spec(model, served, family) if model else None
    try:
        status, answer = await http.write_json(gateway, ROUTER_PORT, method, path, body, WRITE_SECONDS)
    except PodHttpError as error:
        return printable(str(error))
    if status in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
        return ""  # a conflict: the one before is not gone yet; not found: it is
    return printable(f"{method} {path}: status {status}: {answer}")[:500]


def _spec(model: str, served: str, family: IpFamily) -> dict[str, Any]:
    aliases = {} if model == served else {"aliases": [served]}
    return {
        "url": f"http://{_HOSTS[family]}:{ROUTER_PORT}",
        "worker_type": "prefill",
        "runtime_type": "vllm",
        "models": [{"id": model, **aliases}],
        "load_monitor_interval_secs": 3600,  # it has no load; SMG would ask it each second, and log that each time
    }
