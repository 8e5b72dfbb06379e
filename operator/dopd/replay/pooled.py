"""Several models on one pool of GPUs against fixed splits of it: the same arrivals, the operator's autoscaler and pool.

python -m dopd.replay.pooled --gpus 16 NAME=TRACE[,scale=1][,seed=1][,priority=0][,guaranteed=0] NAME=...
    [--splits 8+8,10+6]

Each model has a simulated cluster of its own. They move in step: every five seconds all of them stand still, those that
are due plan, the pool divides, and each starts what it is granted and drains what it is to give. A GPU counts from the
decision to start a worker until that has drained, so a hand-over takes as long as the drain.
"""

import argparse
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.bounds import Pair
from dopd.planning.pool import Pool, Row, divide, settle
from dopd.planning.sharing import NOTHING, ONE_TYPE, Entry
from dopd.replay.cluster import Cluster
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.profiles import load_profile
from dopd.replay.runner import Result, measure
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace, load
from dopd.replay.workers import ON_TIME_FIRST, Phase, Settings

TICK_SECONDS = 5.0
KIND = ONE_TYPE[0]
PAIR = 2
"""GPUs without which nobody is served: a prefill and a decode worker of one each."""
_WHOLE = (("seed", 1), ("priority", 0), ("guaranteed", 0))
_LIVE = (Phase.PENDING, Phase.STARTING, Phase.SERVING)


@dataclass(frozen=True)
class Model:
    """One model that takes part.

    Attributes:
        name: of it.
        trace: its requests.
        entry: what the pool says of it.
    """

    name: str
    trace: Trace
    entry: Entry


@dataclass
class _Place:
    """One model under way."""

    cluster: Cluster
    telemetry: Telemetry
    policy: Dopd
    due_seconds: float = 0.0
    wanted: Pair = (1, 1)


@dataclass
class Together:
    """Models that move in step on one pool.

    Attributes:
        pool: what an admin says.
        places: models by name.
        rows: the ledger.
        most_held: GPUs held at once, at most.
        taken: workers that a model had to give while it wanted them.
    """

    pool: Pool
    places: Mapping[str, _Place]
    rows: dict[str, Row] = field(default_factory=dict)
    most_held: int = 0
    taken: int = 0

    def step(self) -> None:
        """All stand still at one time: plan, divide, move. Each model has its turn, as in the operator."""
        for name, place in self.places.items():
            cluster = place.cluster
            place.telemetry.scrape()
            if cluster.now >= place.due_seconds:
                place.wanted, seconds = place.policy.decide(place.telemetry)
                place.due_seconds = cluster.now + seconds
            self._turn(name, place)
        self.most_held = max(self.most_held, sum(place.cluster.gpus_held for place in self.places.values()))

    def _turn(self, name: str, place: _Place) -> None:
        before = self.rows.get(name, Row(name, NOTHING, (1, 1), (1, 1), ONE_TYPE))
        row = replace(before, wanted=place.wanted, held={KIND: place.cluster.gpus_held})
        old = {one: r.share for one, r in self.rows.items()}
        self.rows = divide(self.pool, {**self.rows, name: row}, place.cluster.now)
        for one, r in self.rows.items():
            self.taken += max(0, min(sum(old.get(one, NOTHING)), sum(r.wanted)) - sum(r.share))
        self.rows[name] = settle(self.pool, self.rows, name)
        _move(place.cluster, self.rows[name].share, self.rows[name].granted.get(KIND, 0))


def _move(cluster: Cluster, share: Pair, granted: int) -> None:
    """Drain what is too much; start what is too little, as far as it is granted, the role first that lacks most."""
    live = [cluster.count(role, *_LIVE) for role in Role]
    for number, role in enumerate(Role):
        if share[number] < live[number]:
            live[number] = share[number]
            cluster.scale_to(role, live[number])
    free = granted - cluster.gpus_held
    for _ in range(max(free, 0)):
        lacking = [number for number in (0, 1) if live[number] < share[number]]
        if lacking:
            live[min(lacking, key=lambda number: live[number] / share[number])] += 1
    for number, role in enumerate(Role):
        if live[number] > cluster.count(role, *_LIVE):
            cluster.scale_to(role, live[number])


def in_step(clusters: Sequence[Cluster], step: Callable[[], None]) -> None:
    """Run clusters side by side; `step` is called each TICK_SECONDS, when all stand at the same time."""
    done: set[int] = set()
    over = False

    def act() -> None:
        nonlocal over
        over = len(done) == len(clusters)
        if not over:
            step()

    barrier = threading.Barrier(len(clusters), act)

    def run(number: int) -> None:
        def tick() -> float:
            barrier.wait()
            return TICK_SECONDS

        try:
            clusters[number].run(tick)
            done.add(number)
            while not over:
                barrier.wait()
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(clusters))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if barrier.broken:
        raise RuntimeError("a model of the replay failed; its error is above")


