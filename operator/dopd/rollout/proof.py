"""Which engine is to blame where a pair does not answer. Pure.

A worker is tried with every worker of the other role before it serves. One that fails may be well and its partner hang:
Kubernetes calls a hung engine ready for a minute and more. So a partner that fails is tried with others of the worker's
role, too, and what is common to those that fail is to blame. Where no canary at all is answered it may be the canaries
that are wrong: then nobody who serves is to blame, and so never the last of a role.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_WITNESSES = 2
"""So many others of a worker's role a partner is tried with when it did not answer with that."""


@dataclass(frozen=True)
class Verdict:
    """What the canaries of one worker tell.

    Attributes:
        proved: it may serve.
        own: partners with which it fails, and that are not known to be silent.
        silent: partners that answer nobody, while another one answers somebody.
        well: partners that answered somebody.
    """

    proved: bool
    own: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    well: tuple[str, ...] = ()


def verdict(answered: Mapping[str, bool], others: Mapping[str, Sequence[bool]]) -> Verdict:
    """Who is to blame for the canaries that failed.

    Args:
        answered: whether the worker got an answer together with each partner, by the partner's name.
        others: of the partners that did not answer, whether they did so with others of the worker's role.
    """
    failed = [name for name, did in answered.items() if not did]
    well = tuple(name for name, did in answered.items() if did or any(others.get(name, ())))
    silent = tuple(name for name in failed if others.get(name) and name not in well) if well else ()
    own = tuple(name for name in failed if name not in silent)
    return Verdict(not own and (any(answered.values()) or not answered), own, silent, well)
