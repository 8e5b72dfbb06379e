"""What KV-transfer domains save: the same workers and requests, with and without requests that cross.

    python -m dopd.replay.domains TRACE --counts P,D --domains 2 --same-gb-s 25 --uplink-gb-s 5

Workers are spread over domains. Within one, a KV cache goes from worker to worker at the speed `same`; what leaves a
domain shares one uplink of it, first come, first served. Three placements are compared: one gateway that pairs any
workers; the roles in domains of their own, as two node pools would be, so that every request crosses; and a gateway
for each domain with the ratio of the whole in each (spec.topology.domains), chosen by what each domain can carry.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.domains import divide
from dopd.replay.cluster import Cluster
from dopd.replay.options import above_zero, pair
from dopd.replay.profiles import load_profile
from dopd.replay.trace import Trace, load
from dopd.replay.workers import DecodeWorker, Settings, Worker

ANYWHERE, APART, TOGETHER = "any pair, one gateway", "a domain for each role", "a gateway for each domain"
PLACEMENTS = (ANYWHERE, APART, TOGETHER)
HEADER = (
    "| placement | cross | on time | TTFT p50, s | TTFT p99, s | GB/s that leave the busiest domain |\n"
    "|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Network:
    """How fast KV caches go.

    Attributes:
        kv_bytes: of a token.
        same_bytes_per_second: between two workers of a domain.
        uplink_bytes_per_second: of all that leaves a domain.
    """

    kv_bytes: float
    same_bytes_per_second: float
    uplink_bytes_per_second: float


class DomainCluster(Cluster):
    """A cluster whose workers are in domains.

    Attributes:
        crossed: requests whose KV cache left its domain.
        left_bytes: that left each domain.
    """

    def __init__(
        self, model: EngineModel, trace: Trace, places: Mapping[Role, list[int]], settings: Settings, network: Network
    ) -> None:
        self._network = network
        self.crossed, self.left_bytes = 0, dict.fromkeys({d for each in places.values() for d in each}, 0.0)
        self._free_at = dict.fromkeys(self.left_bytes, 0.0)
        self._from: dict[int, int] = {}
        super().__init__(model, trace, len(places[Role.PREFILL]), len(places[Role.DECODE]), settings)
        self._domain_of = {
            worker: domain for role in Role for worker, domain in zip(self.workers[role], places[role], strict=True)
        }

    def _pick_prefill(self, request: int) -> Worker:
        chosen = super()._pick_prefill(request)
        self._from[request] = self._domain_of[chosen]
        return chosen

    def _admit(self, worker: DecodeWorker, request: int) -> None:
        network, source = self._network, self._from.pop(request)
        size = self._inputs[request] * network.kv_bytes
        if source == self._domain_of[worker]:
            arrives = self.now + size / network.same_bytes_per_second
        else:
            self.crossed += 1
            self.left_bytes[source] += size
            self._free_at[source] = max(self.now, self._free_at[source]) + size / network.uplink_bytes_per_second
            arrives = self._free_at[source]
        self._transfer_rate = (arrives - self.now) / max(self._inputs[request], 1)
        super()._admit(worker, request)


def spread(counts: Mapping[Role, int], domains: int, placement: str) -> dict[Role, list[int]]:
    """The domain of each worker, by role.

    Args:
        counts: workers of each role.
        domains: how many there are; of equal size.
        placement: one of `PLACEMENTS`.
    """
    if placement == ANYWHERE:
        return {role: [number % domains for number in range(counts[role])] for role in Role}
    if placement == APART:
        first = max(1, round(domains * counts[Role.PREFILL] / sum(counts.values())))
        beside = max(domains - first, 1)
        return {
            Role.PREFILL: [number % first for number in range(counts[Role.PREFILL])],
            Role.DECODE: [domains - 1 - number % beside for number in range(counts[Role.DECODE])],
        }
    rare = min(Role, key=lambda role: counts[role])
    units = -(-counts[rare] // domains)
    room = units + math.ceil(units * counts[rare.other] / counts[rare])
    made = divide(counts, dict.fromkeys(Role, 1), dict.fromkeys(map(str, range(domains)), room), {})
    return {role: [int(name) for name, of in made.counts.items() for _ in range(of[role])] for role in Role}


@dataclass(frozen=True)
class Figures:
    """What clients met, and what crossed.

    Attributes:
        crossed: share of the requests.
        on_time: share of the requests within both objectives.
        ttft_seconds: of each request.
        busiest_gb_s: mean of what left the domain that most left.
    """

    crossed: float
    on_time: float
    ttft_seconds: list[float]
    busiest_gb_s: float

    def row(self, placement: str) -> str:
        """A row of the table."""
        p50, p99 = np.quantile(self.ttft_seconds, [0.5, 0.99])
        return (
            f"| {placement} | {self.crossed:.0%} | {self.on_time:.2%} | {p50:.2f} | {p99:.2f} "
            f"| {self.busiest_gb_s:.2f} |"
        )


def serve(
    model: EngineModel,
    trace: Trace,
    places: Mapping[Role, list[int]],
    settings: Settings,
    network: Network,
    apart: bool,
) -> Figures:
    """Serve a trace on workers that stay.

    Args:
        model: of the engines.
        trace: the requests.
        places: domain of each worker.
        settings: of the cluster.
        network: between workers.
        apart: each domain has a gateway of its own, and gets the share of the requests that it can carry.
    """
    domains = sorted({domain for each in places.values() for domain in each})
    if not apart:
        parts = [(trace, places)]
    else:
        carries = [min(places[role].count(d) / len(places[role]) for role in Role) for d in domains]
        shares = np.array(carries) / sum(carries)
        drawn = np.random.default_rng(settings.seed).choice(len(domains), len(trace), p=shares)
        parts = [
            (
                replace(
                    trace,
                    arrival_seconds=trace.arrival_seconds[drawn == index],
                    input_tokens=trace.input_tokens[drawn == index],
                    output_tokens=trace.output_tokens[drawn == index],
                ),
                {role: [d for d in places[role] if d == domain] for role in Role},
            )
            for index, domain in enumerate(domains)
        ]
    crossed, late, left = 0, 0, 0.0
    ttft: list[float] = []
    for part, there in parts:
        cluster = DomainCluster(model, part, there, settings, network)
        cluster.run()
        crossed, late, ttft = crossed + cluster.crossed, late + cluster.late, ttft + cluster.ttft_seconds
        left = max(left, *cluster.left_bytes.values())
    return Figures(crossed / len(trace), 1 - late / len(trace), ttft, left / trace.duration_seconds / 1e9)


def main(arguments: list[str]) -> int:
    """Print the table."""
    args = _parser().parse_args(arguments)
    try:
        _check(args)
        trace = replace(load(args.trace, args.rate_scale, args.seed), prefixes=None)
        model = EngineModel.from_profile(load_profile(args.profile))
    except (OSError, ValueError) as error:
        print(f"domains: {error}", file=sys.stderr)
        return 2
    counts = dict(zip((Role.PREFILL, Role.DECODE), args.counts, strict=True))
    settings = Settings(
        dict.fromkeys(Role, 0.0), seed=args.seed, objectives=Objectives(args.slo_ttft, args.slo_itl, 0.99)
    )
    network = Network(args.kv_kib * 1024, args.same_gb_s * 1e9, args.uplink_gb_s * 1e9)
    print(HEADER)
    for placement in PLACEMENTS:
        places = spread(counts, args.domains, placement)
        print(serve(model, trace, places, settings, network, apart=placement == TOGETHER).row(placement), flush=True)
    return 0


def _check(args: argparse.Namespace) -> None:
    above_zero(args, "rate_scale", "kv_kib", "same_gb_s", "uplink_gb_s", "slo_ttft", "slo_itl")
    if not 2 <= args.domains <= min(args.counts):
        raise ValueError(f"--domains {args.domains}: expected 2 to {min(args.counts)}, the workers of the rarer role")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dopd.replay.domains", description=__doc__)
    parser.add_argument("trace", help="a trace with requests (see docs/replay.md)")
    parser.add_argument("--counts", type=pair, metavar="P,D", required=True, help="workers, which stay")
    parser.add_argument("--domains", type=int, default=2, help="of equal size")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="copies of the trace")
    parser.add_argument("--profile", default="llama-3.1-8b-h100")
    parser.add_argument("--kv-kib", type=float, default=128.0, help="KV cache of a token; Llama 3.1 8B: 128")
    parser.add_argument("--same-gb-s", type=float, default=25.0, help="between two workers of a domain, GB/s")
    parser.add_argument("--uplink-gb-s", type=float, default=5.0, help="of all that leaves a domain, GB/s")
    parser.add_argument("--slo-ttft", type=float, default=1.5, help="seconds")
    parser.add_argument("--slo-itl", type=float, default=0.05, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
