"""What the charts are drawn with: axes with round ticks, numbers as people write them, and SVG."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from html import escape

Number = int | float

COLOURS = 6
DASHES = 3
WIDTH = 360.0
HEIGHT = 216.0  # of a chart with a y axis
LEFT, RIGHT, TOP, BOTTOM = 46.0, 18.0, 20.0, 30.0
LETTER = 6.2  # width of a letter of a name
NOTHING = '<p class="nothing">No finite value to draw.</p>'


@dataclasses.dataclass(frozen=True)
class Axis:
    """Maps values in [low, high] to pixels from `start` to `end`, evenly or by their logarithm."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def at(self, value: Number) -> Number:
        """The pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def cut(self, value: Number) -> Number:
        """The pixel of a value, or of the end of the axis that it lies behind."""
        return self.at(min(max(value, self.low), self.high))

    def ticks(self, count: int) -> list[Number]:
        """About `count` round values on the axis."""
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
        shown = f"{value:,}"
    elif not math.isfinite(value):
        return "not finite"
    elif 10**digits <= abs(value) < 1e12:
        shown = f"{value:,.0f}"
    else:
        shown = f"{value:#,.{digits}g}".rstrip(".")
    return shown.replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as `48 s`, `5 min 12 s` or `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{number(seconds, 3)} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def style_classes(style: int) -> str:
    """CSS classes of a style number: after the last colour they come again with another dash."""
    return f"c{style % COLOURS} d{style // COLOURS % DASHES}"


def padded(low: Number, high: Number, log: bool = False) -> tuple[Number, Number]:
    """Room around the values, so that no line lies on the frame; never an empty range."""
    if log:
        room = (high / low) ** 0.04 if high > low else 2.0
        return low / room, high * room
    room = (high - low) * 0.05
    if room <= max(abs(low), abs(high)) * 1e-9:
        room = abs(high) * 0.05 or 0.5
    return low - room, high + room


def drawable(value: Number, log: bool = False) -> bool:
    """Whether a value has a place on an axis."""
    return math.isfinite(value) and abs(value) < 1e300 and (value > 0 or not log)


def tick_label(value: Number, ticks: Sequence[Number], log: bool = False) -> str:
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


def frame(
    x_axis: Axis, y_axis: Axis, x_ticks: Sequence[tuple[Number, str]], x_label: str, unit: str = ""
) -> list[str]:
    """Both axes, with a grid line for each tick of y and (value, label) as the ticks of x."""
    parts = []
    y_ticks = y_axis.ticks(4)
    for tick in y_ticks:
        y = y_axis.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>')
        parts.append(text(LEFT - 6, y + 3.5, tick_label(tick, y_ticks, y_axis.log), "end"))
    parts.append(f'<path class="axis" d="M{LEFT:g} {HEIGHT - BOTTOM:g}H{WIDTH - RIGHT:g}"/>')
    for tick, label in x_ticks:
        x = x_axis.at(tick)
        parts.append(f'<path class="axis" d="M{x:.1f} {HEIGHT - BOTTOM:g}v4"/>')
        parts.append(text(x, HEIGHT - 14, label, "middle"))
    x_label += ", log scale" if x_axis.log else ""
    parts.append(text(WIDTH - RIGHT, HEIGHT - 2, x_label, "end", "unit"))
    y_label = ", ".join(filter(None, (unit, "log scale" if y_axis.log else "")))
    return [*parts, text(4, 11, y_label, cls="unit")] if y_label else parts


def svg(parts: Sequence[str], height: Number, label: str) -> str:
    """The element around the parts; it grows with the page."""
    head = f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return head + "".join(parts) + "</svg>"


def text(x: Number, y: Number, words: str, anchor: str = "start", cls: str = "tick") -> str:
    """One line of text."""
    place = f'x="{x:.1f}" y="{y:.1f}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return f'<text class="{cls}" {place}>{escape(words)}</text>'