def replay(
    models: Sequence[Model], pool: Pool, engine: EngineModel, objectives: Objectives, settings: Settings
) -> tuple[dict[str, Result], Together]:
    """All models on one pool; what their clients met."""
    places = {}
    for model in models:
        cluster = Cluster(engine, model.trace, 1, 1, settings)
        policy = Dopd(Setting(engine, objectives, settings.startup_seconds[Role.PREFILL], on_time_first=True))
        places[model.name] = _Place(cluster, Telemetry(cluster), policy)
    together = Together(pool, places)
    in_step([place.cluster for place in places.values()], together.step)
    return {name: measure(place.cluster, objectives, []) for name, place in places.items()}, together


def split(models: Sequence[Model], gpus: Sequence[int]) -> Pool:
    """A pool that is divided for good: each is guaranteed its part, and gets no more."""
    entries = {model.name: Entry(0, {KIND: part}, {KIND: part}) for model, part in zip(models, gpus, strict=True)}
    return Pool({KIND: sum(gpus)}, entries)


def row(label: str, models: Sequence[Model], results: Mapping[str, Result], together: Together) -> str:
    """One line of the table."""
    counts = {model.name: len(model.trace) for model in models}
    all_of_them = sum(results[name].attainment * count for name, count in counts.items()) / sum(counts.values())
    each = " | ".join(f"{results[model.name].attainment:.2%}" for model in models)
    hours = sum(result.gpu_hours for result in results.values())
    return f"| {label} | {each} | {all_of_them:.2%} | {hours:.2f} | {together.most_held} | {together.taken} |"


def _model(text: str, until_seconds: float) -> Model:
    name, _, rest = text.partition("=")
    source, *options = rest.split(",")
    said = dict(option.split("=", 1) for option in options)
    unknown = said.keys() - {"scale", "seed", "priority", "guaranteed"}
    if not source or unknown:
        raise ValueError(f"{text}: expected NAME=TRACE[,scale=][,seed=][,priority=][,guaranteed=]")
    try:
        scale = float(said.get("scale", 1))
        seed, priority, guaranteed = (int(said.get(key, usual)) for key, usual in _WHOLE)
    except ValueError as error:
        raise ValueError(f"{text}: {error}; expected numbers after scale=, seed=, priority= and guaranteed=") from error
    return Model(name, load(source, scale, seed, 0.0, until_seconds), Entry(priority, {KIND: guaranteed}))


def _splits(text: str, count: int) -> dict[str, list[int]]:
    """GPUs of each model, by their text."""
    found = {}
    for one in filter(None, text.split(",")):
        parts = one.split("+")
        if len(parts) != count or not all(part.isdigit() and int(part) >= PAIR for part in parts):
            raise ValueError(f"--splits {one}: expected GPUs for each of {count} models, at least {PAIR}, like 8+8")
        found[one] = [int(part) for part in parts]
    return found


def main(arguments: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=TRACE")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--splits", default="", help="GPUs of each model, such as 8+8,10+6")
    parser.add_argument("--hold-seconds", type=float, default=300.0)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--profile", default="llama-3.1-8b-h100")
    parser.add_argument("--slo-ttft", type=float, default=1.5)
    parser.add_argument("--slo-itl", type=float, default=0.05)
    parser.add_argument("--start-up-seconds", type=float, default=60.0)
    args = parser.parse_args(arguments)
    try:
        least = PAIR * len(args.models)
        if args.gpus < least:
            raise ValueError(f"--gpus {args.gpus}: expected at least {least}, one of each role for each model")
        splits = _splits(args.splits, len(args.models))
        models = [_model(text, 3600 * args.hours) for text in args.models]
        profile = load_profile(args.profile)
    except (OSError, ValueError) as error:
        print(f"pooled: {error}", file=sys.stderr)
        return 2
    started = dict.fromkeys(Role, args.start_up_seconds)
    engine = EngineModel.from_profile(profile)
    engine = replace(engine, startup_seconds={role.value: seconds for role, seconds in started.items()})
    objectives = Objectives(args.slo_ttft, args.slo_itl, 0.99)
    settings = Settings(startup_seconds=started, objectives=objectives, order=ON_TIME_FIRST)
    names = " | ".join(f"{model.name} attained" for model in models)
    print(f"| {args.gpus} GPUs | {names} | all | GPU-hours | held at most | workers taken |")
    print("|---" * (len(models) + 5) + "|")
    pools = {"one pool": Pool({KIND: args.gpus}, {m.name: m.entry for m in models}, args.hold_seconds)}
    for text, parts in splits.items():
        pools[f"split {text}"] = split(models, parts)
    for label, pool in pools.items():
        print(row(label, models, *replay(models, pool, engine, objectives, settings)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
