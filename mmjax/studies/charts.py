"""Charts as strings of SVG that need nothing from outside: lines with bands, and dots by row.

Colours are classes (`c0` to `c5`, coloured by the page's style sheet, so that dark mode and paper
work), and every text is escaped. Hover values are `<title>` elements, which browsers show without
any script. What is drawn must be finite: other values leave a gap.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from html import escape

__all__ = [
    "COLOURS",
    "MOST_POINTS",
    "Dots",
    "Number",
    "Series",
    "axis_ticks",
    "dot_chart",
    "line_chart",
    "many_decades",
    "number",
]

Number = int | float

COLOURS = 6
WIDTH, HEIGHT = 360.0, 216.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 18.0, 20.0, 30.0
MOST_POINTS = 160  # of one line; more are averaged, with a band from the least to the largest
MOST_HOVERS = 80


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
        return f"c{self.style % COLOURS} d{self.style // COLOURS % 3}"

    def thinned(self) -> "Series":
        """At most `MOST_POINTS` points: means of neighbours, with a band of all that they span."""
        if len(self.x) <= MOST_POINTS:
            return self
        size = math.ceil(len(self.x) / MOST_POINTS)
        x, y, low, high = [], [], [], []
        for start in range(0, len(self.x), size):
            bucket = [value for value in self.y[start : start + size] if math.isfinite(value)]
            x.append(self.x[min(start + size // 2, len(self.x) - 1)])
            y.append(sum(bucket) / len(bucket) if bucket else math.nan)
            low.append(min(bucket, default=math.nan))
            high.append(max(bucket, default=math.nan))
        return dataclasses.replace(self, x=x, y=y, low=low, high=high)


@dataclasses.dataclass(frozen=True)
class Dots:
    """One row of a dot chart: each seed a dot, the interval mean ± std; `published` to compare."""

    label: str
    values: Sequence[Number]
    mean: Number
    std: Number
    style: int = 0
    published: Number | None = None


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Maps values in [low, high] to pixels from `start` to `end`, evenly or by their logarithm."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def at(self, value: Number) -> Number:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[Number]:
        if not self.log:
            return axis_ticks(self.low, self.high, count)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        every = max(1, math.ceil((last - first + 1) / count))
        return [10.0**power for power in range(first, last + 1, every)]


def axis_ticks(low: Number, high: Number, count: int = 5) -> list[Number]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        round(index * step, 12 - math.floor(math.log10(step))) for index in range(first, last + 1)
    ]


def number(value: Number, digits: int = 4) -> str:
    """A number as people write it: `12,000` for a count; `0.9720`, `3.100e-05` for a measure."""
    if isinstance(value, int):
        text = f"{value:,}"
    elif not math.isfinite(value):
        return "not finite"
    elif 10**digits <= abs(value) < 1e12:
        text = f"{value:,.0f}"
    else:
        text = f"{value:#,.{digits}g}".rstrip(".")
    return text.replace("-", "−")


def line_chart(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str = "step",
    x_range: tuple[Number, Number] | None = None,
    unit: str = "",
    log: bool = False,
    legend: bool = True,
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

    Returns:
        An `<svg>` element; a paragraph where there is nothing finite to draw.
    """
    thin = [one.thinned() for one in series]
    heights = [
        v for one in thin for part in (one.y, one.low, one.high) for v in part if _ok(v, log)
    ]
    steps = [x for one in thin for x in one.x]
    steps += x_range or ()
    if not heights:
        return '<p class="nothing">No finite value to draw.</p>'
    first, last = min(steps), max(max(steps), min(steps) + 1)
    first = 0 if first < 0.1 * last else first
    x_axis = _Axis(first, last, LEFT, WIDTH - RIGHT)
    y_axis = _Axis(*_padded(min(heights), max(heights), log), HEIGHT - BOTTOM, TOP, log)

    y_ticks = y_axis.ticks(4)
    parts = []
    for tick in y_ticks:
        y = y_axis.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>')
        parts.append(_text(LEFT - 6, y + 3.5, _tick(tick, y_ticks, log), "end"))
    x_ticks = [tick for tick in x_axis.ticks(5) if tick == int(tick)]
    parts.append(f'<path class="axis" d="M{LEFT:g} {HEIGHT - BOTTOM:g}H{WIDTH - RIGHT:g}"/>')
    for tick in x_ticks:
        x = x_axis.at(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {HEIGHT - BOTTOM:g}v4"/>')
        parts.append(_text(x, HEIGHT - 14, _tick(tick, x_ticks), "middle"))
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 2, x_label, "end", "unit"))
    parts.append(
        _text(4, 11, ", ".join(filter(None, (unit, "log scale" if log else ""))), cls="unit")
    )
    for one in thin:
        parts.extend(_drawn(one, x_axis, y_axis))
    if legend and len(series) > 1:
        parts.extend(_legend(thin))
    parts.extend(_hovers(thin, x_axis, x_label))
    return _svg(parts, HEIGHT, label)


