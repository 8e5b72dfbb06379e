"""Reports as one HTML page without any outside file: text, tables, bars and charts that can be zoomed.

The page of a replay and that of a demo are made of these parts by one template. uPlot 1.6.32 (MIT, see `uplot/`) draws
the charts; without JavaScript the tables and bars are still there.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from dopd.api.text import plain

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: in the legend; lines of one name are shown and hidden together where the page has boxes for names.
        points: (x, value) in order of x; no value leaves a gap.
        colour: number of a colour of the palette.
        steps: whether a value holds until the next one.
        dashed: to set it apart.
        bold: to bring it forward.
    """

    name: str
    points: Sequence[Point]
    colour: int
    steps: bool = False
    dashed: bool = False
    bold: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis.

    Attributes:
        title: above it.
        lines: what is drawn, the first on top.
        unit: of the values, beside the title.
        x_unit: of the horizontal axis.
        whole: whether values are counts: the axis has whole numbers alone.
        bottom: lower end of the vertical axis; that of the values if None.
        ratio: values are log2 of prefill over decode, shown as P:D.
        shaded: part of the horizontal axis that is set apart.
        marked: parts of the horizontal axis that are marked, each for what happened then.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    x_unit: str = "min"
    whole: bool = False
    bottom: float | None = 0.0
    ratio: bool = False
    shaded: tuple[float, float] | None = None
    marked: Sequence[tuple[float, float]] = ()
    kind: Literal["chart"] = "chart"

    def data(self) -> dict[str, Any]:
        """What the page's script reads. Not a number has no place in JSON, and is a gap."""
        lines = [
            asdict(line)
            | {"name": plain(line.name), "x": [x for x, _ in line.points], "y": [_finite(y) for _, y in line.points]}
            for line in self.lines
        ]
        for line in lines:
            del line["points"]
        return {
            "lines": lines,
            "unit": self.unit,
            "xUnit": self.x_unit,
            "whole": self.whole,
            "bottom": self.bottom,
            "ratio": self.ratio,
            "shaded": self.shaded,
            "marked": self.marked,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Bar:
    """One bar: its name, what is written beside it, its length, its colour, and whether it is pale."""

    name: str
    text: str
    value: float
    colour: int
    pale: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from 0, with a mark across all of them where there is one."""

    bars: Sequence[Bar]
    mark: float | None = None
    kind: Literal["bars"] = "bars"

    @property
    def greatest(self) -> float:
        """What the longest bar stands for."""
        return max([bar.value for bar in self.bars] + [self.mark or 0.0], default=0.0) or 1.0


@dataclass(frozen=True)
class Row:
    """Cells of a table's row; `ours` marks the row, `bold` has the numbers of cells in bold."""

    cells: Sequence[str]
    ours: bool = False
    bold: Sequence[int] = ()


@dataclass(frozen=True)
class Table:
    """A table whose first column stays in view.

    Attributes:
        columns: headings.
        rows: in order.
        prose: numbers of columns that hold sentences.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    prose: Sequence[int] = ()
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Heading:
    """A heading of a part."""

    text: str
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Boxes:
    """Boxes that show and hide the lines of a name in all charts: names and numbers of colours."""

    names: Sequence[tuple[str, int]] = field(default_factory=tuple)
    kind: Literal["boxes"] = "boxes"


Part = Chart | Bars | Table | Text | Heading | Boxes


def page(title: str, parts: Sequence[Part]) -> str:
    """The whole page. Whatever stands in the parts is text: markup and control characters in it are shown as such."""
    return _template().render(title=title, parts=parts)


def time_axis(end_seconds: float) -> tuple[str, float]:
    """Unit of a horizontal axis of so many seconds, and its length in seconds."""
    if end_seconds > 7200:
        return "h", 3600.0
    return ("min", 60.0) if end_seconds > 120 else ("s", 1.0)


@functools.cache
def _template() -> jinja2.Template:
    files = resources.files(__name__)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(str(value)),
    )
    for name in ("style.css", "charts.js", "uplot/uPlot.min.css", "uplot/uPlot.iife.min.js", "uplot/LICENSE"):
        text = Markup(files.joinpath(name).read_text(encoding="utf-8"))
        environment.globals[name.rpartition("/")[2].replace(".", "_")] = text
    return environment.from_string(files.joinpath("page.html.j2").read_text(encoding="utf-8"))
