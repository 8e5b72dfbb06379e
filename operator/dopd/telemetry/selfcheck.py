"""Whether a Prometheus gives what the operator needs, checked question by question, with what to do where it does not.

Run in full by `dopd doctor`, and once by the operator as it starts. Over the seam `Prometheus`, so it blocks.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dopd.api.names import Role
from dopd.telemetry import clock, queries
from dopd.telemetry.connection import Answer, NoAnswer, Prometheus
from dopd.telemetry.history import fine_points, pieces
from dopd.telemetry.lengths import HISTOGRAMS
from dopd.telemetry.loads import LONG_WINDOW
from dopd.telemetry.prometheus import duration, series_by_key
from dopd.telemetry.queries import Signal
from dopd.telemetry.windows import (
    LOOK_BACK_SECONDS,
    LOOK_STEP_SECONDS,
    POOLS,
    InstanceKey,
    Timing,
    intervals,
    timing_of,
    windows,
)

SCRAPES_IN_A_BIN = 4
"""A rate needs two samples in its window, wherever the window begins, and one scrape may fail."""
INSTEAD = {
    queries.ITL: queries.TOKEN_ITL,
    queries.TOKEN_ITL: queries.ITL,
    queries.DECODED: queries.ANSWERS,
}
"""Signals that another one can stand in for: of the first two SGLang has one before 0.5.22 and the other since."""
OPTIONAL = {
    queries.NOT_STREAMED: "none, or engines that do not tell them apart",
}
"""Signals that need not be there, and what it means if they are not."""
GUIDE = "docs/telemetry.md"


class Verdict(StrEnum):
    """How a check ended."""

    OK = "OK"
    FAIL = "FAIL"
    SKIPPED = "--"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: the server or the resource.
        name: what was looked at.
        verdict: how it ended.
        found: what was there.
        expected: what should have been; "" where all is well.
        fix: what to do; "" where all is well.
    """

    subject: str
    name: str
    verdict: Verdict
    found: str
    expected: str = ""
    fix: str = ""

    @property
    def failed(self) -> bool:
        """Whether something has to be done."""
        return self.verdict is Verdict.FAIL

    def __str__(self) -> str:
        line = f"{self.subject}: {self.name}: {self.found}"
        line += f", expected {self.expected}" if self.expected else ""
        return f"{line}. {self.fix}" if self.fix else line


@dataclass(frozen=True)
class Wanted:
    """A resource whose load is to be read.

    Attributes:
        key: of the resource.
        bin_seconds: width of a bin of its history.
        history_seconds: how far back.
        interval_seconds: between two readings.
        labels: that its series must carry.
        ready: its pods that serve, by pool; a pool that is not named is not counted.
        asleep: no worker runs, since no request comes and spec.scaling.idle wants it so.
    """

    key: InstanceKey
    bin_seconds: float
    history_seconds: float
    interval_seconds: float = 15.0
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: Mapping[str, int] = field(default_factory=dict)
    asleep: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return "/".join(self.key)

    @property
    def matching(self) -> str:
        """Matchers of every selector."""
        return queries.matchers(self.labels)


@dataclass(frozen=True)
class _Asked:
    """One client at one time.

    Attributes:
        client: of a server.
        now_seconds: our time, seconds since the epoch.
        matching: matchers of every selector.
    """

    client: Prometheus
    now_seconds: float
    matching: str = ""

    def series(self, query: str) -> Answer:
        return self.client.custom_query(query, params={"time": str(self.now_seconds)})

    def signal(self, signal: Signal, window_seconds: float) -> Answer | NoAnswer:
        try:
            return self.series(signal.promql(duration(window_seconds), self.matching))
        except NoAnswer as error:
            return error

    def intervals(self) -> Mapping[tuple[str, str, str], float]:
        start = self.now_seconds - LOOK_BACK_SECONDS
        times = queries.newest_samples(self.matching, f"{queries.BY_POD}, {queries.POOL}")
        counts = self.series(queries.scrapes(duration(LOOK_BACK_SECONDS), self.matching))
        return intervals(self._range(times, start, self.now_seconds, LOOK_STEP_SECONDS), counts, self.now_seconds)

    def history(self, bin_seconds: float, history_seconds: float) -> tuple[Mapping[tuple[str, ...], int], list[str]]:
        """Bins of each resource that are known, and why others are not."""
        end = math.floor(self.now_seconds / bin_seconds) * bin_seconds
        known: dict[tuple[str, ...], int] = {}
        gaps = []
        for part in pieces(end, history_seconds, bin_seconds):
            query = queries.ARRIVALS.promql(duration(part.step_seconds), self.matching)
            try:
                answer = self._range(query, part.first_seconds, part.last_seconds, part.step_seconds)
            except NoAnswer as error:
                gaps.append(str(error))
                continue
            for key, series in _by_resource(answer).items():
                points = fine_points(part, series[0]["values"], bin_seconds)
                known[key] = known.get(key, 0) + sum(at > end - history_seconds - bin_seconds / 2 for at, _ in points)
        return known, gaps

    def _range(self, query: str, start: float, end: float, step_seconds: float) -> Answer:
        first, last = (datetime.fromtimestamp(at, UTC) for at in (start, end))
        return self.client.custom_query_range(query, first, last, duration(step_seconds))


