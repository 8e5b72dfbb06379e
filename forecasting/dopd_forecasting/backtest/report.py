"""Shows a backtest: a table in the terminal, and one self-contained HTML page with plots."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from dopd_forecasting.backtest.measures import AUTO, BASELINE
from dopd_forecasting.backtest.rolling import Rolling
from dopd_forecasting.series import Series

mpl.use("Agg")
OURS, LOAD, BAND = "#0b6e99", "#444444", "#9fd0e6"
PLOTTED_BINS = 360

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }}
th, td {{ padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left }} tr.auto {{ font-weight: 600; background: #eef7fb }} img {{
max-width: 100% }} </style></head><body><h1>{title}</h1><p>{summary}</p>{tables}{plots}</body></html>
"""


def _cells(measures: Mapping[str, Any]) -> list[str]:
    low, high = measures["ci95"]
    headroom = measures["headroom_90"]
    return [
        _number(measures["mae"], ",.4g"),
        _number(measures["mae_vs_last"], ".3f"),
        "-" if low is None else f"{low:.2f}-{high:.2f}",
        _number(measures["coverage_90"], ".3f"),
        _number(measures["pinball_vs_last"], ".3f"),
        "-" if headroom is None else f"{100 * headroom:.0f} %",
    ]


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


HEADINGS = ["MAE", "vs last", "95 % CI", "cover 90", "pinball", "headroom"]


def print_tables(summary: Mapping[str, Any], console: Console) -> None:
    """One table per lead, the best mean absolute error first."""
    for horizon, models in summary["horizons"].items():
        minutes = int(horizon) * summary["bin_seconds"] / 60
        table = Table(title=f"{summary['column']}: {horizon} bins ahead ({minutes:g} min)", title_justify="left")
        table.add_column("model", no_wrap=True)
        for heading in HEADINGS:
            table.add_column(heading, justify="right")
        for name, measures in _ranked(models):
            table.add_row(name, *_cells(measures), style="bold" if name == AUTO else None)
        console.print(table)
    timed = summary["update_ms"]
    console.print(
        f"{summary['origins']} origins; CPU time per update and forecast: "
        f"mean {timed['mean']:.1f} ms, worst {timed['max']:.0f} ms"
    )


def html_page(summary: Mapping[str, Any], runs: Mapping[str, Rolling], series: Series, source: str) -> str:
    """The whole report as one page without outside resources."""
    tables = []
    for horizon, models in summary["horizons"].items():
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in ["model", *HEADINGS])
        rows = "".join(
            f'<tr class="{"auto" if name == AUTO else ""}"><td>{html.escape(name)}</td>'
            + "".join(f"<td>{cell}</td>" for cell in _cells(measures))
            + "</tr>"
            for name, measures in _ranked(models)
        )
        minutes = int(horizon) * summary["bin_seconds"] / 60
        tables.append(f"<h2>{horizon} bins ahead ({minutes:g} min)</h2><table><tr>{head}</tr>{rows}</table>")
    shown = AUTO if AUTO in runs else BASELINE
    horizons = list(summary["horizons"])
    plots = "".join(
        f'<img alt="{label}" src="data:image/png;base64,{_png(figure)}">'
        for label, figure in (
            ("errors by lead", error_figure(summary)),
            ("forecast and load", forecast_figure(series, runs[shown], 0, int(horizons[0]))),
            ("forecast and load", forecast_figure(series, runs[shown], len(horizons) - 1, int(horizons[-1]))),
        )
    )
    timed = summary["update_ms"]
    text = (
        f"{len(series)} bins of {summary['bin_seconds']:g} s from {html.escape(source)}; "
        f"{summary['origins']} origins. MAE and the pinball loss of the 90 % quantile are relative to the last value "
        "over the same origins; below one is better. One update and forecast took "
        f"{timed['mean']:.1f} ms of CPU on average and {timed['max']:.0f} ms at worst."
    )
    title = html.escape(f"Backtest of {summary['column']}")
    return PAGE.format(title=title, summary=text, tables="".join(tables), plots=plots)


def error_figure(summary: Mapping[str, Any]) -> Figure:
    """Mean absolute error relative to the last value over the lead, one line per model."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    leads = [int(horizon) * summary["bin_seconds"] / 60 for horizon in summary["horizons"]]
    names = list(next(iter(summary["horizons"].values())))
    for name in names:
        line = [models[name]["mae_vs_last"] for models in summary["horizons"].values()]
        heights = np.array([np.nan if height is None else height for height in line], dtype=float)
        ours = name == AUTO
        axes.plot(
            leads,
            heights,
            marker="o",
            lw=3 if ours else 1,
            color=OURS if ours else None,
            label=name,
            zorder=3 if ours else 2,
        )
    axes.axhline(1, color=LOAD, lw=1, ls=":")
    axes.set(xlabel="lead (minutes)", ylabel="MAE / MAE of last value", ylim=(0.5, 1.5))
    axes.legend(fontsize="small", ncols=2)
    return figure


def forecast_figure(series: Series, run: Rolling, row: int, horizon: int, bins: int = PLOTTED_BINS) -> Figure:
    """The newest part of the load, and what was forecast for each bin `horizon` bins before."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.add_subplot()
    first = max(0, len(series) - bins)
    hours = np.arange(len(series)) * series.bin_seconds / 3600
    axes.plot(hours[first:], series.values[first:], color=LOAD, lw=0.8, label="load")
    targets = run.origins + horizon
    shown = (targets >= first) & (targets < len(series))
    at = targets[shown].astype(int)
    axes.fill_between(
        hours[at], run.means[shown, row], run.upper[shown, row], color=BAND, label="up to the 90 % quantile"
    )
    axes.plot(
        hours[at],
        run.means[shown, row],
        color=OURS,
        lw=1.5,
        label=f"forecast, {horizon * series.bin_seconds / 60:g} min before",
    )
    axes.set(xlabel="hours since the start of the file", ylabel=series.unit, ylim=(0, None))
    axes.legend(fontsize="small", loc="lower left")
    return figure


def _ranked(models: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(models.items(), key=lambda item: (item[1]["mae"] is None, item[1]["mae"] or 0.0))


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()
