"""A batch beside the online requests: what it gets, and what they and the GPU-hours pay for it, in one table.

python -m dopd.replay.batch TRACE [--rate-scale N] [--profile NAME] [--slo-ttft S] [--slo-itl S] [--batch-load 0.5]

The trace is the online load. The batch has lengths drawn from the trace, and as many tokens as a share of it
(`--batch-load`); it comes in jobs, all requests of one at once, one job every `--job-every` seconds.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.batch_cluster import BatchCluster
from dopd.replay.cluster import Cluster
from dopd.replay.options import above_zero, numbers, pair
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.profiles import load_profile
from dopd.replay.runner import follow
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Bools, Trace, load
from dopd.replay.workers import FIRST_COME, ON_TIME_FIRST, Settings

HEADER = (
    "| how the batch is served | online attained | TTFT p50; p90; p99 | ITL p90 | batch done, tokens | GPU-hours |\n"
    "|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """One way to serve the batch.

    Attributes:
        label: for the table.
        order: of prompts.
        apart: the batch is told apart; else its requests are as any other.
        slot_share: of the slots of all workers, how many it may hold.
        batch_share: what it may add to the load that is planned for.
        with_batch: whether there is one at all.
    """

    label: str
    order: str = ON_TIME_FIRST
    apart: bool = True
    slot_share: float = 0.1
    batch_share: float = 0.0
    with_batch: bool = True


def jobs(online: Trace, load_share: float, every_seconds: float, seed: int) -> Trace:
    """A batch of so many requests of the trace's lengths as have that share of its load, in jobs."""
    generator = np.random.default_rng(seed)
    count = round(load_share * len(online))
    drawn = generator.integers(0, len(online), count)
    starts = np.arange(0.0, max(online.duration_seconds, every_seconds), every_seconds)
    arrivals = np.sort(starts[np.arange(count) % len(starts)])
    return Trace("batch", arrivals, online.input_tokens[drawn], online.output_tokens[drawn], "requests")


def beside(online: Trace, batch: Trace) -> tuple[Trace, Bools]:
    """Both in order of arrival, and which requests are of the batch."""
    arrivals = np.concatenate([online.arrival_seconds, batch.arrival_seconds])
    order = np.argsort(arrivals, kind="stable")
    of_batch = np.concatenate([np.zeros(len(online), bool), np.ones(len(batch), bool)])[order]
    inputs = np.concatenate([online.input_tokens, batch.input_tokens])[order]
    outputs = np.concatenate([online.output_tokens, batch.output_tokens])[order]
    return Trace(online.name, arrivals[order], inputs, outputs, "requests"), of_batch


def serve(
    online: Trace, batch: Trace, row: Row, model: EngineModel, objectives: Objectives, counts: tuple[int, int] | None
) -> str:
    """Replay one row; returns its line of the table."""
    trace, of_batch = beside(online, batch) if row.with_batch else (online, np.zeros(len(online), bool))
    settings = Settings(
        startup_seconds=dict.fromkeys(Role, 60.0), objectives=objectives, order=row.order, return_seconds=5.0
    )
    start = counts or (2, 2)
    cluster: Cluster
    if row.apart and row.with_batch:
        cluster = BatchCluster(model, replace(trace, batch=of_batch), *start, settings, row.slot_share)
    else:
        cluster = Cluster(model, trace, *start, settings)
    policy = None
    if counts is None:
        setting = Setting(model, objectives, 60.0, on_time_first=row.order == ON_TIME_FIRST)
        policy = Dopd(setting, batch=row.apart and row.with_batch, batch_share=row.batch_share)
    follow(cluster, Telemetry(cluster), policy)
    return _line(row.label, cluster, trace, of_batch, objectives)


