"""Line charts as strings of SVG that need nothing from outside: lines with bands over steps.

Colours are classes (`c0` to `c5`, coloured by the page's style sheet, so that dark mode and paper
work), and every text is escaped. Hover values are `<title>` elements, which browsers show without
any script. What is drawn must be finite: other values leave a gap.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from html import escape

from mmjax.studies.reports import drawing
from mmjax.studies.reports.drawing import Axis, Number, drawable, frame, number, padded, svg, text

MOST_POINTS = 160  # of one line; more are averaged, with a band from the least to the largest
MOST_HOVERS = 80
BAND_ROOM = 0.4  # of the height of the lines, to either side, for bands that may be cut


@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `y` over `x` (ascending), with a band from `low` to `high` where these are given.

    Style numbers run on: after the last colour the colours come again with another dash.
    """

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    style: int = 0
    marks: bool = False

    @property
    def classes(self) -> str:
        """The CSS classes of the line."""
        return drawing.style_classes(self.style)

    def thinned(self) -> "Series":
        """At most `MOST_POINTS` points: means of neighbours.

        A line without a band gets one, of all that its neighbours span; one that has a band keeps
        the mean of it.
        """
        if len(self.x) <= MOST_POINTS:
            return self
        size = math.ceil(len(self.x) / MOST_POINTS)
        starts = range(0, len(self.x), size)

        def gathered(
            values: Sequence[Number], by: Callable[[list[Number]], Number]
        ) -> list[Number]:
            finite = ([v for v in values[i : i + size] if math.isfinite(v)] for i in starts)
            return [by(bucket) if bucket else math.nan for bucket in finite]

        return dataclasses.replace(
            self,
            x=[self.x[min(start + size // 2, len(self.x) - 1)] for start in starts],
            y=gathered(self.y, _mean),
            low=gathered(self.low, _mean) if self.low else gathered(self.y, min),
            high=gathered(self.high, _mean) if self.high else gathered(self.y, max),
        )


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str = "step",
    x_range: tuple[Number, Number] | None = None,
    unit: str = "",
    log: bool = False,
    legend: bool = True,
    cut_bands: bool = False,
) -> str:
    """Lines over the training step, or whatever `x_label` says that x counts.

    Args:
        series: the lines; the first is drawn first, at the bottom.
        label: what the chart shows, for readers who cannot see it.
        x_label: written below the x axis.
        x_range: both ends of the x axis, so that charts can share it; else as far as the lines go.
        unit: written above the y axis.
        log: a logarithmic y axis; needs values above 0.
        legend: whether to name the lines within the chart.
        cut_bands: whether a band far wider than the range of all lines is cut at the frame, so that
            the lines can be distinguished.

    Returns:
        An `<svg>` element; a paragraph where there is nothing finite to draw.
    """
    thin = [one.thinned() for one in series]
    heights = [v for one in thin for v in one.y if drawable(v, log)]
    bands = [v for one in thin for v in (*one.low, *one.high) if drawable(v, log)]
    steps = [x for one in thin for x in one.x]
    steps += x_range or ()
    if not heights:
        return drawing.NOTHING
    first, last = min(steps), max(max(steps), min(steps) + 1)
    first = 0 if first < 0.1 * last else first
    x_axis = Axis(first, last, drawing.LEFT, drawing.WIDTH - drawing.RIGHT)
    span = padded(min(heights), max(heights), log)
    if bands:
        span = _with_bands(span, padded(min(bands), max(bands), log), log, cut_bands)
    y_axis = Axis(*span, drawing.HEIGHT - drawing.BOTTOM, drawing.TOP, log)
    ticks = [tick for tick in x_axis.ticks(5) if tick == int(tick)]
    x_ticks = [(tick, drawing.tick_label(tick, ticks)) for tick in ticks]
    parts = frame(x_axis, y_axis, x_ticks, x_label, unit)
    for one in thin:
        parts.extend(_drawn(one, x_axis, y_axis))
    if legend and len(series) > 1:
        parts.extend(_legend(thin))
    parts.extend(_hovers(thin, x_axis, x_label))
    return svg(parts, drawing.HEIGHT, label)


def _with_bands(
    lines: tuple[Number, Number], bands: tuple[Number, Number], log: bool, cut: bool
) -> tuple[Number, Number]:
    """Both ends of a y axis that shows the lines, and their bands as far as there is room."""
    low, high = min(lines[0], bands[0]), max(lines[1], bands[1])
    if not cut:
        return low, high
    if log:
        room = (lines[1] / lines[0]) ** BAND_ROOM
        return max(low, lines[0] / room), min(high, lines[1] * room)
    room = (lines[1] - lines[0]) * BAND_ROOM
    return max(low, lines[0] - room), min(high, lines[1] + room)


def _drawn(one: Series, x_axis: Axis, y_axis: Axis) -> list[str]:
    """The bands, the line and the marks of one series, in pieces between the gaps."""
    parts = []
    x = [x_axis.at(step) for step in one.x]
    for start, end in _pieces([*zip(one.low, one.high, strict=True)], y_axis.log):
        if end - start > 1:
            corners = [(x[i], y_axis.cut(one.high[i])) for i in range(start, end)]
            corners += [(x[i], y_axis.cut(one.low[i])) for i in reversed(range(start, end))]
            parts.append(f'<polygon class="band" points="{_points(corners)}"/>')
    for start, end in _pieces([*zip(one.y, strict=True)], y_axis.log):
        line = [(x[i], y_axis.at(one.y[i])) for i in range(start, end)]
        parts.append(f'<polyline class="line" points="{_points(line)}"/>')
        if len(line) == 1 or (one.marks and len(one.x) <= 40):
            parts.extend(
                f'<circle class="mark" cx="{at:.1f}" cy="{y:.1f}" r="2.4"/>' for at, y in line
            )
    return [f'<g class="{one.classes}">', *parts, "</g>"]


def _pieces(points: Sequence[tuple[Number, ...]], log: bool) -> list[tuple[int, int]]:
    """(start, end) of every stretch of points that can be drawn."""
    shown = [all(drawable(v) for v in point) and (not log or point[-1] > 0) for point in points]
    ends = [i for i, (a, b) in enumerate(itertools.pairwise([False, *shown, False])) if a != b]
    return list(zip(ends[::2], ends[1::2], strict=True))


def _points(corners: Sequence[tuple[Number, Number]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _hovers(series: Sequence[Series], x_axis: Axis, x_label: str) -> list[str]:
    """Invisible columns over the plot, each with the values at its step as a title."""
    longest = max(series, key=lambda one: len(one.x))
    steps = sorted({x for one in series if len(one.x) <= MOST_HOVERS for x in one.x})
    if not steps or len(steps) > MOST_HOVERS:
        steps = list(longest.x[:: math.ceil(len(longest.x) / MOST_HOVERS)])
    middles = [(x_axis.at(a) + x_axis.at(b)) / 2 for a, b in itertools.pairwise(steps)]
    edges = [drawing.LEFT, *middles, drawing.WIDTH - drawing.RIGHT]
    parts = ['<g class="hovers">']
    for step, start, end in zip(steps, edges, edges[1:], strict=False):
        lines = [f"{x_label} {int(step):,}"]
        for one in series:
            nearest = min(range(len(one.x)), key=lambda i: abs(one.x[i] - step))
            if abs(x_axis.at(one.x[nearest]) - x_axis.at(step)) <= 4:
                lines.append(f"{one.label}: {number(one.y[nearest])}")
                low, high = (one.low[nearest], one.high[nearest]) if one.low else (0, 0)
                if low < high:  # not so where either is not finite
                    lines[-1] += f" ({number(low)} to {number(high)})"
        column = f'x="{start:.1f}" width="{end - start:.1f}"'
        height = drawing.HEIGHT - drawing.BOTTOM - drawing.TOP
        box = f'{column} y="{drawing.TOP:g}" height="{height:g}"'
        parts.append(f"<rect {box}><title>{escape(chr(10).join(lines))}</title></rect>")
    return [*parts, "</g>"]


def _legend(series: Sequence[Series]) -> list[str]:
    """Swatches and names, in one line at the top right."""
    labels = [one.label for one in series]
    while (
        sum(map(len, labels)) * 6.0 + 32 * len(labels)
        > drawing.WIDTH - drawing.LEFT - drawing.RIGHT
    ):
        longest = max(range(len(labels)), key=lambda index: len(labels[index]))
        if len(labels[longest]) <= 4:
            break
        labels[longest] = labels[longest][:-2] + "…"
    parts, x = [], drawing.WIDTH - drawing.RIGHT
    for one, label in zip(reversed(series), reversed(labels), strict=True):
        x -= 6.0 * len(label)
        swatch = f'<path class="line" d="M{x - 20:.1f} 7.5h15"/>'
        if one.marks:
            swatch += f'<circle class="mark" cx="{x - 12.5:.1f}" cy="7.5" r="2.4"/>'
        parts.append(f'<g class="{one.classes}">{swatch}</g>{text(x, 11, label)}')
        x -= 32
    return parts


def _mean(values: Sequence[Number]) -> Number:
    return sum(values) / len(values)


def many_decades(values: Sequence[float]) -> bool:
    """Whether a curve needs a logarithmic axis to be read."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 1000 * min(finite)
