"""Which gateways need a stand-in: those of a resource that sleeps or wakes, so that clients are told to come again.

See `dopd.telemetry.stand_in` for what it is. Level-based: each pass says anew what each gateway should have.
"""

import asyncio

from dopd.api.conditions import ConditionReason
from dopd.api.names import ROUTER_POOL, Role
from dopd.cluster import PodPost, PostWithKey
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Trouble
from dopd.telemetry.stand_in import ASIDE, write_stand_in


def wanted_stand_ins(observed: Observed) -> dict[str, str]:
    """The model that the stand-in of each gateway that answered should be of, by pod name; "" for none. Pure."""
    view, spec = observed.gateway, observed.spec
    routed = dict(zip(view.answered, view.roles, strict=True))
    idle = spec is not None and spec.scaling is not None and spec.scaling.idle is not None
    expected = any(worker.labelled and worker.ready for role in Role for worker in observed.workers[role])
    serving = expected and any(set(roles.values()) >= set(Role) for roles in routed.values())
    if spec is None or not idle or serving:
        return dict.fromkeys(routed, "")

    def model(name: str) -> str:
        if not view.lists.get(name):
            return ASIDE
        if not (expected and routed[name]):
            # Its last workers leave, and with them what it knows of the model. No alias can be added before they have.
            return spec.model
        # The first worker of a wake is there. One more prefill worker of the model would make a decode worker look
        # like half of a pair that does not fit, for which SMG has no Retry-After.
        return ASIDE if name in view.stand_ins else ""

    return {name: model(name) for name in routed}


async def write_stand_ins(http: PodPost, observed: Observed) -> list[Trouble]:
    """Bring each gateway's stand-in to what it should be; what went wrong."""
    if observed.spec is None:
        return []
    spec, there = observed.spec, observed.gateway.stand_ins
    pods = {pod["metadata"]["name"]: pod for pod in observed.pods[ROUTER_POOL]}
    changes = {
        name: model
        for name, model in wanted_stand_ins(observed).items()
        if model != (there[name].model if name in there else "") and not (name in there and there[name].going)
    }

    async def one(name: str, model: str) -> str:
        keyed = PostWithKey(http, observed.gateway_key(pods[name]))
        return await write_stand_in(keyed, pods[name], there.get(name), model, spec.model, spec.ip_family)

    problems = await asyncio.gather(*(one(name, model) for name, model in changes.items()))
    return [
        Trouble(ConditionReason.PASS_FAILED, f"the stand-in of gateway {name}: {problem}")
        for name, problem in zip(changes, problems, strict=True)
        if problem
    ]
