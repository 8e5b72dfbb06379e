"""One prefill worker that goes by an order, pass by pass; and random queues for it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from dopd_scheduling import Order, Piece, Points, Prompt, ServiceTimes, Settings
from dopd_scheduling.batch import PLACES

TIMES = ServiceTimes(pass_points=((227, 0.007), (8192, 0.182)), attention_seconds=0.4e-9)
"""About an 8B model on one H100."""

ROOM = 8192


def pieces_seconds(times: ServiceTimes, pieces: Iterable[Piece]) -> float:
    """Time of a pass over these pieces."""
    pieces = list(pieces)
    attention = sum(times.piece_attention_seconds(tokens, prompt.context_tokens) for prompt, tokens in pieces)
    return times.pass_seconds(sum(tokens for _, tokens in pieces), attention)


@dataclass
class Worker:
    """What a worker has before it and behind it.

    Attributes:
        finished_seconds: by key, when the last pass of a prompt ended.
        work_seconds: work of all passes so far.
        passes: how many there were.
    """

    order: Order
    room_tokens: int = ROOM
    now_seconds: float = 0.0
    waiting: list[Prompt] = field(default_factory=list)
    unfinished: list[Prompt] = field(default_factory=list)
    finished_seconds: dict[object, float] = field(default_factory=dict)
    work_seconds: float = 0.0
    passes: int = 0

    def step(self) -> list[Piece]:
        """One pass; what the order returns is checked."""
        settings, times = self.order.settings, self.order.settings.times
        pieces = self.order.next_pass(self.now_seconds, self.waiting, self.unfinished, self.room_tokens)
        check(pieces, self.waiting, self.unfinished, self.room_tokens, settings.most_unfinished)
        self.work_seconds += sum(times.work_seconds(tokens, prompt.context_tokens) for prompt, tokens in pieces)
        self.now_seconds += pieces_seconds(times, pieces)
        self.passes += 1
        for prompt, tokens in pieces:
            prompt.tokens -= tokens
            prompt.context_tokens += tokens
            if prompt in self.waiting:
                self.waiting.remove(prompt)
                self.unfinished.append(prompt)
            if not prompt.tokens:
                self.unfinished.remove(prompt)
                self.finished_seconds[prompt.key] = self.now_seconds
        return pieces

    def serve(self, arrivals: Iterable[Prompt], until: object = None) -> "Worker":
        """Serve prompts as they arrive, to the end or until one is finished."""
        coming = sorted(arrivals, key=lambda prompt: prompt.arrived_seconds)
        coming.reverse()
        while coming or self.waiting or self.unfinished:
            if not self.waiting and not self.unfinished:
                self.now_seconds = max(self.now_seconds, coming[-1].arrived_seconds)
            while coming and coming[-1].arrived_seconds <= self.now_seconds:
                self.waiting.append(coming.pop())
            self.step()
            if until is not None and until in self.finished_seconds:
                break
        return self


def check(
    pieces: list[Piece], waiting: list[Prompt], unfinished: list[Prompt], room_tokens: int, most_unfinished: int
) -> None:
    """Whether a pass is one that `Order.next_pass` may return."""
    known = {id(prompt) for prompt in (*waiting, *unfinished)}
    assert pieces or not known
    assert len({id(prompt) for prompt, _ in pieces}) == len(pieces)
    assert {id(prompt) for prompt, _ in pieces} <= known
    assert all(1 <= tokens <= prompt.tokens for prompt, tokens in pieces)
    assert sum(tokens for _, tokens in pieces) <= room_tokens
    done = {id(prompt) for prompt, tokens in pieces if tokens == prompt.tokens}
    begun = {id(prompt) for prompt in unfinished} | {id(prompt) for prompt, _ in pieces}
    of_batch = {id(prompt) for prompt in (*waiting, *unfinished) if prompt.batch}
    places = most_unfinished + PLACES * (most_unfinished > 1 and bool(of_batch))
    assert len(begun - done) <= places
    assert len(begun - done - of_batch) <= most_unfinished


def copied(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Other objects that say the same."""
    return [replace(prompt) for prompt in prompts]


lengths = st.one_of(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 40_000))


def _roofline(least_seconds: float, fixed_seconds: float, token_seconds: float) -> Points:
    """A pass reads the weights once, and computes; the longer of the two counts."""
    counts = sorted({1.0, max(1.0, (least_seconds - fixed_seconds) / token_seconds), ROOM})
    return tuple((tokens, max(least_seconds, fixed_seconds + token_seconds * tokens)) for tokens in counts)


times = st.builds(
    ServiceTimes,
    pass_points=st.builds(_roofline, st.floats(0, 0.02), st.floats(0, 0.02), st.floats(1e-6, 1e-3)),
    attention_seconds=st.floats(0, 1e-8),
    transfer_seconds=st.floats(0, 0.01),
    transfer_token_seconds=st.floats(0, 1e-5),
)


@st.composite
def settings(draw: st.DrawFn, most_unfinished: int = 4) -> Settings:
    """Settings within what they may be."""
    return Settings(
        ttft_seconds=draw(st.floats(0.05, 20)),
        times=draw(times),
        late_share=draw(st.floats(0, 1)),
        predicted_tokens=draw(st.floats(0, 20_000)),
        most_unfinished=draw(st.integers(1, most_unfinished)),
    )


@st.composite
def prompts(draw: st.DrawFn, most: int = 12, within_seconds: float = 10.0) -> list[Prompt]:
    """Prompts in order of arrival, from 0 s on."""
    arrived = sorted(draw(st.lists(st.floats(0, within_seconds), min_size=1, max_size=most)))
    cached = st.one_of(st.just(0), st.integers(0, 20_000))
    return [Prompt(key, at, draw(lengths), draw(cached)) for key, at in enumerate(arrived)]