def check_prometheus(client: Prometheus, url: str, wanted: Iterable[Wanted], now_seconds: float) -> Iterator[Check]:
    """All checks of one server. One query per signal serves all resources with the same bins.

    Args:
        client: of the server.
        url: of it, for people.
        wanted: resources whose load is read there.
        now_seconds: our time, seconds since the epoch.
    """
    try:
        ahead = clock.difference_seconds(client, now_seconds)
    except NoAnswer as error:
        yield Check(url, "connection", Verdict.FAIL, str(error), "an answer", f"See {GUIDE}")
        return
    yield Check(url, "connection", Verdict.OK, "it answers")
    if abs(ahead) > clock.LARGEST_DIFFERENCE_SECONDS:
        yield Check(url, "clock", Verdict.FAIL, clock.message(url, ahead))
    else:
        yield Check(url, "clock", Verdict.OK, f"{ahead:+.1f} s against ours")
    for (bin_seconds, history_seconds, matching), resources in _grouped(wanted).items():
        try:
            matched = _Asked(client, now_seconds, matching)
            yield from _check_resources(matched, bin_seconds, history_seconds, resources)
        except NoAnswer as error:
            yield Check(url, "query", Verdict.FAIL, str(error), "an answer", f"See {GUIDE}")


def _grouped(wanted: Iterable[Wanted]) -> Mapping[tuple[float, float, str], list[Wanted]]:
    groups: dict[tuple[float, float, str], list[Wanted]] = {}
    for one in wanted:
        groups.setdefault((one.bin_seconds, one.history_seconds, one.matching), []).append(one)
    return groups


def _check_resources(
    asked: _Asked, bin_seconds: float, history_seconds: float, resources: Sequence[Wanted]
) -> Iterator[Check]:
    up = f'up{{{queries.POOL}!=""{asked.matching}}}'
    by = f"{queries.BY}, {queries.POOL}"
    labels = ("namespace", queries.INSTANCE, queries.POOL)
    targets = series_by_key(asked.series(f"count by ({by}) ({up} == 1)"), labels)
    # Of the pod that was scraped most: others may just have started.
    scrapes = series_by_key(asked.series(f"max by ({by}) (count_over_time({up}[{duration(bin_seconds)}]))"), labels)
    interval_by_pool = asked.intervals()
    newest = asked.series(queries.newest_samples(asked.matching))
    clusters = _by_resource(asked.series(queries.clusters(asked.matching)))
    copies = {pool: _by_resource(asked.series(queries.copies(pool, asked.matching))) for pool in POOLS}
    history, gaps = asked.history(bin_seconds, history_seconds)
    signals = {signal: asked.signal(signal, bin_seconds * LONG_WINDOW) for signal in queries.SIGNALS}
    for one in resources:
        scraped = {pool: _value(targets.get((*one.key, pool), [])) for pool in POOLS}
        yield _scraped(asked, one, scraped)
        if not scraped["router"]:
            continue
        timing = timing_of(one.key, interval_by_pool, newest, asked.now_seconds)
        yield _scrape_interval(
            one, {pool: _value(scrapes.get((*one.key, pool), [])) for pool in POOLS if scraped[pool]}, timing
        )
        yield _windows(one, timing)
        yield _copies(asked, one, {pool: _value(series.get(one.key, [])) for pool, series in copies.items()})
        yield _clusters(one, clusters.get(one.key, []))
        yield _history(one, history.get(one.key, 0), gaps)
        yield from _signals(asked, one, signals)


