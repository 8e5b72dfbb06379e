"""Line and bar charts as SVG, drawn without any library: a page of results must open where nothing is installed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dopd.api.text import escaped

WIDTH, HEIGHT = 960, 230
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 12, 26
BAR_HEIGHT = 26


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: shown when pointed at; lines of one name are shown and hidden together.
        colour: as CSS writes it.
        points: (seconds, value), in order of time; no value leaves a gap.
        steps: whether a value holds until the next one.
        dashed: to set it apart.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float | None]]
    steps: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar: its name, what is written beside it, its length, its colour, and whether it is pale."""

    name: str
    text: str
    value: float
    colour: str
    pale: bool = False


def line_chart(label: str, lines: Sequence[Line], end_seconds: float, least_top: float = 0.0) -> str:
    """Lines over time, from 0 to the greatest value.

    Args:
        label: of the chart, for who can not see it.
        lines: what is drawn.
        end_seconds: right end of the axis.
        least_top: upper end of the vertical axis at least.
    """
    greatest = max((value for line in lines for _, value in line.points if value is not None), default=0.0)
    rows = ticks(max(greatest, least_top))
    top, end = rows[-1], max(end_seconds, 1e-9)

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / end

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    parts = []
    for value in rows:
        parts.append(
            f"<path class='grid' d='M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}'/>"
            f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:,.10g}</text>"
        )
    unit, unit_seconds = ("h", 3600.0) if end > 7200 else ("min", 60.0) if end > 120 else ("s", 1.0)
    for value in ticks(end / unit_seconds, most=8):
        if value * unit_seconds <= end * 1.001:
            parts.append(
                f"<text x='{x(value * unit_seconds):.1f}' y='{HEIGHT - 6}' text-anchor='middle'>{value:g} {unit}</text>"
            )
    for line in lines:
        dash = " stroke-dasharray='5 4'" if line.dashed else ""
        parts.append(
            f"<path class='line' data-name='{escaped(line.name)}' stroke='{line.colour}'{dash} "
            f"d='{_path([(x(t), None if value is None else y(value)) for t, value in line.points], line.steps)}'>"
            f"<title>{escaped(line.name)}</title></path>"
        )
    return _svg(label, HEIGHT, parts)


def bar_chart(label: str, bars: Sequence[Bar], mark: float | None = None) -> str:
    """Horizontal bars from 0, with a vertical mark where there is one."""
    greatest = max([bar.value for bar in bars] + [mark or 0.0], default=0.0) or 1.0
    left, room = 130, WIDTH - 130 - 200

    def x(value: float) -> float:
        return left + room * value / greatest

    height = len(bars) * BAR_HEIGHT + 4
    parts = [] if mark is None else [f"<path class='mark' d='M{x(mark):.1f} 0V{height}'/>"]
    for row, bar in enumerate(bars):
        y = row * BAR_HEIGHT + 4
        parts.append(
            f"<text x='{left - 8}' y='{y + 14}' text-anchor='end'>{escaped(bar.name)}</text>"
            f"<rect x='{left}' y='{y}' width='{x(bar.value) - left:.1f}' height='{BAR_HEIGHT - 8}' fill='{bar.colour}' "
            f"opacity='{0.35 if bar.pale else 1}'/>"
            f"<text x='{x(bar.value) + 6:.1f}' y='{y + 14}'>{escaped(bar.text)}</text>"
        )
    return _svg(label, height, parts)


def ticks(greatest: float, most: int = 5) -> list[float]:
    """Round values from 0 to at least `greatest`, about `most` of them at most."""
    if not greatest > 0:
        return [0.0, 1.0]
    rough = greatest / most
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough * (1 - 1e-9))
    return [round(step * k, 12) for k in range(math.ceil(greatest / step - 1e-9) + 1)]


def _path(points: Sequence[tuple[float, float | None]], steps: bool) -> str:
    commands, broken = [], True
    for x, y in points:
        if y is None:
            broken = True
        elif broken:
            commands.append(f"M{x:.1f} {y:.1f}")
            broken = False
        else:
            commands.append(f"H{x:.1f}V{y:.1f}" if steps else f"L{x:.1f} {y:.1f}")
    return "".join(commands)


def _svg(label: str, height: int, parts: Sequence[str]) -> str:
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' role='img' aria-label='{escaped(label)}' "
        "font-family='system-ui, sans-serif' font-size='12' fill='#555'>"
        "<style>.grid{stroke:#e5e5e5;fill:none}.line{fill:none;stroke-width:1.6}"
        "text{paint-order:stroke;stroke:#fff;stroke-width:4px}"
        ".mark{stroke:#222;stroke-width:1.5;stroke-dasharray:3 3;fill:none}</style>"
        f"{''.join(parts)}</svg>"
    )
