"""The settled pieces of the past load: asked for once, one after the other, newest first, and kept while they are used.

A fresh operator, one that takes the Lease over and one that was restarted read all of it with their first reading. That
may take a while, and is done beside everything else: one query at a time, so that the readings of the present find
their places. A piece that fails is a gap and is asked for again after a pause; the others go on.
"""

import asyncio
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dopd.api.conditions import ConditionReason
from dopd.cluster.backoff import Backoff
from dopd.telemetry import queries
from dopd.telemetry.connection import Answer
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.history import Piece, hour_pieces, pieces
from dopd.telemetry.past import PARTS, RATE, SPREADS, Grid, Table, complete, means, merged, rates, spreads
from dopd.telemetry.prometheus import QueryFailed, Servers, duration, on_behalf_of
from dopd.telemetry.queries import Matchers, Signal
from dopd.telemetry.windows import InstanceKey

FAR_PATIENCE_SECONDS, LATER_PATIENCE_SECONDS = 60.0, 2.0
"""The first reading waits so long for what is long ago, and any other for what is missing or new; then it goes on
without, and a later one has it."""
RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 3600.0
"""A piece that failed is asked for again after so long, the next time after twice as long, up to an hour. So is one of
which the server knew nothing at all: its past may be loaded later, by a backfill or a store that was away."""
FAILURES_IN_A_ROW = 3
"""After so many the rest is not asked for: the server is in trouble, or can not answer such questions."""
LONGEST_REST_SECONDS = 0.05
"""Between two questions as long as the first took, up to this: passes and the present come first."""
WIDER = 1.2
"""A window that is longer by so much is another one; a scrape interval that is measured wavers."""
UNUSED_SECONDS = 120.0
UNUSED_INTERVALS = 3.0
"""What nobody read for so long, and for so many intervals between readings, is given up."""


class Kind(StrEnum):
    """What is asked for of a piece."""

    RATES = "history"
    MEANS = "lengths"
    SPREADS = "spread of lengths"

    @property
    def parts(self) -> Sequence[str]:
        """What its answer is made of."""
        return {Kind.RATES: (RATE,), Kind.MEANS: PARTS[1:], Kind.SPREADS: SPREADS}[self]


_QUERY: dict[Kind, Callable[[queries.Rate], str]] = {
    Kind.RATES: lambda rate: rate(queries.ARRIVALS),
    Kind.MEANS: queries.past_means,
    Kind.SPREADS: queries.past_buckets,
}
_READ: dict[Kind, Callable[[Piece, Answer], Grid]] = {Kind.RATES: rates, Kind.MEANS: means, Kind.SPREADS: spreads}


@dataclass(frozen=True)
class Question:
    """One thing about one piece."""

    kind: Kind
    piece: Piece


@dataclass(frozen=True)
class Place:
    """Where and how a history is read; those that are equal share it.

    Attributes:
        url: of the Prometheus that has the newest bins.
        far_url: of one that has what is long ago; "" without.
        bin_seconds: width of a bin.
        history_seconds: how far back.
        matching: matchers of every selector.
    """

    url: str
    far_url: str
    bin_seconds: float
    history_seconds: float
    matching: Matchers = ""

    @property
    def urls(self) -> Sequence[str]:
        """All servers that are asked."""
        return (self.url, self.far_url) if self.far_url else (self.url,)

    def query(self, question: Question, window_seconds: float, *, recorded: bool = False) -> str:
        """PromQL for the bins of a piece, each over a window at least."""
        window = duration(max(window_seconds, question.piece.step_seconds))

        def rate(signal: Signal) -> str:
            return (signal.recorded if recorded else signal.promql)(window, self.matching)

        return _QUERY[question.kind](rate)

    def sources(self, question: Question) -> Iterator[tuple[str, bool]]:
        """Whom to ask, the best first: (URL, whether for recorded series).

        What is long ago is read from recorded series where there are any: one series in place of one for each pod
        that there ever was. What they lack, and what is near, comes from the series of the pods.
        """
        far = question.piece.step_seconds > self.bin_seconds
        for url in reversed(self.urls) if far else self.urls:
            for recorded in (True, False) if far else (False, True):
                yield url, recorded


