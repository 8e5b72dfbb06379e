"""How the knobs of each peer are searched: as a careful team would that may replay its load as often as it likes."""

from collections.abc import Callable, Generator
from functools import partial

from dopd.planning.bounds import Pair
from dopd.planning.queueing import largest_batch
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dynamo import DynamoLoad, DynamoSla
from dopd.replay.policies.heteroscale import HeteroScale
from dopd.replay.policies.hpa import DEFAULT, Behaviour, Hpa
from dopd.replay.policies.keda import Keda
from dopd.replay.policies.tokenscale import TokenScale
from dopd.replay.runner import Result
from dopd.replay.search import Search, Step, Try, attempt, highest, highest_pair, least, listed
from dopd.replay.trace import Trace

TARGETS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
BEHAVIOURS = (
    Behaviour(down_window_seconds=60.0),
    Behaviour(down_window_seconds=900.0),
    Behaviour(up_window_seconds=60.0),
    Behaviour(up_pods=50),
)
PROMPTS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
"""Requests a worker at prefill."""
ANSWERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Requests a worker at decode, as shares of the largest batch within the ITL objective."""
VELOCITY_SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
RATIOS = (1.0, 0.8, 1.3, 1.7)
"""Multiples of the ratio that the mean load keeps busy."""
MOST_TIMES = 4
"""What the busiest minute needs: where so many workers do not reach the objective, as answers are lost, none do."""


def dynamo_sla(setting: Setting, start: Pair) -> Search:
    """Two intervals, objectives tightened or not."""
    return listed(
        [
            Try(
                f"interval {interval:g} s, objectives x {tightening:g}",
                start,
                partial(DynamoSla, setting, interval, tightening),
            )
            for interval in (180.0, 60.0)
            for tightening in (1.0, 0.6, 0.3)
        ]
    )


def dynamo_load(setting: Setting, start: Pair) -> Search:
    """Objectives tightened or not."""
    return listed(
        [
            Try(f"objectives x {factor:g}", start, partial(DynamoLoad, setting, factor))
            for factor in (1.0, 0.6, 0.3, 0.15)
        ]
    )


def hpa(setting: Setting, start: Pair) -> Search:
    """A target per role, then how fast it moves and over how long it measures."""
    goal = setting.objectives.attainment

    def try_of(behaviour: Behaviour, window: float, prefill: int, decode: int) -> Try:
        label = f"targets {TARGETS[prefill]:g} and {TARGETS[decode]:g}, {behaviour}, use over {window:g} s"
        make = partial(Hpa, setting, TARGETS[prefill], TARGETS[decode], behaviour, window)
        return Try(label, start, make)

    found = yield from highest_pair(partial(try_of, DEFAULT, 15.0), len(TARGETS), goal)
    windows = [(behaviour, 15.0) for behaviour in BEHAVIOURS] + [(DEFAULT, 60.0)]
    for behaviour, window in windows:
        yield from _around(partial(try_of, behaviour, window), found or (0, 0), len(TARGETS), goal)


def keda(setting: Setting, start: Pair) -> Search:
    """A threshold per role, then how fast it moves."""
    goal = setting.objectives.attainment
    full = _full_batch(setting)

    def try_of(behaviour: Behaviour, window: float, prefill: int, decode: int) -> Try:
        prompts, answers = PROMPTS[prefill], ANSWERS[decode] * full
        label = f"{prompts:g} prompts and {answers:.0f} answers a worker over {window:g} s, {behaviour}"
        return Try(label, start, partial(Keda, setting, prompts, answers, behaviour, window))

    found = yield from highest_pair(partial(try_of, DEFAULT, 60.0), len(PROMPTS), goal)
    for behaviour, window in ((BEHAVIOURS[0], 60.0), (BEHAVIOURS[1], 60.0), (DEFAULT, 15.0)):
        yield from _around(partial(try_of, behaviour, window), found or (0, 0), len(PROMPTS), goal)


def heteroscale(setting: Setting, trace: Trace, start: Pair) -> Search:
    """Tokens per second of a decode worker for several ratios, then how long the highest recommendation holds."""
    goal = setting.objectives.attainment
    demand = static.true_demand(trace, 0.0, trace.duration_seconds)
    busy = static.busy_workers(setting, demand)
    full = _full_batch(setting, demand.running_context_tokens)
    fastest = full / setting.model.itl_seconds(full, demand.running_context_tokens)

    def try_of(multiple: float, cool_down: float, k: int) -> Try:
        target, ratio = VELOCITY_SHARES[k] * fastest, multiple * busy[0] / busy[1]
        label = f"{target:.0f} tokens/s a worker, {ratio:.2f} prefill to one, down after {cool_down:g} s"
        return Try(label, start, partial(HeteroScale, setting, target, ratio, cool_down))

    def step(multiple: float, k: int) -> Step:
        return attempt(try_of(multiple, 300.0, k), goal)

    def cost(multiple: float, k: int) -> float:
        return (1 + multiple * busy[0] / busy[1]) / VELOCITY_SHARES[k]

    cheapest: tuple[float, float, int] | None = None
    for multiple in RATIOS:
        dearer = [k for k in range(len(VELOCITY_SHARES)) if cheapest and cost(multiple, k) >= cheapest[0]]
        k = yield from highest(partial(step, multiple), len(dearer) - 1, len(VELOCITY_SHARES))
        if k >= len(dearer):
            cheapest = cost(multiple, k), multiple, k
    if cheapest:
        for cool_down in (60.0, 900.0):
            yield try_of(cheapest[1], cool_down, cheapest[2])


def tokenscale(setting: Setting, start: Pair) -> Search:
    """The share of its velocity that a worker is counted with, then decoders to convert, and the window."""
    goal = setting.objectives.attainment

    def try_of(convertible: int, window: float, k: int) -> Try:
        label = f"{VELOCITY_SHARES[k]:g} of the velocity over {window:g} s, {convertible} convertible"
        return Try(label, start, partial(TokenScale, setting, VELOCITY_SHARES[k], convertible, window))

    def step(convertible: int, window: float, k: int) -> Step:
        return attempt(try_of(convertible, window, k), goal)

    end = len(VELOCITY_SHARES)
    found = {}
    for window in (15.0, 60.0):
        found[window] = yield from highest(partial(step, 0, window), -1, end)
    window, k = max(found.items(), key=lambda entry: entry[1])
    for convertible in (1, 2):
        yield from highest(partial(step, convertible, window), k, min(end, k + 3))


def fixed(setting: Setting, trace: Trace) -> Search:
    """The cheapest counts that reach the objective.

    The fewest workers of each role are those that do with plenty of the other; what reaches the objective has at
    least these, so it is the first, in order of cost, of the counts from there on.
    """
    goal = setting.objectives.attainment
    guess = static.peak(setting, trace)
    plenty = tuple(2 * count + 2 for count in guess)

    def step(pair: Pair) -> Step:
        return attempt(Try(f"{pair[0]} + {pair[1]}", pair, None), goal)

    prefill = yield from least(lambda n: step((n, plenty[1])), guess[0], 1, MOST_TIMES * guess[0])
    if prefill is None:
        return
    decode = yield from least(lambda n: step((plenty[0], n)), guess[1], 1, MOST_TIMES * guess[1])
    if decode is None:
        return
    gpus = setting.prefill_gpus, setting.decode_gpus
    more = sorted(((p, d) for p in range(6) for d in range(6)), key=lambda pair: pair[0] * gpus[0] + pair[1] * gpus[1])
    for extra_prefill, extra_decode in more:
        if (yield from step((prefill + extra_prefill, decode + extra_decode))):
            return


def _around(
    try_of: Callable[[int, int], Try], at: tuple[int, int], length: int, goal: float
) -> Generator[Try, Result, None]:
    """One knob more: at the indexes found so far, a step on if that reaches the objective, else a step back."""
    prefill, decode = at
    if (yield from attempt(try_of(prefill, decode), goal)):
        if prefill + 1 < length:
            yield try_of(prefill + 1, decode)
    elif prefill:
        yield try_of(prefill - 1, decode)


def _full_batch(setting: Setting, context_tokens: float = 2000.0) -> int:
    """The largest batch within the ITL objective."""
    model = setting.model
    most = max(1, min(int(model.kv_tokens // context_tokens), model.max_running_requests))
    return largest_batch(model.itl_curve(context_tokens), setting.objectives.itl_seconds, most)
