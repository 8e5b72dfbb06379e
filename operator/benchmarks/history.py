"""What a history of weeks costs: the first reading of a fresh operator, and each one after, from a real Prometheus.

Usage: python operator/benchmarks/history.py [--days 28] [--scrape 30] [--prefill 4] [--decode 8] [--buckets]

Samples of that many days are made up and written into a Prometheus on loopback (the one of the tests). With --buckets
the engines have the 35 buckets of SGLang in each histogram, which is ten times as much to make. Printed for each
reading: seconds, CPU seconds of this process and of Prometheus, queries, bytes of answers, the largest one.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from telemetry.real_prometheus import Series, serving

from dopd.telemetry import connection, queries
from dopd.telemetry.loads import LoadReader, Source

KEY = ("ns", "m")
DAY_SECONDS = 86_400.0
READINGS = (0.0, 15.0, 60.0, 75.0, 120.0, 3600.0)
"""Seconds after the first."""
BOUNDS = [100 * 1.3**i for i in range(34)]

Floats = npt.NDArray[np.float64]


def counter(times: Floats, rate: Floats) -> Floats:
    """What a counter shows that grows at a rate."""
    return np.cumsum(rate * np.diff(times, prepend=times[0]))


def samples(options: argparse.Namespace, now_seconds: float) -> Iterator[Series]:
    """A tenfold load by day, prompts four times as long by night."""
    times = np.arange(now_seconds - options.days * DAY_SECONDS, now_seconds, options.scrape)
    hours = times % DAY_SECONDS / 3600
    day = (hours > 8) & (hours < 18)
    rate = np.where(day, 20.0, 2.0)
    tokens = rate * np.where(day, 1000.0, 4000.0)
    for pool, pods in (("router", 1), ("prefill", options.prefill), ("decode", options.decode)):
        for pod in range(pods):
            labels = {"namespace": KEY[0], queries.INSTANCE: KEY[1], queries.POOL: pool}
            labels |= {"pod": f"m-{pool}-{pod}", "instance": f"10.{len(pool)}.0.{pod}:1"}
            yield "up", labels, ((at, 1) for at in times)
            for metric, values in metrics(pool, rate / pods, tokens / pods, options.buckets):
                name, _, bound = metric.partition("|")
                counts = counter(times, values)
                yield name, labels | ({"le": bound} if bound else {}), zip(times, counts, strict=True)


def metrics(pool: str, rate: Floats, tokens: Floats, with_buckets: bool) -> Iterator[tuple[str, Floats]]:
    """Metrics of a pod, with a bucket's bound after a bar, and their rates."""
    if pool == "router":
        yield "smg_router_requests_total", rate
        return
    name = "sglang:prompt_tokens_histogram" if pool == "prefill" else "sglang:generation_tokens_histogram"
    yield f"{name}_count", rate
    yield f"{name}_sum", tokens
    if pool == "prefill":
        yield "sglang:uncached_prompt_tokens_histogram_sum", tokens / 2
    for number, bound in enumerate([f"{bound:g}" for bound in BOUNDS] + ["+Inf"] if with_buckets else []):
        yield f"{name}_bucket|{bound}", rate * min(1.0, (number + 1) / len(BOUNDS))


def counting(answers: list[int]) -> Callable[[Any, Any], bytearray]:
    """A session's `_body` that notes the size of each answer."""
    read = connection._Session._body

    def body(session: Any, response: Any) -> bytearray:
        found = read(session, response)
        answers.append(len(found))
        return found

    return body


def cpu_seconds_of_child() -> float:
    """Of Prometheus, the only child that runs."""
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    ticks = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


async def read(url: str, now_seconds: float) -> None:
    """Read again and again, and print what it cost."""
    answers: list[int] = []
    connection._Session._body = counting(answers)  # type: ignore[method-assign, assignment]
    loads, source = LoadReader(), Source(url, 60.0, 28 * DAY_SECONDS, 15.0)
    for later in READINGS:
        answers.clear()
        began, own, its = time.perf_counter(), time.process_time(), cpu_seconds_of_child()
        history = await loads.history(source, KEY, now_seconds + later)
        took = time.perf_counter() - began
        own, its = time.process_time() - own, cpu_seconds_of_child() - its
        print(
            f"after {later:4.0f} s: {took:5.2f} s, CPU {own:.3f} s and {its:.2f} s of Prometheus,"
            f" {len(answers)} answers of {sum(answers) / 1024:.0f} KiB, the largest {max(answers) / 1024:.0f} KiB;"
            f" {len(history.past)} bins since {(now_seconds - history.past[0].end_seconds) / DAY_SECONDS:.1f} days"
        )
        for gap in history.gaps:
            print(gap)


def main() -> None:
    """Make the samples, serve them, read them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--days", type=float, default=28.0)
    parser.add_argument("--scrape", type=float, default=30.0, help="seconds between two scrapes")
    parser.add_argument("--prefill", type=int, default=4, help="pods")
    parser.add_argument("--decode", type=int, default=8, help="pods")
    parser.add_argument("--buckets", action="store_true", help="histograms with buckets")
    options = parser.parse_args()
    now_seconds = time.time() // 60 * 60
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("prometheus", Path(folder), samples(options, now_seconds)) as url,
    ):
        asyncio.run(read(url, now_seconds))


if __name__ == "__main__":
    main()