def questions(end_seconds: float, history_seconds: float, bin_seconds: float) -> tuple[list[Question], list[Question]]:
    """What to ask for the newest bins, and for the settled ones, newest first."""
    *older, newest = pieces(end_seconds, history_seconds, bin_seconds)
    now = [Question(kind, newest) for kind in (Kind.RATES, Kind.MEANS)]
    settled = [Question(kind, piece) for piece in older for kind in (Kind.MEANS, Kind.RATES)]
    settled += [Question(Kind.SPREADS, piece) for piece in hour_pieces(end_seconds, history_seconds, bin_seconds)]
    return now, sorted(settled, key=lambda one: one.piece.last_seconds, reverse=True)


def tables(key: InstanceKey, known: Mapping[Question, Grid]) -> tuple[Table, Table]:
    """What is known of a resource: arrivals and mean lengths bin by bin, and spreads of lengths hour by hour."""
    grids: dict[Kind, dict[Piece, list[Grid]]] = {kind: {} for kind in Kind}
    for question in sorted(known, key=lambda one: one.piece.first_seconds):
        kind = Kind.RATES if question.kind is Kind.MEANS else question.kind
        grids[kind].setdefault(question.piece, []).append(known[question])
    return (
        Table.of(key, list(grids[Kind.RATES].items()), PARTS),
        Table.of(key, list(grids[Kind.SPREADS].items()), SPREADS),
    )


async def ask(servers: Servers, url: str, query: str, question: Question) -> Grid:
    """The answer of one server.

    Raises:
        QueryFailed: there is none that can be read.
    """
    piece = question.piece
    answer = await servers.range(url, query, piece.first_seconds, piece.last_seconds, piece.step_seconds)
    try:
        return _READ[question.kind](piece, answer)
    except BadAnswer as error:
        raise QueryFailed(ConditionReason.NOT_A_NUMBER, f"{url} answered {query}: {error}") from None


@dataclass
class _Store:
    """What is known of one place.

    Attributes:
        known: answers.
        failed: why others are not known.
        retries: when these are asked for again.
        patience_seconds: how long a reading waits for what is missing.
        used: when each was last of use.
        window_seconds: behind each narrow bin.
        reading: what is under way, or was.
        began_seconds: when that began.
        version: another number whenever more is known.
        forgetting: gives all up once nobody has read it for a while.
    """

    known: dict[Question, Grid] = field(default_factory=dict)
    failed: dict[Question, QueryFailed] = field(default_factory=dict)
    retries: Backoff = field(default_factory=lambda: Backoff(RETRY_SECONDS, LONGEST_RETRY_SECONDS))
    patience_seconds: float = field(default_factory=lambda: FAR_PATIENCE_SECONDS)
    used: dict[Question, float] = field(default_factory=dict)
    window_seconds: float = 0.0
    reading: "asyncio.Task[None] | None" = None
    began_seconds: float = 0.0
    version: int = 0
    forgetting: asyncio.TimerHandle | None = None


@dataclass(frozen=True)
class Settled:
    """What is known of some settled pieces.

    Attributes:
        known: answers.
        failed: why others are not known.
        version: another number whenever more is known.
    """

    known: Mapping[Question, Grid]
    failed: Mapping[Question, QueryFailed]
    version: int