def _scraped(asked: _Asked, one: Wanted, pods: Mapping[str, float]) -> Check:
    missing = [pool for pool, count in pods.items() if not count and not (one.asleep and pool in tuple(Role))]
    found = ", ".join(f"{n:.0f} {pool}" for pool, n in pods.items()) + ("; asleep, so no worker" * one.asleep)
    if not missing:
        fewer = [f"{ready} {pool}" for pool, ready in one.ready.items() if pods[pool] < ready]
        if not fewer:
            return Check(one.name, "scraped", Verdict.OK, found)
        fix = f"Are all pods scraped? What nobody scrapes of the gateway is missing from the load ({GUIDE})"
        return Check(one.name, "scraped", Verdict.FAIL, found, f"{', '.join(fewer)} that are ready", fix)
    expected = f"at least one pod of each pool with namespace, {queries.INSTANCE} and {queries.POOL} on its series"
    found = f'no {" and no ".join(missing)} pod in up{{{queries.INSTANCE}="{one.key[1]}"}}'
    return Check(one.name, "scraped", Verdict.FAIL, found, expected, _why_not_scraped(asked, one, pods["router"] > 0))


def _why_not_scraped(asked: _Asked, one: Wanted, gateway_is: bool) -> str:
    namespace, name = one.key
    if gateway_is:
        return f"Does a worker run? Is its port 30000 scraped? See {GUIDE}"
    pods = f'up{{namespace="{namespace}", pod=~"{name}-({"|".join(POOLS)})-.+"}}'
    if asked.series(f"count({pods})"):
        return f"It scrapes the pods without their labels: add podTargetLabels, or a labelmap, as in {GUIDE}"
    elsewhere = asked.series(f'count by (namespace) (up{{{queries.INSTANCE}="{name}"}})')
    if elsewhere:
        names = ", ".join(sorted(item["metric"].get("namespace") or "none" for item in elsewhere))
        return f"Its series carry the namespace {names}: keep the pod's own in label namespace ({GUIDE})"
    if asked.series("count(up)"):
        return (
            "It scrapes other pods: let its PodMonitors select this namespace (chart: podMonitor.enabled, and"
            f" podMonitor.labels that it selects by), or scrape it as in {GUIDE}"
        )
    return "It scrapes nothing at all: is it the right server, and the right tenant?"


def _scrape_interval(one: Wanted, scrapes: Mapping[str, float], timing: Timing) -> Check:
    fewest = min(scrapes.values())
    found = ", ".join(f"{pool} {count:.0f}" for pool, count in scrapes.items())
    found = f"{timing}; scrapes in {one.bin_seconds:g} s: {found}"
    if fewest >= SCRAPES_IN_A_BIN:
        return Check(one.name, "scrape interval", Verdict.OK, found)
    fix = (
        f"Scrape every {one.bin_seconds / SCRAPES_IN_A_BIN:g} s (chart: podMonitor.interval), or widen"
        " spec.scaling.forecast.bin. Pods that just started are short of samples for a moment"
    )
    return Check(one.name, "scrape interval", Verdict.FAIL, found, f"{SCRAPES_IN_A_BIN} or more", fix)


def _windows(one: Wanted, timing: Timing) -> Check:
    over = windows(timing, one.interval_seconds, one.bin_seconds)
    found = (
        f"the load of now over {over.present_seconds:g} s, lateness over {over.late_seconds:g} s, a bin over"
        f" {over.bin_seconds:g} s, up to {over.lag_seconds:g} s ago"
    )
    return Check(one.name, "windows", Verdict.OK, found)


def _clusters(one: Wanted, series: Answer) -> Check:
    values = {label: {item["metric"].get(label, "") for item in series} for label in queries.CLUSTER_LABELS}
    several = {label: sorted(found) for label, found in values.items() if len(found) > 1}
    if not several:
        return Check(one.name, "one cluster", Verdict.OK, "its series are of one cluster")
    label, found = next(iter(several.items()))
    names = ", ".join(name or "none" for name in found)
    fix = (
        f"Two resources of this name are counted as one: say which cluster is meant, by prometheus.seriesLabels of the"
        f" chart (--prometheus-series-label {label}=...) or by spec.telemetry.labels"
    )
    return Check(one.name, "one cluster", Verdict.FAIL, f"{label} is {names}", "one value", fix)


