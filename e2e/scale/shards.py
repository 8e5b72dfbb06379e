"""Shards on paper, for clusters that nobody here has: `python -m e2e.scale.shards`.

What is real are the rules by which processes share shards (`dopd.cluster.shares`), on a clock that is played. Resources
have heavy-tailed sizes (log-normal). What passes cost is told by the options: the defaults make the 44 ms that
`python -m e2e.scale` measured for a resource with eight workers in a period. Processes die or are stopped every few
minutes, and come back.
"""

import argparse
import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import mean, median

from dopd.cluster.shares import LAYOUT, Candidate, Put, Seen, shard_of

LEASE_SECONDS = 15.0
BUSY = 0.6
"""Share of a core that passes should take of a process when all processes are there."""
SHARDS_OF_PROCESS, MOST_SHARDS = 4, 64
SPREAD = 1.5
"""Of the logarithms of sizes: the largest tenth of the resources has more than half of the GPUs."""
FEWEST_GPUS, GPUS_OF_WORKER = 2, 2
READS_OF_RESOURCE = 7
"""Of the API server in a period at rest, as `python -m e2e.scale` counted them."""
HOURS, FAILURE_SECONDS, AWAY_SECONDS = 2.0, 300.0, 90.0
"""So long is played; a process fails this often, and is away for so long."""


@dataclass
class Server:
    """Leases at a time; a write that names an old version is refused. Also for the tests of the rules."""

    now: float = 0.0
    leases: dict[int, Seen] = field(default_factory=dict)
    writes: int = 0

    def put(self, put: Put, before: Seen, duration_seconds: float) -> Seen | None:
        """What is stored then; None where somebody wrote meanwhile."""
        if self.leases.get(put.slot, Seen()).version != before.version:
            return None
        self.writes += 1
        renewed = f"{self.now} {self.writes}" if put.renews else before.renewed
        lasts = duration_seconds if put.renews else before.duration_seconds
        self.leases[put.slot] = Seen(put.holder, put.wanted_by, renewed, lasts, str(self.writes))
        return self.leases[put.slot]


def look(server: Server, candidate: Candidate, now: float, *, leaves: bool = False) -> None:
    """One look of a process at the Leases, with answers at once."""
    server.now, found = now, dict(server.leases)
    candidate.saw(found, now, now)
    candidate.review(now)
    for shard in range(candidate.shards):
        if not candidate.may_act(shard, now):
            candidate.ended(shard)
    for _ in range(1 if leaves else 2):  # the second time for shards, once the layout is held
        for put in candidate.farewell() if leaves else candidate.puts(now):
            written = server.put(put, found.get(put.slot, Seen()), LEASE_SECONDS)
            if written:
                candidate.wrote(put, written, now, now)
                found[put.slot] = written
        if candidate.may_act(0, now) or server.leases[LAYOUT].holder != candidate.layout:
            return


@dataclass
class Played:
    """What was seen.

    Attributes:
        after_death: seconds for which a shard was nobody's after its process had died.
        after_stop: the same after a clean stop.
        shares: shards of each process, at moments when all were there and had had time.
        shares_of_others: the same just before one that was gone came back.
        writes_per_second: to Leases.
    """

    after_death: list[float] = field(default_factory=list)
    after_stop: list[float] = field(default_factory=list)
    shares: list[dict[str, list[int]]] = field(default_factory=list)
    shares_of_others: list[dict[str, list[int]]] = field(default_factory=list)
    writes_per_second: float = 0.0


def play(processes: int, shards: int, seed: int) -> Played:
    """Processes fail in turn, every other time by a clean stop, and come back."""
    chance, server, played, names = random.Random(seed), Server(), Played(), count()
    alive: dict[str, Candidate] = {}
    free_since: dict[int, tuple[float, bool]] = {}
    events: list[tuple[float, int, str]] = []
    order = count()

    def begin(at: float) -> None:
        name = f"dopd-{next(names)}"
        alive[name] = Candidate(name, shards, LEASE_SECONDS)
        heapq.heappush(events, (at + chance.random() * 2, next(order), name))

    for _ in range(processes):
        begin(0.0)
    fails, stops = FAILURE_SECONDS, False
    heapq.heappush(events, (fails, next(order), "fail"))
    now = 0.0
    while events and now < HOURS * 3600:
        now, _, name = heapq.heappop(events)
        if name == "fail":
            if len(alive) == processes:
                played.shares.append(_held(server, alive))
            heapq.heappush(events, (now + FAILURE_SECONDS * (0.5 + chance.random()), next(order), "fail"))
            heapq.heappush(events, (now + AWAY_SECONDS, next(order), "back"))
            victim = chance.choice(sorted(alive))
            candidate, stops = alive.pop(victim), not stops
            for shard in _held(server, {victim: candidate})[victim]:
                free_since[shard] = (now, stops)
            if stops:
                look(server, candidate, now, leaves=True)
        elif name == "back":
            if len(alive) == processes - 1:
                played.shares_of_others.append(_held(server, alive))
            begin(now)
        elif name in alive:
            candidate = alive[name]
            look(server, candidate, now)
            for shard in [shard for shard in free_since if candidate.may_act(shard, now)]:
                since, stopped = free_since.pop(shard)
                (played.after_stop if stopped else played.after_death).append(now - since)
            heapq.heappush(events, (now + candidate.round_seconds, next(order), name))
    played.writes_per_second = server.writes / now
    return played