class Backfill:
    """Reads and keeps settled pieces."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._stores: dict[Place, _Store] = {}

    async def settled(
        self, place: Place, wanted: Sequence[Question], window_seconds: float, interval_seconds: float
    ) -> Settled:
        """What is known of some pieces, once all have been asked for or that has taken long enough.

        Args:
            place: where they are read.
            wanted: pieces, in the order in which they are asked for.
            window_seconds: behind each narrow bin; where it turns out to have been much too short, all is read anew.
            interval_seconds: until the next reading.
        """
        loop = asyncio.get_running_loop()
        store = self._stores.setdefault(place, _Store())
        if store.forgetting:
            store.forgetting.cancel()
        unused = max(UNUSED_SECONDS, UNUSED_INTERVALS * interval_seconds)
        store.forgetting = loop.call_later(unused, self._forget, place)
        if store.reading is None or store.reading.done():
            if window_seconds > WIDER * store.window_seconds:
                store.known, store.failed, store.window_seconds = {}, {}, window_seconds
            missing = self._missing(store, wanted)
            if missing:
                store.began_seconds = loop.time()
                store.reading = asyncio.create_task(on_behalf_of(place, lambda: self._read(place, store, missing)))
        if store.reading and not store.reading.done():
            left = store.patience_seconds - (loop.time() - store.began_seconds)
            await asyncio.wait({store.reading}, timeout=max(0.0, left))
        if store.reading and store.reading.done():
            store.patience_seconds = LATER_PATIENCE_SECONDS
            store.reading.result()
        self._drop_unused(store, wanted, unused)
        late = QueryFailed(ConditionReason.QUERY_FAILED, "it is still being read")
        absent = {q: store.failed.get(q, late) for q in wanted if q not in store.known}
        return Settled({q: store.known[q] for q in wanted if q in store.known}, absent, store.version)

    @staticmethod
    def _drop_unused(store: _Store, wanted: Sequence[Question], unused_seconds: float) -> None:
        """Hours that have become a part of six, and so on."""
        now = asyncio.get_running_loop().time()
        store.used.update(dict.fromkeys(wanted, now))
        for question in [q for q, at in store.used.items() if now - at > unused_seconds]:
            for kept in (store.used, store.known, store.failed):
                kept.pop(question, None)

    def _missing(self, store: _Store, wanted: Sequence[Question]) -> list[Question]:
        missing = (question for question in wanted if not store.known.get(question))
        return [question for question in missing if not store.retries.seconds_left(question)]

    async def _read(self, place: Place, store: _Store, missing: Sequence[Question]) -> None:
        in_a_row = 0
        newest = missing[0].piece.last_seconds
        recording = {url for url in place.urls if await self._records(place, url, newest)}
        failure: QueryFailed | None = None
        loop = asyncio.get_running_loop()
        for question in missing:
            began_seconds = loop.time()
            if in_a_row < FAILURES_IN_A_ROW:
                try:
                    grid = await self._one(place, store, question, recording)
                    store.failed.pop(question, None)
                    (store.retries.succeeded if grid else store.retries.failed)(question)
                    store.version += bool(grid) or question not in store.known
                    store.known[question] = grid
                    in_a_row = 0
                    await asyncio.sleep(min(loop.time() - began_seconds, LONGEST_REST_SECONDS))
                    continue
                except QueryFailed as error:
                    failure, in_a_row = error, in_a_row + 1
            assert failure is not None
            store.failed[question] = failure
            store.retries.failed(question)

    async def _records(self, place: Place, url: str, end_seconds: float) -> bool:
        """Whether a server has recorded series of any time; one that does not say so is taken to."""
        try:
            query = queries.any_recorded(duration(place.history_seconds), place.matching)
            return bool(await self._servers.instant(url, query, end_seconds))
        except QueryFailed:
            return True

    async def _one(self, place: Place, store: _Store, question: Question, recording: Container[str]) -> Grid:
        """Of all whom to ask, each fills in what those before it did not know. One that knows all is enough.

        Args:
            place: where it is read.
            store: what is known of it.
            question: what is read.
            recording: servers that have recorded series.

        Raises:
            QueryFailed: one failed, and the others do not know all.
        """
        found: Grid = {}
        failure: QueryFailed | None = None
        for url, recorded in place.sources(question):
            if recorded and url not in recording:
                continue
            try:
                query = place.query(question, store.window_seconds, recorded=recorded)
                found = merged(found, await ask(self._servers, url, query, question))
            except QueryFailed as error:
                failure = failure or error
            if complete(found, question.kind.parts):
                return found
        if failure:
            raise failure
        return found

    def _forget(self, place: Place) -> None:
        store = self._stores.pop(place, None)
        if store and store.reading:
            store.reading.cancel()

    def __len__(self) -> int:
        return len(self._stores)