def _copies(asked: _Asked, one: Wanted, copies: Mapping[str, float]) -> Check:
    doubled = {pool: count for pool, count in copies.items() if count > 1}
    if not doubled:
        return Check(one.name, "no duplicates", Verdict.OK, "each pod once")
    found = ", ".join(f"{pool} pods {count:.0f} times" for pool, count in doubled.items())
    pool = next(iter(doubled))
    query = queries.copies(pool, asked.matching)
    fix = f"Scrape each pod by one job, or deduplicate (Thanos: dedup=true). Look at {query}"
    return Check(one.name, "no duplicates", Verdict.FAIL, found, "each pod once", fix)


def _history(one: Wanted, points: int, gaps: Sequence[str]) -> Check:
    whole = math.floor(one.history_seconds / one.bin_seconds) + 1
    found = f"{points} of {whole} bins of {one.bin_seconds:g} s"
    if gaps:
        fix = f"Try again; if it lasts, shorten spec.scaling.forecast.history ({GUIDE})"
        return Check(one.name, "history", Verdict.FAIL, f"{found}; {gaps[0]}", "an answer for every part", fix)
    if points:
        return Check(one.name, "history", Verdict.OK, found)
    fix = "Wait a bin, if the gateway has just started. Is the history kept as long as spec.scaling.forecast.history?"
    return Check(one.name, "history", Verdict.FAIL, found, "one or more", fix)


def _signals(asked: _Asked, one: Wanted, answers: Mapping[Signal, Answer | NoAnswer]) -> Iterator[Check]:
    mine = {s: a if isinstance(a, NoAnswer) else _by_resource(a).get(one.key, []) for s, a in answers.items()}
    arrivals = mine[queries.ARRIVALS]
    traffic = not isinstance(arrivals, NoAnswer) and _value(arrivals) > 0
    window = duration(one.bin_seconds * LONG_WINDOW)
    streams = bool(mine[queries.TTFT]) or not mine[queries.NOT_STREAMED]
    for signal, series in mine.items():
        query = signal.promql(window, asked.matching)
        if isinstance(series, NoAnswer):
            yield Check(one.name, signal.name, Verdict.FAIL, str(series), "an answer", f"Try {query}")
        elif unfit := [item for item in series if not math.isfinite(float(item["value"][1]))]:
            found = f"{unfit[0]['value'][1]} in {len(unfit)} of {len(series)} series"
            yield Check(one.name, signal.name, Verdict.FAIL, found, "numbers", f"Look at what rewrites {query}")
        elif series and signal in HISTOGRAMS and not any(_finite(item["metric"].get("le", "")) for item in series):
            fix = f"What drops the buckets? Native histograms alone are not read. Try {query}"
            yield Check(one.name, signal.name, Verdict.FAIL, "one bucket for all", "buckets", fix)
        elif series:
            found = f"{len(series)} series" if len(series) > 1 else f"{float(series[0]['value'][1]):.4g}"
            yield Check(one.name, signal.name, Verdict.OK, found)
        elif signal in OPTIONAL:
            yield Check(one.name, signal.name, Verdict.SKIPPED, OPTIONAL[signal])
        elif not traffic and signal.needs_traffic:
            yield Check(one.name, signal.name, Verdict.SKIPPED, "no request yet to tell it by")
        elif not streams and signal in queries.LATENCIES:
            yield Check(one.name, signal.name, Verdict.SKIPPED, "nothing is streamed, so lateness is not known")
        elif mine.get(INSTEAD.get(signal, signal)):
            yield Check(one.name, signal.name, Verdict.SKIPPED, f"read as {INSTEAD[signal].name}")
        else:
            fix = f"Are the {signal.pool} pods scraped, and do they run SGLang 0.5.12 to 0.5.23? Try {query}"
            yield Check(one.name, signal.name, Verdict.FAIL, "no series while requests arrive", "one or more", fix)


def _finite(bound: str) -> bool:
    try:
        return math.isfinite(float(bound))
    except ValueError:
        return False


def _by_resource(answer: Answer) -> Mapping[tuple[str, ...], Answer]:
    return series_by_key(answer, ("namespace", queries.INSTANCE))


def _value(series: Answer) -> float:
    return float(series[0]["value"][1]) if series else 0.0
