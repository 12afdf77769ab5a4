"""The report of a study: its table, each seed as a dot, learning curves, and links to its runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmjax.errors import RunError
from mmjax.studies.charts import Dots, Series, dot_chart, line_chart, many_decades
from mmjax.studies.report import (
    command_line,
    equal_groups,
    leaf,
    metric_order,
    unit_of,
    write_page,
    write_report_of,
)
from mmjax.studies.run_files import RunFiles, number_or_nan, read_object, read_run

__all__ = ["write_study_report"]

MOST_COLUMNS = 4  # of one table of a study, so that it fits on paper


def write_study_report(folder: Path) -> Path:
    """Writes `report.html` for a study, and one for each of its runs, to which it links.

    Args:
        folder: a folder with `results.json` and the run directories that it names.

    Returns:
        The path of the report.

    Raises:
        RunError: if `results.json` is missing, damaged or not a study's, or the report cannot be
            written. A run directory that cannot be read is named in the report instead.
    """
    study = read_object(folder / "results.json")
    rows, columns = study.get("rows"), study.get("columns")
    if not (
        isinstance(columns, list)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and "name" in row for row in rows)
    ):
        raise RunError(
            f"{folder / 'results.json'} is not a study's results (it lacks `columns` or `rows`): "
            "run the study again."
        )
    columns = sorted(columns, key=lambda name: not name.startswith("test/"))
    tested = sum(name.startswith("test/") for name in columns) or len(columns)
    notes: list[str] = []
    runs = [_readable_runs(row, folder, notes) for row in rows]
    for run in (run for of_row in runs for run in of_row.values()):
        write_report_of(run)
    table = [_study_row(row, columns, of_row) for row, of_row in zip(rows, runs, strict=True)]
    page = {
        "kind": "study",
        "name": str(study.get("name") or folder.name),
        "title": str(study.get("title") or ""),
        "notes": notes,
        "facts": [(key, str(study[key])) for key in ("machine", "date") if study.get(key)],
        "command": command_line(study.get("command")),
        "columns": columns,
        "tables": [
            range(len(columns))[i : i + MOST_COLUMNS] for i in range(0, len(columns), MOST_COLUMNS)
        ],
        "rows": table,
        "decimals": [_decimals([row["cells"][i] for row in table]) for i in range(len(columns))],
        "seeds": max((row["seeds"] for row in table), default=0),
        "published": any(c and c["published"] is not None for row in table for c in row["cells"]),
        "dots": _study_dots(columns[:tested], table),
        "charts": _study_curves([str(row["name"]) for row in rows], runs),
        "differences": _differences(rows),
    }
    return write_page(folder / "report.html", page)


def _readable_runs(row: Mapping[str, Any], folder: Path, notes: list[str]) -> dict[str, RunFiles]:
    """The runs of a study's row by their names; one that cannot be read gives a note."""
    runs = {}
    for name in map(str, row.get("runs") or []):
        try:
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise RunError(f"{name} lies outside the study's folder.")
            runs[name] = read_run(folder / name)
        except RunError as error:
            notes.append(f"The curves leave out a run: {str(error).replace(f'{folder}/', '')}")
            continue
        notes.extend(f"{name}: {note}" for note in runs[name].notes)
    return runs


def _study_row(
    row: Mapping[str, Any], columns: Sequence[str], runs: Mapping[str, RunFiles]
) -> dict[str, Any]:
    """One row of the table: its cells in the order of the columns, and links to its runs."""
    cells: list[dict[str, Any] | None] = []
    for column in columns:
        cell = (row.get("cells") or {}).get(column)
        if cell is not None:
            values = [number_or_nan(value) for value in cell.get("values") or []]
            published = cell.get("published")
            cell = {
                "mean": number_or_nan(cell.get("mean")),
                "std": number_or_nan(cell.get("std")),
                "n": cell.get("n", len(values)),
                "values": values,
                "published": None if published is None else number_or_nan(published),
            }
        cells.append(cell)
    links = [
        (run.rpartition("/")[2], f"./{quote(run)}/report.html" if run in runs else "")
        for run in map(str, row.get("runs") or [])
    ]
    seeds = max((cell["n"] for cell in cells if cell), default=0)
    return {"name": str(row["name"]), "cells": cells, "links": links, "seeds": seeds}


