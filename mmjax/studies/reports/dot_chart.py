"""A chart with a row for each method: its seeds as dots, their mean, and the published number."""

import dataclasses
from collections.abc import Sequence
from html import escape

from mmjax.studies.reports import drawing
from mmjax.studies.reports.drawing import Axis, Number, drawable, number, padded, svg, text

ROW = 26.0  # pixels
LONG = 14  # letters of a name that stands above its row, not beside it
SHAPES = (  # of a seed's dot: the colours come again with the next shape
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "m-3.6 -3.6h7.2v7.2h-7.2z",
    "m0 -4.6l4.4 7.8h-8.8z",
)


@dataclasses.dataclass(frozen=True)
class Dots:
    """One row of a dot chart.

    Attributes:
        label: name of the row.
        seeds: name of a seed -> value.
        mean: of the values.
        interval: of the mean, drawn as a bar; None where there is none.
        style: number of its colour and shape.
        published: a number to compare with, drawn as a diamond.
        published_std: its standard deviation, drawn as a thin line to either side.
    """

    label: str
    seeds: dict[str, float]
    mean: Number
    interval: tuple[float, float] | None = None
    style: int = 0
    published: Number | None = None
    published_std: Number | None = None


def dot_chart(rows: Sequence[Dots], *, label: str) -> str:
    """Draws a row for each method.

    The axis spans dots, means and published numbers; an interval that is far wider than these, as
    of two seeds, is cut at the frame, where an arrow head says so.

    Args:
        rows: from top to bottom.
        label: what the chart shows, for readers who cannot see it.

    Returns:
        An `<svg>` element; a paragraph where there is nothing finite to draw.
    """
    span = _span(rows)
    if span is None:
        return drawing.NOTHING
    longest = max(len(row.label) for row in rows)
    above = longest > LONG
    left = 2.0 if above else longest * drawing.LETTER + 12
    step, first = (ROW + 14, 30.0) if above else (ROW, 17.0)
    height = step * len(rows) + drawing.BOTTOM
    axis = Axis(*span, left + 8, drawing.WIDTH - drawing.RIGHT)
    ticks = axis.ticks(4)
    parts = []
    for tick in ticks:
        x = axis.at(tick)
        parts.append(f'<path class="grid" d="M{x:.1f} 4V{height - 24:g}"/>')
        parts.append(text(x, height - 9, drawing.tick_label(tick, ticks), "middle"))
    most = int((drawing.WIDTH - left) / drawing.LETTER)
    for index, row in enumerate(rows):
        y = first + step * index
        name = row.label if len(row.label) <= most else row.label[: most - 1] + "…"
        place = text(left, y - 13, name) if above else text(left - 6, y + 3.5, name, "end")
        parts.append(f"<g><title>{escape(row.label)}</title>{place}</g>")
        parts.extend(_row(row, axis, y))
    return svg(parts, height, label)


def _span(rows: Sequence[Dots]) -> tuple[Number, Number] | None:
    """Both ends of the axis; None where nothing can be drawn."""
    points = [v for row in rows for v in (*row.seeds.values(), row.mean) if drawable(v)]
    for row in rows:
        if row.published is not None:
            spread = row.published_std or 0.0
            points += [v for v in (row.published - spread, row.published + spread) if drawable(v)]
    if not points:
        return None
    low, high = padded(min(points), max(points))
    room = high - low
    bars = [end for row in rows for end in row.interval or () if drawable(end)]
    return (
        max(low - room / 2, min([low, *(bar - room / 40 for bar in bars)])),
        min(high + room / 2, max([high, *(bar + room / 40 for bar in bars)])),
    )


def _row(row: Dots, axis: Axis, y: Number) -> list[str]:
    """The marks of one row, from the bottom up."""
    parts = [f'<g class="{drawing.style_classes(row.style)}">']
    mean = f"{escape(row.label)}: mean {number(row.mean)}"
    if row.interval and all(map(drawable, row.interval)):
        low, high = row.interval
        mean += f"\n95 % interval {number(low)} to {number(high)}"
        start, end = axis.cut(low), axis.cut(high)
        heads = f"M{start + 5:.1f} {y - 4:g}l-5 4l5 4" if low < axis.low else ""
        heads += f"M{end - 5:.1f} {y - 4:g}l5 4l-5 4" if high > axis.high else ""
        line = f'd="M{start:.1f} {y:g}H{end:.1f}{heads}"'
        parts.append(f'<path class="interval" {line}><title>{mean}</title></path>')
    for seed, value in row.seeds.items():
        if drawable(value):
            shape = SHAPES[row.style // drawing.COLOURS % len(SHAPES)]
            parts.append(f'<path class="seed" d="M{axis.at(value):.1f} {y:g}{shape}">')
            name = f"{row.label}, seed {seed}: {number(value)}"
            parts.append(f"<title>{escape(name)}</title></path>")
    if drawable(row.mean) and len(row.seeds) != 1:
        place = f'd="M{axis.at(row.mean):.1f} {y - 8:g}v16"'
        parts.append(f'<path class="mean" {place}><title>{mean}</title></path>')
    parts.append("</g>")
    if row.published is not None and drawable(row.published):
        hover, lines = f"{row.label}: published {number(row.published)}", ""
        if row.published_std:
            hover += f" ± {number(row.published_std, 2)}"
            ends = [row.published + sign * row.published_std for sign in (-1, 1)]
            start, end = map(axis.cut, ends)
            lines = f'<path class="spread" d="M{start:.1f} {y - 3:g}v6m0 -3H{end:.1f}m0 -3v6"/>'
        x = axis.at(row.published)
        diamond = f'<path class="diamond" d="M{x:.1f} {y - 6:g}l6 6l-6 6l-6 -6z"/>'
        title = f"<title>{escape(hover)}</title>"
        parts.append(f'<g class="published">{title}{lines}{diamond}</g>')
    return parts
