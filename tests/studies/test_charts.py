"""Charts: round ticks, thin curves, and extreme values within the frame."""

import math
import re

import pytest

from mmjax.studies.charts import Dots, Series, axis_ticks, dot_chart, line_chart, number


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-7, 12, [-5, 0, 5, 10]), (0.301, 0.302, None)],
)
def test_ticks_are_round_and_within(low, high, ticks):
    found = axis_ticks(low, high)
    assert ticks is None or found == pytest.approx(ticks)
    assert 3 <= len(found) <= 9
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)


def test_number():
    shown = [number(value) for value in (12000, 0.972, 1.0, -3.1e-5, 41542.3, math.nan)]
    assert shown == ["12,000", "0.9720", "1.000", "−3.100e−05", "41,542", "not finite"]


def test_long_curves_are_thinned_to_means_with_a_band():
    noisy = Series("a", range(10_000), [float(i % 2) for i in range(10_000)]).thinned()
    assert len(noisy.x) <= 160
    assert set(noisy.low) == {0.0}
    assert set(noisy.high) == {1.0}
    assert all(0.4 < y < 0.6 for y in noisy.y)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 0.0], [1e-30, 1e30], [1e308, -1e308]])
def test_extreme_values_draw_within_the_frame(values):
    x = list(range(len(values)))
    for chart in (
        line_chart([Series("a", x, values)], label="a"),
        dot_chart([Dots("a", values, values[0], 0.0)], label="a"),
    ):
        numbers = [float(n) for n in re.findall(r'(?:cx|cy|x|y)="(-?[\d.]+)"', chart)]
        assert all(-1 <= n <= 400 for n in numbers)
        assert "nan" not in chart


def test_names_that_are_too_long_for_a_legend_are_cut():
    series = [Series(f"{name}_" * 20, [0, 1], [0.0, 1.0]) for name in ("one", "another")]
    chart = line_chart(series, label="a")
    assert min(float(x) for x in re.findall(r'<text [^>]*x="(-?[\d.]+)" y="11', chart)) >= 0
    assert chart.count("…") == 2