def _line(label: str, cluster: Cluster, trace: Trace, of_batch: Bools, objectives: Objectives) -> str:
    ttft, itl = np.array(cluster.ttft_seconds), np.array(cluster.itl_seconds)
    good = (ttft <= objectives.ttft_seconds) & (itl <= objectives.itl_seconds)
    online = ~of_batch
    p50, p90, p99 = np.quantile(ttft[online], (0.5, 0.9, 0.99))
    ended = trace.arrival_seconds + ttft + itl * (trace.output_tokens - 1)
    done = of_batch & (ended <= trace.duration_seconds)
    tokens = (trace.input_tokens + trace.output_tokens)[done].sum()
    share = f"{done.sum() / of_batch.sum():.1%}, {tokens / 1e6:.1f}M" if of_batch.any() else "-"
    return (
        f"| {label} | {good[online].mean():.2%} | {p50:.2f}; {p90:.2f}; {p99:.2f} s "
        f"| {np.quantile(itl[online], 0.9) * 1e3:.1f} ms | {share} | {cluster.gpu_seconds / 3600:.2f} |"
    )


def rows(slot_shares: Sequence[float], batch_shares: Sequence[float]) -> list[Row]:
    """All that is compared."""
    return [
        Row("no batch", with_batch=False),
        Row("no batch, first come first served", FIRST_COME, with_batch=False),
        *(
            Row(f"behind, slot share {slots:g}, planned for {planned:g}", slot_share=slots, batch_share=planned)
            for slots in slot_shares
            for planned in batch_shares
        ),
        Row("mixed in, on time first", apart=False),
        Row("mixed in, first come first served", FIRST_COME, apart=False),
    ]


def main(arguments: list[str]) -> int:
    """Print the table."""
    args = _parser().parse_args(arguments)
    try:
        above_zero(args, "rate_scale", "slo_ttft", "slo_itl", "batch_load", "job_every")
        for share in args.slot_share:
            if not 0 <= share <= 1:
                raise ValueError(f"--slot-share {share:g}: expected a share of 0 to 1")
        online = replace(
            load(args.trace, args.rate_scale, args.seed, args.from_seconds, args.to_seconds), prefixes=None
        )
        model = EngineModel.from_profile(load_profile(args.profile))
    except (OSError, ValueError) as error:
        print(f"batch: {error}", file=sys.stderr)
        return 2
    objectives = Objectives(args.slo_ttft, args.slo_itl, 0.99)
    batch = jobs(online, args.batch_load, args.job_every, args.seed)
    print(
        f"{Path(args.trace).name} x{args.rate_scale:g} on {args.profile}, TTFT {args.slo_ttft:g} s, "
        f"ITL {args.slo_itl:g} s, {len(online)} online requests and {len(batch)} of a batch\n\n{HEADER}"
    )
    for row in rows(args.slot_share, args.batch_share):
        if args.only not in row.label:
            continue
        print(serve(online, batch, row, model, objectives, args.counts), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dopd.replay.batch", description=__doc__)
    parser.add_argument("trace", help="of the online load, with requests (see docs/replay.md)")
    parser.add_argument("--rate-scale", type=float, default=1.0, help="copies of the trace")
    parser.add_argument("--from-seconds", type=float, default=0.0)
    parser.add_argument("--to-seconds", type=float, default=float("inf"))
    parser.add_argument("--profile", default="llama-3.1-8b-h100")
    parser.add_argument("--slo-ttft", type=float, default=1.5, help="seconds")
    parser.add_argument("--slo-itl", type=float, default=0.05, help="seconds")
    parser.add_argument(
        "--counts", type=pair, metavar="P,D", help="so many workers all the time; dopd scales if absent"
    )
    parser.add_argument("--batch-load", type=float, default=0.5, help="requests of the batch for each online one")
    parser.add_argument("--job-every", type=float, default=1800.0, help="seconds from one job to the next")
    parser.add_argument("--slot-share", type=numbers, default=(0.1,), help="one or more, by commas")
    parser.add_argument("--batch-share", type=numbers, default=(0.0,), help="one or more, by commas")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose first cell holds this")
    parser.add_argument("--seed", type=int, default=1)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
