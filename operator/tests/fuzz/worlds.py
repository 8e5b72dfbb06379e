"""Random worlds for the autoscaler: any profile and policy that the API server accepts, and whatever is measured."""

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.api.profile import EngineProfileSpec
from dopd.autoscaler import EngineSample, PastLoad, Sample
from dopd.perf import EngineModel
from dopd.perf.online import Counters
from dopd.planning import Demand, Objectives, PerRole, Policy, Ratio, RoleBounds, Workers
from dopd.planning.policy import Fallback


@dataclass(frozen=True)
class Look:
    """What one reading and the decision on it are given."""

    sample: Sample
    workers: PerRole[Workers]
    past: tuple[PastLoad, ...]
    now_seconds: float


@dataclass(frozen=True)
class World:
    """A model, a policy, and a sequence of looks."""

    model: EngineModel
    policy: Policy
    looks: tuple[Look, ...]
    restored: float | None


def spread(least: float, most: float) -> st.SearchStrategy[float]:
    """Numbers of every size between two, and the two."""
    return st.one_of(
        st.sampled_from([least, most]),
        st.floats(least, most),
        st.integers(-9, 15).map(lambda power: min(max(10.0**power, least), most)),
    )


@st.composite
def profiles(draw: st.DrawFn) -> EngineProfileSpec:
    """Any profile that the API server accepts."""
    tokens = draw(st.lists(st.integers(1, 10**7), min_size=2, max_size=6, unique=True).map(sorted))
    times = sorted(draw(st.lists(spread(1e-6, 86400), min_size=len(tokens), max_size=len(tokens))))
    batches = draw(st.lists(st.integers(1, 65536), min_size=1, max_size=4, unique=True).map(sorted))
    contexts = draw(st.lists(st.integers(1, 10**7), min_size=1, max_size=3, unique=True).map(sorted))
    grid: dict[tuple[int, int], float] = {}
    for i, batch in enumerate(batches):
        for j, context in enumerate(contexts):
            below = [(batches[i - 1], context)] * (i > 0) + [(batch, contexts[j - 1])] * (j > 0)
            least = max([1e-6, *(grid[place] for place in below)])
            grid[batch, context] = min(600.0, least + draw(st.sampled_from([0.0, 1e-9, 1e-3, 1.0, 1e3])))
    return EngineProfileSpec.model_validate(
        {
            "model": "m",
            "gpu": "g",
            "source": {"origin": "Synthetic", "description": "random", "date": "2026-11-29"},
            "correction": draw(spread(0.01, 10)),
            "prefill": {
                "points": [{"tokens": t, "seconds": s} for t, s in zip(tokens, times, strict=True)],
                "chunkTokens": draw(st.integers(64, 1_048_576)),
            },
            "decode": {
                "points": [{"batch": b, "contextTokens": c, "itlSeconds": s} for (b, c), s in grid.items()],
                "kvTokens": draw(st.integers(1, 10**9)),
                "maxRunningRequests": draw(st.integers(1, 65536)),
            },
            "transfer": {"baseSeconds": draw(spread(0, 2)), "tokensPerSecond": draw(spread(1, 1e12))},
            "startup": {
                "prefillSeconds": draw(spread(1e-3, 7200)),
                "decodeSeconds": draw(spread(1e-3, 7200)),
                "flipSeconds": draw(spread(1e-3, 7200)),
            },
        }
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any policy that a resource can state, contradictions among its bounds included."""

    def bounds() -> RoleBounds:
        least = draw(st.integers(1, 1000))
        return RoleBounds(least, draw(st.integers(least, 1000)), draw(st.integers(1, 64)))

    parts = st.integers(1, 100)
    ends = sorted(Fraction(draw(parts), draw(parts)) for _ in range(2))
    budget = draw(st.none() | st.integers(1, 100_000))
    return Policy(
        objectives=Objectives(draw(spread(1e-4, 120)), draw(spread(1e-5, 5)), draw(st.floats(0.5, 0.9999))),
        prefill=bounds(),
        decode=bounds(),
        gpu_budget=budget,
        gpu_budget_min=draw(st.integers(0, budget)) if budget else 0,
        ratio=draw(st.none() | st.just(Ratio(*ends))),
        max_step=draw(st.integers(1, 1000)),
        interval_seconds=draw(st.floats(1, 600)),
        scale_down_stabilization_seconds=draw(st.none() | st.floats(0, 86400)),
        role_switching=draw(st.booleans()),
        fallback=draw(st.none() | st.builds(Fallback, st.floats(0, 86400), st.integers(1, 1000), st.integers(1, 1000))),
        on_time_first=draw(st.booleans()),
    )


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    """Whatever queries may have summed up to, from nothing to what no cluster serves."""
    if draw(st.integers(0, 9)) == 0:
        return Demand.none()
    inputs, outputs = draw(spread(0, 1e7)), draw(spread(0, 1e7))
    return Demand(
        requests_per_second=draw(spread(0, 1e6)),
        input_tokens=inputs,
        input_tokens_second_moment=inputs**2 * draw(st.sampled_from([0.0, 1.0, 1.0 + 1e-12, 2.0, 100.0, 1e6])),
        output_tokens=outputs,
        uncached_share=draw(st.floats(0, 1)),
        output_tokens_second_moment=draw(
            st.none() | st.sampled_from([0.0, 1.0, 2.0, 1e6]).map(lambda factor: factor * outputs**2)
        ),
    )


def optional(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    """A number, or none that could be measured."""
    return st.none() | numbers


COUNTS = st.one_of(st.integers(0, 20), st.integers(0, 5000))
WORKERS = st.builds(
    Workers,
    serving=COUNTS,
    starting=COUNTS,
    draining=COUNTS,
    unschedulable=COUNTS,
    waiting_tokens=optional(spread(0, 1e12)),
    waiting_tokens_growth=spread(0, 1e12),
    waiting_requests=optional(spread(0, 1e9)),
    kv_use=optional(st.floats(0, 1)),
)


@st.composite
def pasts(draw: st.DrawFn, now_seconds: float) -> tuple[PastLoad, ...]:
    """Up to two days of a few loads that come and go, up to any time, with a hole now and then."""
    width = draw(st.sampled_from([15.0, 60.0, 600.0, 3600.0]))
    count = draw(st.integers(0, 48))
    if not count:
        return ()
    known = draw(st.lists(demands(), min_size=1, max_size=3))
    holes, end = draw(st.integers(2, 9)), now_seconds - draw(st.floats(-100, 7 * 86400))
    return tuple(
        PastLoad(end - width * back, width, known[back // 7 % len(known)])
        for back in range(count - 1, -1, -1)
        if back % holes
    )


@st.composite
def engines(draw: st.DrawFn) -> tuple[EngineSample, ...]:
    """Whatever two engines count; it may even fall, as when one starts anew."""
    numbers = spread(0, 1e12)
    return tuple(
        EngineSample(name, draw(st.sampled_from(Role)), draw(numbers), Counters(draw(numbers), draw(numbers), moments))
        for name, moments in draw(st.lists(st.tuples(st.sampled_from("ab"), st.tuples(*[numbers] * 5)), max_size=2))
    )


@st.composite
def looks(draw: st.DrawFn) -> tuple[Look, ...]:
    """Up to four looks, a second to a day apart; the past is known from the first on."""
    found, now = [], draw(spread(0, 2e9))
    past = draw(pasts(now))
    for _ in range(draw(st.integers(1, 4))):
        sample = Sample(
            at_seconds=now,
            demand=draw(st.none() | demands()),
            late_share=draw(optional(st.floats(0, 1))),
            window_seconds=draw(spread(1, 86400)),
            engines=draw(engines()),
        )
        found.append(Look(sample, PerRole(draw(WORKERS), draw(WORKERS)), past, now))
        now += draw(spread(1, 86400))
    return tuple(found)


WORLDS = st.builds(World, profiles().map(EngineModel.from_profile), policies(), looks(), st.none() | spread(1e-12, 1))
