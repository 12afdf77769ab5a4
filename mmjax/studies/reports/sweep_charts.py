"""The charts of a sweep: bars for shares, and trials as dots."""

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape

from mmjax.studies.reports import drawing
from mmjax.studies.reports.drawing import Axis, Number, drawable, frame, number, padded, svg, text

ROW = 38.0  # pixels of a bar and its name above it
STYLES = {"best": "c1", "complete": "c0", "pruned": "c5"}


@dataclasses.dataclass(frozen=True)
class Dot:
    """One trial: `x` is a number, or the index of a name on the axis; `hover` is its hover text."""

    x: Number
    y: Number
    kind: str  # best, complete or pruned
    hover: str


def bar_chart(shares: Mapping[str, float], *, label: str) -> str:
    """A bar for each share of one, from top to bottom, with its name above and its value beside.

    Args:
        shares: name -> value in [0, 1]; one at least.
        label: what the chart shows, for readers who cannot see it.

    Returns:
        An `<svg>` element.
    """
    room = 44.0
    axis = Axis(0.0, max(*shares.values(), 1e-9), 4.0, drawing.WIDTH - drawing.RIGHT - room)
    parts = []
    for index, (name, share) in enumerate(shares.items()):
        y = 14 + ROW * index
        end = max(axis.at(share), axis.start + 1)
        hover = f"<title>{escape(name)}: {number(share, 3)}</title>"
        parts.append(text(axis.start, y, name))
        parts.append(
            f'<g class="c0">{hover}<rect class="bar" x="{axis.start:g}" y="{y + 5:g}" '
            f'width="{end - axis.start:.1f}" height="13" rx="2"/></g>'
        )
        parts.append(text(end + 6, y + 15.5, f"{100 * share:.1f} %"))
    return svg(parts, ROW * len(shares) + 6, label)


def scatter_chart(
    dots: Sequence[Dot],
    *,
    label: str,
    x_label: str,
    x_range: tuple[Number, Number] | None = None,
    names: Sequence[str] = (),
    log_x: bool = False,
    log_y: bool = False,
    line: Sequence[tuple[Number, Number]] = (),
) -> str:
    """Trials as dots: filled where complete, hollow where pruned, in another colour the best.

    Args:
        dots: the trials; the last are drawn on top.
        label: what the chart shows, for readers who cannot see it.
        x_label: below the x axis.
        x_range: both ends of the x axis; else as far as the dots go.
        names: of the places 0, 1, ... on the x axis, instead of numbers.
        log_x: a logarithmic x axis.
        log_y: a logarithmic y axis; leaves out what is not above 0.
        line: a line of (x, y) behind the dots that goes in steps.

    Returns:
        An `<svg>` element; a paragraph where there is nothing finite to draw.
    """
    dots = [dot for dot in dots if drawable(dot.y, log_y) and drawable(dot.x, log_x)]
    if not dots:
        return drawing.NOTHING
    ends = [float(dot.x) for dot in dots] + [float(end) for end in x_range or ()]
    low, high = (-0.5, len(names) - 0.5) if names else padded(min(ends), max(ends), log_x)
    x_axis = Axis(low, high, drawing.LEFT, drawing.WIDTH - drawing.RIGHT, log_x)
    heights = [dot.y for dot in dots]
    y_axis = Axis(
        *padded(min(heights), max(heights), log_y),
        drawing.HEIGHT - drawing.BOTTOM,
        drawing.TOP,
        log_y,
    )
    parts = frame(x_axis, y_axis, _x_ticks(x_axis, names), x_label)
    if steps := [(x, y) for x, y in line if drawable(y, log_y)]:
        path = f"M{x_axis.at(steps[0][0]):.1f} {y_axis.at(steps[0][1]):.1f}"
        path += "".join(f"H{x_axis.at(x):.1f}V{y_axis.at(y):.1f}" for x, y in steps[1:])
        parts.append(
            f'<g class="c1"><path class="line" d="{path}H{drawing.WIDTH - drawing.RIGHT:g}"/></g>'
        )
    for dot in dots:
        mark, size = ("mark", 3.2) if dot.kind == "pruned" else ("seed", 4.0)
        size += 1.5 if dot.kind == "best" else 0.0
        place = f'cx="{x_axis.at(dot.x):.1f}" cy="{y_axis.at(dot.y):.1f}" r="{size:g}"'
        parts.append(
            f'<g class="{STYLES[dot.kind]}"><circle class="{mark}" {place}>'
            f"<title>{escape(dot.hover)}</title></circle></g>"
        )
    return svg(parts, drawing.HEIGHT, label)


def _x_ticks(axis: Axis, names: Sequence[str]) -> list[tuple[Number, str]]:
    """(value, label) of the ticks below the plot; names are cut where they have no room."""
    if names:
        most = max(2, int((axis.end - axis.start) / len(names) / drawing.LETTER))
        cut = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
        return list(enumerate(cut))
    ticks = axis.ticks(5)
    if axis.log and len(ticks) < 2:  # less than a decade
        ticks = [tick for tick in Axis(axis.low, axis.high, 0, 1).ticks(4) if tick > 0]
        return [(tick, drawing.tick_label(tick, ticks)) for tick in ticks]
    return [(tick, drawing.tick_label(tick, ticks, axis.log)) for tick in ticks]
