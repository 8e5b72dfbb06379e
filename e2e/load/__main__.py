"""Command line of the load tool: `python -m e2e.load TRACE --url URL --model NAME`."""

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import uvloop

from e2e.load.client import Result, Target
from e2e.load.player import play
from e2e.load.schedule import Schedule, TraceError, read_trace
from e2e.load.summary import Objectives, summarize

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MOST_REQUESTS = 100_000
LONGEST_SECONDS = 3600.0


def main(arguments: list[str] | None = None) -> int:
    """Play a trace; 0 when every request was answered in whole, 1 when some was not, 2 when it cannot be played."""
    parser = _parser()
    options = parser.parse_args(arguments)
    host = urlsplit(options.url).hostname
    if host not in LOCAL_HOSTS and not options.allow_host:
        parser.error(f"--url {options.url}: load goes to this machine only; --allow-host if {host} is yours to load")
    try:
        schedule = _schedule(options)
    except (TraceError, ValueError) as error:
        parser.error(str(error))
    target = Target(options.url.rstrip("/"), options.model, options.timeout, options.token_ids)
    results: list[Result] = []

    def keep(result: Result, out: TextIO | None) -> None:
        results.append(result)
        if out is not None:
            out.write(json.dumps(dataclasses.asdict(result)) + "\n")

    out = options.results.open("w") if options.results else None
    try:
        uvloop.run(play(target, schedule, on_result=lambda result: keep(result, out)))
    except KeyboardInterrupt:
        print("interrupted: what was sent so far is summed up", file=sys.stderr)
    finally:
        if out is not None:
            out.close()
    objectives = Objectives(options.ttft, options.itl) if options.ttft and options.itl else None
    summary = summarize(results, objectives, speedup=schedule.speedup)
    print(json.dumps(summary.as_json(), indent=2))
    return 0 if summary.ok == len(schedule) else 1


def _schedule(options: argparse.Namespace) -> Schedule:
    trace = read_trace(options.trace).window(options.start, options.length).scaled(options.rate_scale, options.seed)
    return trace.compressed(options.speedup).at_most(options.max_requests, options.max_seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.load",
        description="Plays a trace against an OpenAI-compatible server as an open, streaming load.",
    )
    add = parser.add_argument
    add("trace", type=Path, help="CSV, gzip or not, with the columns arrival_s, input_tokens, output_tokens")
    add("--url", required=True, help="base URL of the server, without /v1; of this machine")
    add("--model", required=True, help="served model name")
    add("--speedup", type=float, default=1.0, metavar="X", help="play X times as fast (default: %(default)s)")
    add("--rate-scale", type=float, default=1.0, metavar="X", help="X times as many requests (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the rate scale's chance (default: %(default)s)")
    add("--start", type=float, default=0.0, metavar="S", help="begin S seconds into the trace")
    add("--length", type=float, default=math.inf, metavar="S", help="play S seconds of the trace (default: all)")
    add("--max-requests", type=int, default=MOST_REQUESTS, metavar="N", help="send at most N (default: %(default)s)")
    add(
        "--max-seconds", type=float, default=LONGEST_SECONDS, metavar="S",
        help="send nothing after S seconds of the clock (default: %(default)s)",
    )  # fmt: skip
    add("--timeout", type=float, default=120.0, metavar="S", help="of one request (default: %(default)s)")
    add("--token-ids", action="store_true", help="prompts as token ids; without, text of 4 bytes a token")
    add("--ttft", type=float, metavar="S", help="objective for the first token, seconds of the trace")
    add("--itl", type=float, metavar="S", help="objective for the time between tokens, seconds of the trace")
    add("--results", type=Path, metavar="FILE", help="write each result as a JSON line")
    add("--allow-host", action="store_true", help="allow a server that is not on this machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
