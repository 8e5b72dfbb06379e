"""Counters, gauges and histograms cheap enough for every token, shown through prometheus_client's text format.

prometheus_client's own metric objects are thread-safe and create `_created` series; SGLang's multi-process exposition
has none, and one event loop needs no locks. A histogram here can also take many equal observations at once.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
_F = TypeVar("_F", "Counter", "Gauge", "Histogram")


class _Family:
    def __init__(self, name: str, documentation: str, constant: Mapping[str, str], labels: Sequence[str]) -> None:
        self.name = name
        self.documentation = documentation
        self.label_names = (*constant, *labels)
        self._constant = tuple(constant.values())

    def _key(self, labels: Labels) -> Labels:
        return (*self._constant, *labels)


class Counter(_Family):
    """A number that only grows; seen from its first increment on, or from `inc(0)`."""

    def __init__(self, name: str, documentation: str, constant: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        super().__init__(name, documentation, constant, labels)
        self._values: dict[Labels, float] = {}

    def inc(self, amount: float = 1, *labels: str) -> None:
        """Add `amount` to the series with these values of the variable labels."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def collect(self) -> Metric:
        """The family for the exposition."""
        family = CounterMetricFamily(self.name, self.documentation, labels=self.label_names)
        for labels, value in self._values.items():
            family.add_metric(self._key(labels), value)
        return family


class Gauge(_Family):
    """A number that is set."""

    def __init__(self, name: str, documentation: str, constant: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        super().__init__(name, documentation, constant, labels)
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """Set the series with these values of the variable labels."""
        self._values[labels] = value

    def add(self, amount: float, *labels: str) -> None:
        """Change a series by `amount`."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def collect(self) -> Metric:
        """The family for the exposition."""
        family = GaugeMetricFamily(self.name, self.documentation, labels=self.label_names)
        for labels, value in self._values.items():
            family.add_metric(self._key(labels), value)
        return family


class Histogram(_Family):
    """Observations in buckets; seen from its first observation on, or from `show`."""

    def __init__(
        self,
        name: str,
        documentation: str,
        constant: Mapping[str, str],
        edges: Iterable[float],
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(name, documentation, constant, labels)
        self._edges = tuple(sorted({float(edge) for edge in edges}))
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def show(self, *labels: str) -> list[int]:
        """Make the series with these values of the variable labels visible, and return its counts."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._edges) + 1)
            self._sums[labels] = 0.0
        return counts

    def observe(self, value: float, *labels: str, times: int = 1) -> None:
        """Record `value`, that many times."""
        counts = self.show(*labels)
        counts[bisect_left(self._edges, value)] += times
        self._sums[labels] += value * times

    def collect(self) -> Metric:
        """The family for the exposition, with cumulative buckets."""
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.label_names)
        names = [*map(floatToGoString, self._edges), "+Inf"]
        for labels, counts in self._counts.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for name, count in zip(names, counts, strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric(self._key(labels), buckets, sum_value=self._sums[labels])
        return family


class Families(Collector):
    """All families of one exposition."""

    def __init__(self) -> None:
        self._families: list[Counter | Gauge | Histogram] = []

    def add(self, family: _F) -> _F:
        """Register a family and return it."""
        self._families.append(family)
        return family

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows: families without a sample are left out, as in a multi-process exposition."""
        for family in self._families:
            metric = family.collect()
            if metric.samples:
                yield metric
