"""The backtest command: reads a file, runs the models, shows and writes what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dopd_forecasting.backtest.measures import AUTO, BASELINE, summarise
from dopd_forecasting.backtest.peers import FixedTrendFilter, OnceArima, PiecewiseTrend
from dopd_forecasting.backtest.reading import BadFile, read_series
from dopd_forecasting.backtest.rolling import DEFAULT_STRIDE, default_warmup, roll
from dopd_forecasting.forecaster import DEFAULT_MODELS, Forecaster
from dopd_forecasting.models.base import Model

PEERS: tuple[Callable[[], Model], ...] = (OnceArima, FixedTrendFilter, PiecewiseTrend)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        from rich.console import Console
        from rich.progress import Progress

        from dopd_forecasting.backtest import report
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'dopd[reports]'", file=sys.stderr)
        return 2
    console, errors = Console(), Console(stderr=True)
    try:
        series = read_series(options.file, options.column, options.bin, options.time)
        warmup = options.warmup or default_warmup(series)
        makers = {name: _maker(name, options.horizons) for name in dict.fromkeys([BASELINE, *options.models])}
        with Progress(console=errors, transient=True) as bar:
            tasks = {name: bar.add_task(name, total=len(series)) for name in makers}
            runs = roll(
                series,
                makers,
                options.horizons,
                stride=options.stride,
                warmup=warmup,
                progress=lambda name, bins: bar.advance(tasks[name], bins),
            )
    except (BadFile, ValueError) as error:
        errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    summary = summarise(runs, options.horizons, options.column, options.bin)
    report.print_tables(summary, console)
    if options.json:
        options.json.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    if options.html:
        options.html.write_text(report.html_page(summary, runs, series, options.file.name))
    return 0


def _maker(name: str, horizons: Sequence[int]) -> Callable[[], Forecaster]:
    if name == AUTO:
        return partial(Forecaster, scored_horizons=horizons)
    references = (BASELINE, *(peer().name for peer in PEERS))
    return partial(Forecaster, [_models()[name]], scored_horizons=horizons, believe_all=name in references)


def _models() -> dict[str, Callable[[], Model]]:
    return {factory().name: factory for factory in (*DEFAULT_MODELS, *PEERS)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dopd_forecasting", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    backtest = commands.add_parser("backtest", help="measure the models on a recorded series")
    backtest.add_argument("file", type=Path, help="CSV with a header, may be gzipped")
    backtest.add_argument("--column", required=True, help="the load; 'requests' counts the rows of a request log")
    backtest.add_argument(
        "--time", help="column of the time stamps (default: t_s, arrival_s, time, timestamp, or the first)"
    )
    backtest.add_argument(
        "--bin", type=_positive, default=60.0, metavar="SECONDS", help="length of a bin (default: 60)"
    )
    backtest.add_argument(
        "--horizons", type=_horizons, default=(1, 3, 5, 10), metavar="BINS", help="leads (default: 1,3,5,10)"
    )
    own = ",".join(factory().name for factory in DEFAULT_MODELS)
    backtest.add_argument(
        "--models",
        type=_names,
        default=_names("auto"),
        help=f"default: auto; of auto,{own},peer_arima,peer_kalman,peer_prophet; or all",
    )
    backtest.add_argument(
        "--stride",
        type=int,
        default=DEFAULT_STRIDE,
        help=f"bins between origins, not a multiple of five (default: {DEFAULT_STRIDE})",
    )
    backtest.add_argument("--warmup", type=int, help="bins before the first origin (default: a quarter, at most a day)")
    backtest.add_argument("--json", type=Path, metavar="OUT", help="write the measures here")
    backtest.add_argument("--html", type=Path, metavar="OUT", help="write a report with plots here")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value


def _horizons(text: str) -> tuple[int, ...]:
    try:
        horizons = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        horizons = (0,)
    if horizons[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers of bins such as 1,3,5,10")
    return horizons


def _names(text: str) -> tuple[str, ...]:
    known = [AUTO, *_models()]
    names = tuple(known) if text == "all" else tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown model {unknown[0]!r}: expected some of {', '.join(known)}")
    return names
