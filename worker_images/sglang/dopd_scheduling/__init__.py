"""The order in which a prefill worker computes waiting prompts: pure, without clock, I/O or dependencies.

One object, used three times: by the replay, by the engine simulator and by the plugin in SGLang's prefill scheduler::

    prompts     what waits, how long prefill takes
    order       the interface: what waits -> what goes into the next forward pass; packing
    schedule    one machine, known work, deadlines: who can still be on time, and the order of least waiting
    on_time     the order that dopd ships: what can still be on time first, and a share of the time for the late
    batch       prompts without a deadline, in the time that an order leaves
    refusal     who can not be on time any more, where that ends a prompt
    classic     orders of engines: first come, shortest first, response ratio, longest prefix
    paper       the rules of the DOPD paper
    catalogue   all of them by name
"""

from dopd_scheduling.batch import BatchBehind
from dopd_scheduling.catalogue import ORDERS, make
from dopd_scheduling.on_time import OnTimeFirst
from dopd_scheduling.order import Order, Settings
from dopd_scheduling.prompts import Piece, Points, Prompt, ServiceTimes
from dopd_scheduling.refusal import hopeless

__all__ = [
    "ORDERS",
    "BatchBehind",
    "OnTimeFirst",
    "Order",
    "Piece",
    "Points",
    "Prompt",
    "ServiceTimes",
    "Settings",
    "hopeless",
    "make",
]
