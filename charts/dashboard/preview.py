"""A dashboard as a page, drawn from what a Prometheus answers to the queries of its panels: for a look without Grafana.

python -m charts.dashboard.preview --url http://127.0.0.1:9090 --inference demo --output dashboard.html
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from charts.dashboard.__main__ import boards
from dopd.replay import pages
from dopd.replay.pages import Chart, Heading, Line, Row, Table

Json = dict[str, Any]
COLOURS = 8
LIMIT = 5
"""Colour of what is drawn as a limit in Grafana."""


def preview(board: Json, url: str, variables: dict[str, str], start: float, end: float) -> str:
    """The page.

    Args:
        board: a dashboard, as Grafana imports it.
        url: of a Prometheus.
        variables: values of the dashboard's variables, without `$`.
        start: seconds since the epoch.
        end: the same.

    Raises:
        httpx.HTTPError: Prometheus did not answer, or refused a query.
    """
    seconds = end - start
    known = variables | {"__rate_interval": "1m", "__range_s": f"{seconds:.0f}", "__range": f"{seconds:.0f}s"}
    with httpx.Client(base_url=url, timeout=30.0) as client:
        parts = list(_parts(board, _Asker(client, known, start, end)))
    return pages.page(board["title"], parts)


class _Asker:
    """Asks queries with the dashboard's variables filled in."""

    def __init__(self, client: httpx.Client, known: dict[str, str], start: float, end: float) -> None:
        self._client, self._known, self._start, self._end = client, known, start, end

    def lines(self, target: Json) -> list[tuple[str, list[tuple[float, float]]]]:
        """Name and (minutes, value) of each series."""
        step = max((self._end - self._start) / 300, 1.0)
        times = {"start": self._start, "end": self._end, "step": step}
        return [
            (self._name(target, series["metric"]), [((at - self._start) / 60, float(v)) for at, v in series["values"]])
            for series in self._ask("query_range", target["expr"], **times)
        ]

    def now(self, target: Json) -> list[tuple[str, float]]:
        """Name and value of each series at the end."""
        found = self._ask("query", target["expr"], time=self._end)
        return [(self._name(target, series["metric"]), float(series["value"][1])) for series in found]

    def _ask(self, kind: str, expr: str, **when: float) -> list[Json]:
        for name in sorted(self._known, key=len, reverse=True):
            expr = expr.replace(f"${name}", self._known[name])
        answer = self._client.get(f"/api/v1/{kind}", params={"query": expr, **when})
        answer.raise_for_status()
        found: list[Json] = answer.json()["data"]["result"]
        return found

    @staticmethod
    def _name(target: Json, labels: dict[str, str]) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"])


def _parts(board: Json, asker: _Asker) -> Iterator[pages.Part]:
    figures: list[Row] = []
    for panel in board["panels"]:
        targets = panel.get("targets", [])
        if panel["type"] == "row":
            if figures:
                yield Table(("figure", "value"), figures, prose=[1])
                figures = []
            yield Heading(panel["title"])
        elif panel["type"] == "timeseries":
            yield _chart(panel, [line for target in targets for line in asker.lines(target)])
        else:
            found = [one for target in targets for one in asker.now(target)]
            words = ", ".join(" ".join(filter(None, (name, f"{value:.4g}"))) for name, value in found) or "nothing"
            figures.append(Row((panel["title"], words)))
    if figures:
        yield Table(("figure", "value"), figures, prose=[1])


def _chart(panel: Json, found: list[tuple[str, list[tuple[float, float]]]]) -> Chart:
    limits = {override["matcher"]["options"] for override in panel["fieldConfig"].get("overrides", [])}
    lines = [
        Line(name, points, LIMIT if name in limits else number % COLOURS, dashed=name in limits)
        for number, (name, points) in enumerate(found)
    ]
    defaults = panel["fieldConfig"]["defaults"]
    return Chart(panel["title"], lines, defaults.get("unit", ""), bottom=defaults.get("min"))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of a Prometheus")
    parser.add_argument("--board", default="dopd.json", choices=list(boards()))
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--inference", default="")
    parser.add_argument("--minutes", type=float, default=10.0, help="how far back (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    end = time.time()
    variables = {"namespace": options.namespace, "inference": options.inference}
    board = json.loads(boards()[options.board])
    options.output.write_text(preview(board, options.url, variables, end - 60 * options.minutes, end))


if __name__ == "__main__":
    main()