def _held(server: Server, alive: dict[str, Candidate]) -> dict[str, list[int]]:
    held: dict[str, list[int]] = {name: [] for name in alive}
    for slot, lease in server.leases.items():
        if slot != LAYOUT and lease.holder in held:
            held[lease.holder].append(slot)
    return held


def sizes(gpus: int, of_resource: float, seed: int) -> Iterator[int]:
    """GPUs of resources, until all are given."""
    chance, left = random.Random(seed), gpus
    middle = math.log(of_resource) - SPREAD**2 / 2
    while left > 0:
        size = max(FEWEST_GPUS, min(left, round(chance.lognormvariate(middle, SPREAD))))
        left -= size
        yield size


def row(gpus: int, of_resource: float, interval: float, pass_seconds: float, worker_seconds: float, seed: int) -> str:
    """A line of the table."""
    all_sizes = list(sizes(gpus, of_resource, seed))
    costs = [(pass_seconds + worker_seconds * size / GPUS_OF_WORKER) / interval for size in all_sizes]
    processes = max(1, math.ceil(sum(costs) / BUSY))
    shards = min(MOST_SHARDS, SHARDS_OF_PROCESS * processes) if processes > 1 else 1
    busy = dict.fromkeys(range(shards), 0.0)
    for number, cost in enumerate(costs):
        busy[shard_of(f"team-{number % 100}", f"m-{number}", shards)] += cost
    reads = READS_OF_RESOURCE * len(all_sizes) / interval
    head = [f"{gpus:,}", f"{of_resource:g}", f"{interval:g}", f"{len(all_sizes):,}", f"{processes}", f"{shards}"]
    if processes == 1:
        return _line([*head, f"{sum(costs):.2f}", "", "", "", "", f"{reads:,.0f}", ""])
    played = play(processes, shards, seed)
    loads = [[sum(busy[s] for s in held) for held in shares.values()] for shares in played.shares]
    of_others = [[sum(busy[s] for s in held) for held in shares.values()] for shares in played.shares_of_others]
    largest, after = max(map(max, loads)), max(map(max, of_others))
    lease_reads = 2 * processes / (LEASE_SECONDS / 7.5)
    nobody = f"{median(played.after_death):.0f}, {max(played.after_death):.0f}"
    figures = [f"{mean(map(mean, loads)):.2f}", f"{largest:.2f}", f"{after:.2f}", nobody]
    rest = [f"{max(played.after_stop):.0f}", f"{reads + lease_reads:,.0f}", f"{played.writes_per_second:.0f}"]
    return _line([*head, *figures, *rest])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


HEADS = (
    *("GPUs", "of a resource", "interval, s", "resources", "processes", "shards"),
    *("busy, mean", "busiest", "busiest when one is gone", "nobody's after a death, s: median, longest"),
    *("after a stop: longest", "API reads/s", "Lease writes/s"),
)

CASES = (
    (1_000, 16, 15),
    (10_000, 16, 15),
    (10_000, 16, 60),
    (100_000, 16, 15),
    (100_000, 16, 60),
    (100_000, 256, 15),
    (100_000, 256, 60),
)
"""GPUs, GPUs of a resource in the mean, seconds between two passes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m e2e.scale.shards", description=__doc__)
    parser.add_argument("--pass-seconds", type=float, default=0.036, help="CPU of a resource in a period (0.036)")
    parser.add_argument("--worker-seconds", type=float, default=0.001, help="and for each worker (0.001)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print(_line(HEADS))
    print("|" + "---|" * len(HEADS))
    for gpus, of_resource, interval in CASES:
        print(row(gpus, of_resource, interval, options.pass_seconds, options.worker_seconds, options.seed))


if __name__ == "__main__":
    main()
