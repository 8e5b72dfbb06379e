"""All orders by name."""

from dopd_scheduling.batch import BatchBehind
from dopd_scheduling.classic import CanMakeItFirst, FirstCome, LongestPrefix, ResponseRatio, ShortestFirst
from dopd_scheduling.on_time import OnTimeFirst
from dopd_scheduling.order import Order, Settings
from dopd_scheduling.paper import PaperRules

ORDERS: dict[str, type[Order]] = {
    "on-time-first": OnTimeFirst,
    "fcfs": FirstCome,
    "shortest-first": ShortestFirst,
    "hrrn": ResponseRatio,
    "lpm": LongestPrefix,
    "can-make-it-first": CanMakeItFirst,
    "dopd-paper": PaperRules,
}
"""By the names that the command line and the engines' settings use; the first is the one that dopd ships."""


def make(name: str, settings: Settings, *, batch: bool = False) -> Order:
    """An order by its name.

    Args:
        name: of the order.
        settings: what it goes by.
        batch: whether batch prompts stand behind all others; else they are prompts as any other.

    Raises:
        ValueError: there is none of that name; names those that there are.
    """
    if name not in ORDERS:
        raise ValueError(f"order {name!r}: expected one of {', '.join(ORDERS)}")
    order = ORDERS[name](settings)
    return BatchBehind(order) if batch else order