def dot_chart(rows: Sequence[Dots], *, label: str) -> str:
    """A row for each method: a dot for each seed, a bar for mean ± std, a tick for the mean.

    Args:
        rows: from top to bottom.
        label: what the chart shows, for readers who cannot see it.

    Returns:
        An `<svg>` element; a paragraph where there is nothing finite to draw.
    """
    ends = [v for row in rows for v in (*row.values, row.mean) if _ok(v)]
    ends += [row.published for row in rows if row.published is not None and _ok(row.published)]
    ends += [row.mean + sign * row.std for row in rows for sign in (-1, 1)]
    ends = [v for v in ends if _ok(v)]
    if not ends:
        return '<p class="nothing">No finite value to draw.</p>'
    left = min(max(len(row.label) for row in rows) * 6.2 + 12, 180)
    height = 26 * len(rows) + BOTTOM
    axis = _Axis(*_padded(min(ends), max(ends)), left + 6, WIDTH - RIGHT)
    ticks = axis.ticks(4 if left < 132 else 3)
    parts = []
    for tick in ticks:
        x = axis.at(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 4V{height - 24:g}"/>')
        parts.append(_text(x, height - 9, _tick(tick, ticks), "middle"))
    for index, row in enumerate(rows):
        y = 17 + 26 * index
        most = int((left - 12) / 6.0)
        name = row.label if len(row.label) <= most else row.label[: most - 1] + "…"
        parts.append(
            f"<g><title>{escape(row.label)}</title>{_text(left - 6, y + 3.5, name, 'end')}</g>"
        )
        parts.append(f'<g class="c{row.style % COLOURS}">')
        if _ok(row.mean) and _ok(row.std) and row.std > 0:
            start, end = axis.at(row.mean - row.std), axis.at(row.mean + row.std)
            parts.append(f'<path class="interval" d="M{start:.1f} {y}H{end:.1f}"/>')
        for value in filter(_ok, row.values):
            parts.append(f'<circle class="seed" cx="{axis.at(value):.1f}" cy="{y}" r="4">')
            parts.append(f"<title>{escape(row.label)}: {number(value)}</title></circle>")
        if _ok(row.mean) and len(row.values) != 1:
            hover = f"{escape(row.label)}: mean {number(row.mean)}"
            hover += f" ± {number(row.std, 2)}" if _ok(row.std) else ""
            x = axis.at(row.mean)
            parts.append(
                f'<path class="mean" d="M{x:.1f} {y - 8}v16"><title>{hover}</title></path>'
            )
        parts.append("</g>")
        if row.published is not None and _ok(row.published):
            x = axis.at(row.published)
            parts.append(f'<path class="published" d="M{x:.1f} {y - 6}l6 6l-6 6l-6 -6z">')
            parts.append(
                f"<title>{escape(row.label)}: published {number(row.published)}</title></path>"
            )
    return _svg(parts, height, label)


def _drawn(one: Series, x_axis: _Axis, y_axis: _Axis) -> list[str]:
    """The band, the line and the marks of one series, in pieces between the gaps."""
    parts = []
    points = list(zip(one.x, one.y, one.low or one.y, one.high or one.y, strict=True))
    pieces: list[list[tuple[Number, Number, Number, Number]]] = [[]]
    for x, *heights in points:
        if all(_ok(value, y_axis.log) for value in heights):
            y, low, high = (y_axis.at(value) for value in heights)
            pieces[-1].append((x_axis.at(x), y, low, high))
        elif pieces[-1]:
            pieces.append([])
    for piece in filter(None, pieces):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in piece)
        if one.low and len(piece) > 1:
            ups = [f"{x:.1f},{high:.1f}" for x, _, _, high in piece]
            downs = [f"{x:.1f},{low:.1f}" for x, _, low, _ in reversed(piece)]
            parts.append(f'<polygon class="band" points="{" ".join(ups + downs)}"/>')
        parts.append(f'<polyline class="line" points="{line}"/>')
        if len(piece) == 1 or (one.marks and len(points) <= 40):
            parts.extend(
                f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y, *_ in piece
            )
    return [f'<g class="{one.classes}">', *parts, "</g>"]


