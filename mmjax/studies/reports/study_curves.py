"""The charts of a study's report: seeds as dots, and learning curves with bands over the seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax.studies.reports.charts import Series, line_chart, many_decades
from mmjax.studies.reports.dot_chart import Dots, dot_chart
from mmjax.studies.reports.run_files import RunFiles
from mmjax.studies.reports.run_report import equal_groups, metric_order, unit_of
from mmjax.studies.statistics import confidence_interval

Charts = list[tuple[str, str]]  # (title, drawing)


def study_dots(study: Mapping[str, Any]) -> Charts:
    """(metric, chart) of each shown column; columns whose numbers are all equal share one."""
    charts = {}
    points: dict[str, list[tuple[str, float]]] = {}
    for column in study["shown"]:
        dots = [
            _dots(row, cell, style)
            for style, row in enumerate(study["rows"])
            if (cell := row["cells"].get(column))
        ]
        charts[column] = dot_chart(dots, label=f"{column} of every row")
        points[column] = [
            (f"{dot.label} {dot.published}", value) for dot in dots for value in dot.seeds.values()
        ]
    return [(_joined(group), charts[group[0]]) for group in equal_groups(points)]


def _dots(row: Mapping[str, Any], cell: Mapping[str, Any], style: int) -> Dots:
    values = [math.nan if value is None else float(value) for value in cell["values"]]
    published = cell.get("published") or {}
    return Dots(
        row["name"],
        dict(zip(map(str, row["seeds"]), values, strict=True)),
        math.nan if cell["mean"] is None else cell["mean"],
        interval=cell["interval"] and (cell["interval"][0], cell["interval"][1]),
        style=style,
        published=published.get("value"),
        published_std=published.get("std"),
    )


def study_curves(
    study: Mapping[str, Any], runs: Sequence[Mapping[str, RunFiles]]
) -> tuple[Charts, Charts]:
    """The learning curves of all rows: each their mean over seeds, with its 95 % interval as band.

    Metrics that are equal in every run share a chart.

    Args:
        study: what `results.json` holds.
        runs: of each row, the runs that could be read.

    Returns:
        (metric, chart) of the validation metrics, those of the study's columns first; and of the
        losses and what else training wrote.
    """
    every = [run for row in runs for run in row.values()]
    chosen = {name.partition("/")[2] for name in study["shown"]}
    metrics = sorted(
        {name for run in every for name in run.metrics},
        key=lambda name: (name.partition("/")[2] not in chosen, metric_order(name)),
    )
    points = {
        metric: [
            (f"{run.folder} {step}", value)
            for run in every
            for step, value in run.metrics.get(metric, {}).items()
        ]
        for metric in metrics
    }
    names = [row["name"] for row in study["rows"]]
    last = max((run.last_step for run in every), default=0)
    first: Charts = []
    folded: Charts = []
    for group in equal_groups(points):
        is_loss = any("loss" in name for name in group)
        into = first if group[0].startswith("valid/") and not is_loss else folded
        series = [
            line
            for style, (name, row) in enumerate(zip(names, runs, strict=True))
            if (
                line := _mean_curve(
                    name, [run.metrics.get(group[0], {}) for run in row.values()], style
                )
            )
        ]
        chart = line_chart(
            series,
            label=f"{group[0]} by step, of every row",
            x_range=(0, last),
            unit=unit_of(group[0]),
            log=many_decades([value for line in series for value in line.y]),
            legend=False,
            cut_bands=True,
        )
        into.append((_joined(group), chart))
    return first, folded


def _mean_curve(label: str, curves: Sequence[Mapping[float, float]], style: int) -> Series | None:
    """The mean over seeds at each step, with its interval where there are two seeds or more."""
    seeds: dict[float, list[float]] = {}
    for curve in curves:
        thin = Series(label, list(curve), list(curve.values())).thinned()
        for step, value in zip(thin.x, thin.y, strict=True):
            if math.isfinite(value):
                seeds.setdefault(step, []).append(value)
    if not seeds:
        return None
    steps = sorted(seeds)
    bands = [confidence_interval(seeds[step]) or (math.nan, math.nan) for step in steps]
    return Series(
        label,
        steps,
        [sum(seeds[step]) / len(seeds[step]) for step in steps],
        low=[low for low, _ in bands],
        high=[high for _, high in bands],
        style=style,
    )


def _joined(names: Sequence[str]) -> str:
    """Names of equal metrics as one, with their split once: `test/accuracy = macro_recall`."""
    split = names[0].rpartition("/")[0] + "/"
    return " = ".join([names[0], *(name.removeprefix(split) for name in names[1:])])
