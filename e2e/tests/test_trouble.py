"""Resources that are valid and cannot work say why, name a remedy, and recover when the cause goes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.stack import Stack, condition, wait_for
from e2e.tests.conftest import delete, until_ready
from e2e.tests.resources import changed, static

Json = dict[str, Any]
TAKEN_NODE_PORT = 30091
SQUATTER = "squatter"


@dataclass(frozen=True)
class Trouble:
    """A resource that cannot work.

    Attributes:
        resource: what is applied.
        reason: of the condition that tells.
        words: that its message holds, the remedy among them.
        mend: takes the cause away.
    """

    resource: Json
    reason: str
    words: tuple[str, ...]
    mend: Callable[[Stack], None]

    @property
    def name(self) -> str:
        """Name of the resource."""
        return str(self.resource["metadata"]["name"])


def _apply(resource: Json) -> Callable[[Stack], None]:
    return lambda stack: stack.apply(resource)


def _troubles() -> dict[str, Trouble]:
    good = {name: static(name) for name in ("secret", "crowded", "imageless", "crashing")}
    token: Json = {"valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}, "name": "HF_TOKEN"}
    env = good["secret"]["spec"]["engine"]["env"]
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub-token"}}
    return {
        "a secret that is missing": Trouble(
            changed(good["secret"], {"engine__env": [*env, token]}),
            "ContainerConfig",
            ("hub-token", "not found", "Create what is missing"),
            _apply(secret | {"stringData": {"token": "t"}}),
        ),
        "more GPUs than a node has": Trouble(
            changed(good["crowded"], {"decode__gpus": 9}),
            "Unschedulable",
            ("Insufficient nvidia.com/gpu", "Free or add nodes"),
            _apply(good["crowded"]),
        ),
        "an image that cannot be had": Trouble(
            changed(good["imageless"], {"engine__image": "dopd.dev/simulator:no-such-tag"}),
            "ImagePull",
            ("dopd.dev/simulator:no-such-tag", "ErrImageNeverPull", "Check the image name"),
            _apply(good["imageless"]),
        ),
        "an engine that ends at once": Trouble(
            changed(good["crashing"], {"engine__command": ["python3", "-c", "raise SystemExit('no weights')"]}),
            "Crashing",
            ("exit code 1", "kubectl logs", "--previous"),
            _apply(good["crashing"]),
        ),
        "a node port that another has": Trouble(
            static("portless", node_port=TAKEN_NODE_PORT),
            "PortTaken",
            (str(TAKEN_NODE_PORT), "nodePort"),
            lambda stack: print(stack.kubectl("delete", "service", SQUATTER)),
        ),
    }


TROUBLES = _troubles()


@pytest.fixture(scope="module", autouse=True)
def all_applied(stack: Stack) -> Iterator[None]:
    """All of them side by side: each is in its own trouble, and waiting is shared."""
    stack.kubectl("create", "service", "nodeport", SQUATTER, "--tcp=80", f"--node-port={TAKEN_NODE_PORT}")
    stack.apply(*(trouble.resource for trouble in TROUBLES.values()))
    yield
    delete(stack, *(trouble.name for trouble in TROUBLES.values()))
    stack.kubectl("delete", "secret/hub-token", f"service/{SQUATTER}", "--ignore-not-found")


@pytest.fixture(scope="module")
def mended(stack: Stack) -> None:
    """All causes taken away at once."""
    for trouble in TROUBLES.values():
        trouble.mend(stack)


@pytest.mark.parametrize("what", TROUBLES)
def test_trouble_is_told_with_its_remedy(stack: Stack, what: str) -> None:
    trouble = TROUBLES[what]
    told = wait_for(lambda: _told(stack, trouble.name, trouble.reason), trouble.reason, timeout_seconds=60)
    assert all(word in told["message"] for word in trouble.words), told["message"]


@pytest.mark.parametrize("what", TROUBLES)
@pytest.mark.usefixtures("mended")
def test_trouble_passes_with_its_cause(stack: Stack, what: str) -> None:
    until_ready(stack, TROUBLES[what].name)


def _told(stack: Stack, name: str, reason: str) -> Json:
    ready = condition(stack.inference(name), "Ready")
    return ready if (ready.get("status"), ready.get("reason")) == ("False", reason) else {}
