"""Gateways that list others than they should: each is replaced by one that reads the pods anew, once that serves. Pure.

A gateway may have lost an event, or been told by somebody who wrote to its control plane; asking it to correct itself
would trust what is wrong. One of its pair more is started. When that one lists what it should, and as many serve as
there should be, the wrong one leaves, and finishes what it runs. Where the new one lists the same, the cause lies
elsewhere, between gateways and workers, and none is taken away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dopd.api.pairs import ANY, Pair


@dataclass(frozen=True)
class Door:
    """A gateway pod that holds its place.

    Attributes:
        name: of the pod.
        pair: whose workers it should list.
        ready: the Service sends to it.
        known: it answered when it was asked for its list.
        differs: its list is not as the pods are.
        lasting: that has been so for longer than a gateway needs to follow.
    """

    name: str
    pair: Pair
    ready: bool
    known: bool = True
    differs: bool = False
    lasting: bool = False


@dataclass(frozen=True)
class Repair:
    """What to do now.

    Attributes:
        delete: pods that are to leave.
        replicas: pods of each gateway that there should be meanwhile.
    """

    delete: tuple[str, ...] = ()
    replicas: Mapping[Pair, int] = field(default_factory=dict)


def repair(doors: Sequence[Door], replicas: Mapping[Pair, int]) -> Repair:
    """The next step of all gateways of a resource.

    Args:
        doors: the gateway pods.
        replicas: pods of each gateway that there should be where nothing is wrong.
    """
    delete: list[str] = []
    wanted = dict(replicas)
    for pair, count in replicas.items():
        mine = sorted((door for door in doors if door.pair == pair), key=lambda door: (door.ready, door.name))
        wrong = [door for door in mine if door.lasting]
        if not wrong or pair == ANY:  # those of earlier versions stay as they are
            continue
        right = any(door.ready and door.known and not door.differs for door in mine)
        if right and sum(door.ready for door in mine if door is not wrong[0]) >= count:
            delete.append(wrong[0].name)
        wanted[pair] = count + 1
    return Repair(tuple(delete), wanted)