def _decimals(cells: Sequence[Mapping[str, Any] | None]) -> int:
    """Decimals of a column: two digits of its typical standard deviation, at most five."""
    present = [cell for cell in cells if cell]
    spread = [c["std"] for c in present if c["std"] > 1e-9 * abs(c["mean"])]  # else all seeds agree
    sizes = sorted(std for std in spread if math.isfinite(std))
    if sizes:
        return min(5, max(0, 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))
    means = [abs(cell["mean"]) for cell in present if math.isfinite(cell["mean"])]
    return min(4, max(0, 3 - math.floor(math.log10(max(means, default=0) or 1))))


def _study_dots(
    columns: Sequence[str], table: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """(metric, chart) of each column; columns whose numbers are all equal share one."""
    charts = {}
    points: dict[str, list[tuple[str, float]]] = {}
    for index, column in enumerate(columns):
        dots = [
            Dots(row["name"], cell["values"], cell["mean"], cell["std"], style, cell["published"])
            for style, row in enumerate(table)
            if (cell := row["cells"][index])
        ]
        charts[column] = dot_chart(dots, label=f"{column} of every row")
        points[column] = [
            (f"{dot.label} {dot.published}", value) for dot in dots for value in dot.values
        ]
    return [(_joined(group), charts[group[0]]) for group in equal_groups(points)]


def _joined(names: Sequence[str]) -> str:
    """Names of equal metrics as one, with their split once: `test/accuracy = macro_recall`."""
    split = names[0].rpartition("/")[0] + "/"
    return " = ".join([names[0], *(name.removeprefix(split) for name in names[1:])])


def _study_curves(
    names: Sequence[str], runs: Sequence[Mapping[str, RunFiles]]
) -> list[tuple[str, str]]:
    """(metric, chart) of the valid metrics: each row's mean over its seeds, least to largest.

    Metrics that are equal in every run share a chart.
    """
    every = [run for row in runs for run in row.values()]
    metrics = {name for run in every for name in run.metrics if name.startswith("valid/")}
    last = max((run.last_step for run in every), default=0)
    groups = equal_groups(
        {
            metric: [
                (f"{run.folder} {step}", value)
                for run in every
                for step, value in run.metrics.get(metric, {}).items()
            ]
            for metric in sorted(metrics, key=metric_order)
        }
    )
    charts = []
    for group in groups:
        metric = group[0]
        series = []
        for style, (name, row) in enumerate(zip(names, runs, strict=True)):
            seeds: dict[float, list[float]] = {}
            for run in row.values():
                for step, value in run.metrics.get(metric, {}).items():
                    if math.isfinite(value):
                        seeds.setdefault(step, []).append(value)
            if seeds:
                steps = sorted(seeds)
                y = [sum(seeds[step]) / len(seeds[step]) for step in steps]
                low, high = (
                    [min(seeds[step]) for step in steps],
                    [max(seeds[step]) for step in steps],
                )
                series.append(Series(name, steps, y, low, high, style))
        log = many_decades([value for one in series for value in one.y])
        chart = line_chart(
            series,
            label=f"{metric} by step",
            x_range=(0, last),
            unit=unit_of(metric),
            log=log,
            legend=False,
        )
        charts.append((_joined(group), chart))
    return charts


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(row, its overrides), without those that every row has; empty where no row differs."""
    overrides = [{k: leaf(v) for k, v in (row.get("overrides") or {}).items()} for row in rows]
    shared = set.intersection(*(set(one.items()) for one in overrides)) if overrides else set()
    table = [
        (str(row["name"]), [item for item in one.items() if item not in shared])
        for row, one in zip(rows, overrides, strict=True)
    ]
    return table if any(changes for _, changes in table) else []
