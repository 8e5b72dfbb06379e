"""Process: an operator on kopf that watches what ours watches and does nothing, as the floor of what can be had.

Usage: python -m e2e.scale.floor, with KUBECONFIG.
"""

import asyncio
from typing import Any

import kopf

from dopd.api.base import GROUP, VERSION
from dopd.cluster import kinds

KINDS = (*kinds.CHILD_KINDS, kinds.POD)


def registry() -> kopf.OperatorRegistry:
    """Handlers that do nothing."""
    handlers = kopf.OperatorRegistry()

    async def nothing(**_: Any) -> None:
        pass

    async def login(*, settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(settings=settings)

    kopf.on.login(registry=handlers)(login)  # which a registry of one's own has not
    kopf.on.event(GROUP, VERSION, kinds.INFERENCE.plural, registry=handlers)(nothing)
    for kind in KINDS:
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers)(nothing)
    return handlers


def settings() -> kopf.OperatorSettings:
    """As a plain operator has them, but that it writes nothing."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    for kind in KINDS:
        chosen.watching.label_selectors[kind.group, kind.version, kind.plural] = "dopd.dev/instance"
    return chosen


if __name__ == "__main__":
    asyncio.run(kopf.operator(registry=registry(), settings=settings(), clusterwide=True))
