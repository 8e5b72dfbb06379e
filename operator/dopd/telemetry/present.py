"""The load of one resource at one time, from what the gateways and the engines counted. Pure.

What is missing is told from what is zero, on each side: requests that the gateway counts and no engine, requests that
engines count and no gateway, gateways of which only some are scraped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dopd.api.conditions import ConditionReason
from dopd.telemetry import queries
from dopd.telemetry.histograms import share_above
from dopd.telemetry.lengths import Lengths, absent, lengths
from dopd.telemetry.prometheus import QueryFailed, duration
from dopd.telemetry.queries import Signal
from dopd.telemetry.signals import Found
from dopd.telemetry.windows import NOT_KNOWN, InstanceKey, Timing, Windows

ENOUGH_REQUESTS = 20
"""Lengths of fewer requests say more of those requests than of the load; then a longer window is used."""
SETTLED_WINDOWS = 2.0
"""A gateway that has been ready for so many windows should have been scraped twice."""
GUIDE = "docs/telemetry.md"
NOTHING_STREAMS = "lateness is not known: no answer is streamed, and only those tell when their first token came"


@dataclass(frozen=True)
class Gateway:
    """A gateway pod that serves.

    Attributes:
        name: of the pod.
        address: its IP.
        started_seconds: when its container started, seconds since the epoch.
    """

    name: str
    address: str
    started_seconds: float


@dataclass(frozen=True)
class Asked:
    """What was asked of which server about one resource.

    Attributes:
        url: of the server.
        key: of the resource.
        windows: over which it was asked.
        matching: matchers of every selector.
    """

    url: str
    key: InstanceKey
    windows: Windows
    matching: str = ""

    @property
    def name(self) -> str:
        """The resource, for people."""
        return "/".join(self.key)

    def query(self, signal: Signal, window_seconds: float = 0.0) -> str:
        """The query of a signal."""
        return signal.promql(duration(window_seconds or self.windows.present_seconds), self.matching)


@dataclass(frozen=True)
class LoadNow:
    """Load of one resource over a short window until now.

    Attributes:
        requests_per_second: arrival rate.
        lengths: of the window's requests; None while too few have finished.
        late_share: share of the window's streamed requests that missed an objective; None while it is not known.
        absent: the first signal that lengths need and that has no series; None if all have.
        not_streamed_per_second: answers that tell nothing of lateness; None where engines do not tell them apart.
        window_seconds: over which the rate was measured; None for three intervals.
        timing: how often and how late the samples come.
        remarks: what else there is to say.
    """

    requests_per_second: float
    lengths: Lengths | None
    late_share: float | None
    absent: Signal | None = None
    not_streamed_per_second: float | None = None
    window_seconds: float | None = None
    timing: Timing = NOT_KNOWN
    remarks: tuple[str, ...] = ()


def load_now(
    asked: Asked,
    found: Mapping[Signal, Found],
    timing: Timing,
    gateways: Sequence[Gateway],
    now_seconds: float,
    *,
    ttft_seconds: float,
    itl_seconds: float,
) -> LoadNow:
    """The load that some answers tell of.

    Args:
        asked: where they come from.
        found: the signals of the resource.
        timing: of its samples.
        gateways: that serve, as Kubernetes knows them; none where nobody knows.
        now_seconds: seconds since the epoch.
        ttft_seconds: objective.
        itl_seconds: objective.

    Raises:
        QueryFailed: the arrival rate is not known, or is contradicted.
    """
    rate, uncounted = _arrivals(asked, found, gateways, now_seconds)
    late_share, unknown = _late_share(asked, found, ttft_seconds, itl_seconds)
    not_streamed = found[queries.NOT_STREAMED]
    window = asked.windows.present_seconds
    return LoadNow(
        requests_per_second=rate,
        lengths=lengths(found, window, at_least=ENOUGH_REQUESTS),
        late_share=late_share,
        absent=absent(found),
        not_streamed_per_second=not_streamed.value if not_streamed.present else None,
        window_seconds=window,
        timing=timing,
        remarks=tuple(filter(None, (uncounted, unknown))),
    )


def not_scraped(asked: Asked, window_seconds: float) -> QueryFailed:
    """No gateway of the resource has the samples that a rate needs."""
    window = duration(window_seconds)
    return QueryFailed(
        ConditionReason.NOT_SCRAPED,
        f"{asked.url} has no gateway of {asked.name} that was scraped twice within {window}:"
        f" {queries.scraped('router', window, asked.matching)}. Scrape the pods of this namespace, and carry the pod"
        f" labels dopd.dev/instance and dopd.dev/pool over ({GUIDE})",
    )


def no_number(asked: Asked) -> QueryFailed:
    """All rates of the past are something else than numbers."""
    return QueryFailed(
        ConditionReason.NOT_A_NUMBER,
        f"{asked.url} has a number in no bin of the history of {asked.name}, expected rates; look at what rewrites"
        " its series",
    )


def no_lengths(asked: Asked, rate: float, signal: Signal | None) -> QueryFailed:
    """Requests arrive and nothing tells how long they are."""
    if signal is None:
        query = asked.query(queries.ANSWERS)
        what = f"engines count no finished request while the gateway of {asked.name} counts {rate:.3g} requests/s"
        hint = "Do requests reach the workers, and do they end? It is known again when the first ones have"
    else:
        query = asked.query(signal)
        what = (
            f"{asked.url} has no series of {signal.name} while the gateway of {asked.name} counts {rate:.3g} requests/s"
        )
        hint = (
            f"Are the {signal.pool} pods scraped, with classic histograms and not native ones alone? It is known once"
            f" the first requests have finished ({GUIDE})"
        )
    return QueryFailed(ConditionReason.NO_SERIES, f"{what}: {query}. {hint}")


def _arrivals(
    asked: Asked, found: Mapping[Signal, Found], gateways: Sequence[Gateway], now_seconds: float
) -> tuple[float, str]:
    """Requests per second, and what is to be said about them."""
    window = asked.windows.present_seconds
    arrived, scraped = found[queries.ARRIVED], found[queries.GATEWAYS]
    if not arrived.present and not scraped.present:
        raise not_scraped(asked, window)
    _refuse_contradictions(asked, found)
    settled = [
        g for g in gateways if now_seconds - g.started_seconds > SETTLED_WINDOWS * window + asked.windows.lag_seconds
    ]
    if scraped.present and scraped.value < len(settled):
        raise QueryFailed(
            ConditionReason.NOT_SCRAPED,
            f"{asked.url} reads {scraped.value:.0f} of {len(settled)} gateways of {asked.name}, so a part of the load"
            f" is not known: {asked.query(queries.GATEWAYS)}. Scrape all pods of the gateway ({GUIDE})",
        )
    first, unknown = _first_counts(found[queries.FIRST_COUNTS], gateways, window, now_seconds)
    remark = ""
    if unknown:
        remark = (
            f"{unknown:.0f} requests before the first scrape of a gateway are in no rate, as its start is not known"
        )
    return arrived.value + first, remark


def _refuse_contradictions(asked: Asked, found: Mapping[Signal, Found]) -> None:
    copies = found[queries.COPIES_OF_GATEWAYS].value
    if copies > 1:
        raise QueryFailed(
            ConditionReason.DUPLICATE_SERIES,
            f"{asked.url} has {copies:.0f} series of each gateway of {asked.name}, so each request counts {copies:.0f}"
            f" times: {asked.query(queries.COPIES_OF_GATEWAYS)}. Scrape each pod by one job, or deduplicate replicas of"
            " Prometheus",
        )
    engines = max(found[queries.PROMPTS].value, found[queries.ANSWERS].value)
    if not found[queries.ARRIVED].present and engines > 0:
        raise QueryFailed(
            ConditionReason.NO_SERIES,
            f"{asked.url} has no series of requests that the gateway of {asked.name} counts, while its engines finish"
            f" {engines:.3g} requests/s: {asked.query(queries.ARRIVED)}. What drops smg_router_requests_total, or"
            f" makes it fall without beginning anew (two sources of one series)? ({GUIDE})",
        )


def _first_counts(
    found: Found, gateways: Sequence[Gateway], window_seconds: float, now_seconds: float
) -> tuple[float, float]:
    """Requests per second in the first values of counters, since each start; and requests of an unknown start."""
    starts = {known: g.started_seconds for g in gateways for known in (g.name, g.address)}
    rate = unknown = 0.0
    for one in found.series:
        labels, count = one["metric"], Found(found.signal, [one]).value
        host = labels.get("instance", "").rpartition(":")[0].strip("[]")
        start = starts.get(labels.get("pod", ""), starts.get(host))
        if start is None:
            unknown += count
        else:
            rate += count / max(window_seconds, now_seconds - start)
    return rate, unknown


def _late_share(
    asked: Asked, found: Mapping[Signal, Found], ttft_seconds: float, itl_seconds: float
) -> tuple[float | None, str]:
    """Share of the streamed requests that missed an objective; None and why where that is not known."""
    ttft, itl, token_itl = (found[signal] for signal in (queries.TTFT, queries.ITL, queries.TOKEN_ITL))
    plain = found[queries.NOT_STREAMED]
    if not itl.present and token_itl.present and (ttft.present or not plain.present):
        itl = token_itl  # of an engine that has no other
    shares = share_above(ttft.histogram, ttft_seconds), share_above(itl.histogram, itl_seconds)
    if shares == (None, None):
        return None, NOTHING_STREAMS if plain.value > 0 else ""
    for known, share in ((ttft, shares[0]), (itl, shares[1])):
        if share is None and not known.present and not _of_one_token(known, found):
            query = asked.query(known.signal, asked.windows.late_seconds)
            return None, f"lateness is not known: no series of {known.signal.name} while requests finish: {query}"
    return min(1.0, sum(share or 0.0 for share in shares)), ""


def _of_one_token(missing: Found, found: Mapping[Signal, Found]) -> bool:
    """Whether answers have one token, so that there is no time between tokens to be late."""
    if missing.signal is queries.TTFT or not found[queries.ANSWERS].present:
        return False
    answers, tokens = found[queries.ANSWERS].value, found[queries.ANSWER_TOKENS].value
    return 0 < tokens <= 1.5 * answers
