"""Gauges of resources: each series is looked up once, and all of a resource's are known when it goes.

The client library finds a series by its labels in the time in which it sets thirty, and what begins with some labels
only by a look at the series of all resources.
"""

from prometheus_client import Gauge

from dopd.reconcile.queue import Key

_Labels = tuple[str, ...]


class SeriesOfResources:
    """The series of each resource; their first labels are its namespace and name."""

    def __init__(self) -> None:
        self._of: dict[Key, dict[tuple[Gauge, _Labels], Gauge]] = {}

    def of(self, gauge: Gauge, key: Key, *labels: str) -> Gauge:
        """One series, to be set.

        Args:
            gauge: the metric.
            key: of the resource.
            labels: the others.
        """
        there = self._of.setdefault(key, {})
        series = there.get((gauge, labels))
        if series is None:
            series = there[gauge, labels] = gauge.labels(*key, *labels)
        return series

    def remove(self, gauge: Gauge, key: Key, *labels: str) -> None:
        """A series is shown no more; fine if it was not."""
        if self._of.get(key, {}).pop((gauge, labels), None) is not None:
            gauge.remove(*key, *labels)

    def forget(self, key: Key) -> None:
        """No series of a resource is shown any more."""
        for gauge, labels in self._of.pop(key, {}):
            gauge.remove(*key, *labels)