def _hovers(series: Sequence[Series], x_axis: _Axis, x_label: str) -> list[str]:
    """Invisible columns over the plot, each with the values at its step as a title."""
    longest = max(series, key=lambda one: len(one.x))
    steps = sorted({x for one in series if len(one.x) <= MOST_HOVERS for x in one.x})
    if not steps or len(steps) > MOST_HOVERS:
        steps = list(longest.x[:: math.ceil(len(longest.x) / MOST_HOVERS)])
    middles = [(x_axis.at(a) + x_axis.at(b)) / 2 for a, b in itertools.pairwise(steps)]
    edges = [LEFT, *middles, WIDTH - RIGHT]
    parts = ['<g class="hovers">']
    for step, start, end in zip(steps, edges, edges[1:], strict=False):
        lines = [f"{x_label} {int(step):,}"]
        for one in series:
            nearest = min(range(len(one.x)), key=lambda i: abs(one.x[i] - step))
            if abs(x_axis.at(one.x[nearest]) - x_axis.at(step)) <= 4:
                lines.append(f"{one.label}: {number(one.y[nearest])}")
                if one.low and one.low[nearest] != one.high[nearest]:
                    lines[-1] += f" ({number(one.low[nearest])} to {number(one.high[nearest])})"
        column = f'x="{start:.1f}" width="{end - start:.1f}"'
        box = f'{column} y="{TOP:g}" height="{HEIGHT - BOTTOM - TOP:g}"'
        parts.append(f"<rect {box}><title>{escape(chr(10).join(lines))}</title></rect>")
    return [*parts, "</g>"]


def _legend(series: Sequence[Series]) -> list[str]:
    """Swatches and names, in one line at the top right."""
    labels = [one.label for one in series]
    while sum(map(len, labels)) * 6.0 + 32 * len(labels) > WIDTH - LEFT - RIGHT:
        longest = max(range(len(labels)), key=lambda index: len(labels[index]))
        if len(labels[longest]) <= 4:
            break
        labels[longest] = labels[longest][:-2] + "…"
    parts, x = [], WIDTH - RIGHT
    for one, label in zip(reversed(series), reversed(labels), strict=True):
        x -= 6.0 * len(label)
        swatch = f'<path class="line" d="M{x - 20:.1f} 7.5h15"/>'
        if one.marks:
            swatch += f'<circle class="mark" cx="{x - 12.5:.1f}" cy="7.5" r="2.4"/>'
        parts.append(f'<g class="{one.classes}">{swatch}</g>{_text(x, 11, label)}')
        x -= 32
    return parts


def _svg(parts: Sequence[str], height: Number, label: str) -> str:
    """The element around the parts; it grows with the page."""
    head = f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"


def _text(x: Number, y: Number, text: str, anchor: str = "start", cls: str = "tick") -> str:
    """One line of text."""
    place = f'x="{x:.1f}" y="{y:.1f}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text class="{cls}" {place}>{escape(text)}</text>'


def _tick(value: Number, ticks: Sequence[Number], log: bool = False) -> str:
    """A tick's label, with the decimals that its neighbours need and no more."""
    largest = max(abs(tick) for tick in ticks)
    if log:
        return f"{value:g}" if 1e-3 <= value < 1e5 else f"1e{round(math.log10(value))}"
    if largest >= 1e15 or 0 < largest < 1e-3:
        return f"{value:.3g}".replace("-", "−")
    scale, suffix = next(
        ((s, t) for s, t in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if largest >= s), (1.0, "")
    )
    scale = 1e3 if suffix == "k" else scale
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=largest or 1) / scale
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value / scale:,.{decimals}f}".replace("-", "−") + (suffix if value else "")


def _padded(low: Number, high: Number, log: bool = False) -> tuple[Number, Number]:
    """Room around the values, so that no line lies on the frame; never an empty range."""
    if log:
        room = (high / low) ** 0.04 if high > low else 2.0
        return low / room, high * room
    room = (high - low) * 0.05
    if room <= max(abs(low), abs(high)) * 1e-9:
        room = abs(high) * 0.05 or 0.5
    return low - room, high + room


def _ok(value: Number, log: bool = False) -> bool:
    """Whether a value can be drawn."""
    return math.isfinite(value) and abs(value) < 1e300 and (value > 0 or not log)


def many_decades(values: Sequence[float]) -> bool:
    """Whether a curve needs a logarithmic axis to be read."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 1000 * min(finite)
