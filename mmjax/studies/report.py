"""The reports: one `report.html` for a run or a study, that needs nothing outside itself.

Reads what a run directory and a study's `results.json` hold, and fills the template beside this
file. Numbers are read as they are: what is not finite is counted and left out of the charts.
"""

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np

from mmjax.errors import RunError
from mmjax.evaluation.metrics import Confusion
from mmjax.studies.charts import COLOURS, Dots, Number, Series, dot_chart, line_chart, number

__all__ = ["write_run_report", "write_study_report"]

CARDS = 4
MOST_COLUMNS = 4  # of one table of a study, so that it fits on paper
LARGEST_MATRIX = 24  # classes; above it the report lists the confusions that happen most
THROUGHPUT = {
    "examples_per_second": ("throughput", "examples/s"),
    "step_ms": ("time of a step", "ms"),
    "data_wait_ms": ("wait for data", "ms"),
}
Curves = dict[str, dict[float, float]]  # metric name -> step -> value


@dataclasses.dataclass(frozen=True)
class _Run:
    """What a run directory holds. `notes` are sentences about what is not as it should be."""

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any] | None
    metrics: Curves
    timing: Curves
    notes: tuple[str, ...]


def write_run_report(run_dir: Path) -> Path:
    """Writes `report.html` into a run directory, finished or not.

    Args:
        run_dir: a folder with `config.json`, `environment.json` and `metrics.jsonl`, and where the
            run got so far `timing.jsonl` and `result.json`.

    Returns:
        The path of the report.

    Raises:
        RunError: if a file is missing, damaged or cannot be written.
    """
    run = _read_run(run_dir)
    result = run.result or {}
    values = result.get("metrics") or _last_values(run.metrics)
    headline = [(name, _value(values[name])) for name in sorted(values, key=_rank)]
    environment = dict(run.environment)
    data, command = environment.pop("data", None), environment.pop("command", None)
    last = max((step for curve in run.metrics.values() for step in curve), default=0)
    page = {
        "kind": "run",
        "name": str(run.config.get("name") or run_dir.name),
        "notes": run.notes,
        "finished": run.result is not None,
        "facts": _facts(run, last),
        "last_step": int(last),
        "planned_steps": _setting(run.config, "training", "steps"),
        "headline": headline,
        "splits": list(dict.fromkeys(_split(name)[0] for name, _ in headline)),
        "results": _by_metric(headline),
        "charts": _metric_charts(run.metrics),
        "timing": _timing_charts(run.timing),
        "details": _details(result.get("details") or {}),
        "config": run.config,
        "environment": environment,
        "data": data,
        "command": _command(command),
    }
    return _write(run_dir / "report.html", page)


def write_study_report(folder: Path) -> Path:
    """Writes `report.html` for a study: its table, a chart for each column, and learning curves.

    Args:
        folder: a folder with `results.json` and the run directories that it names.

    Returns:
        The path of the report.

    Raises:
        RunError: if `results.json` is missing, damaged or not a study's, or the report cannot be
            written. A run directory that cannot be read is named in the report instead.
    """
    study = _read_object(folder / "results.json")
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
    table = [_study_row(row, folder, columns) for row in rows]
    notes: list[str] = []
    runs = [_readable_runs(row, folder, notes) for row in rows]
    page = {
        "kind": "study",
        "name": str(study.get("name") or folder.name),
        "title": str(study.get("title") or ""),
        "notes": notes,
        "facts": [(key, str(study[key])) for key in ("machine", "date") if study.get(key)],
        "command": _command(study.get("command")),
        "columns": columns,
        "tables": [
            range(len(columns))[i : i + MOST_COLUMNS] for i in range(0, len(columns), MOST_COLUMNS)
        ],
        "rows": table,
        "decimals": [_decimals([row["cells"][i] for row in table]) for i in range(len(columns))],
        "published": any(c and c["published"] is not None for row in table for c in row["cells"]),
        "dots": [(columns[i], _study_dots(columns[i], i, table)) for i in range(tested)],
        "charts": _study_curves([str(row["name"]) for row in rows], runs),
        "differences": _differences(rows),
    }
    return _write(folder / "report.html", page)


# Reading


def _read_run(run_dir: Path) -> _Run:
    """Everything that a run directory holds."""
    notes = []
    curves: list[Curves] = []
    config = _read_object(run_dir / "config.json")
    environment = _read_object(run_dir / "environment.json")
    for name, needed in (("metrics.jsonl", True), ("timing.jsonl", False)):
        lines, cut = (
            _read_lines(run_dir / name) if needed or (run_dir / name).exists() else ([], False)
        )
        if cut:
            notes.append(
                f"The last line of {name} was cut off when the run was stopped; it is left out."
            )
        curves.append(_curves(lines))
        broken = [
            (s, key) for key, c in curves[-1].items() for s, v in c.items() if not math.isfinite(v)
        ]
        if broken:
            step, key = min(broken)
            what = "1 value" if len(broken) == 1 else f"{len(broken):,} values"
            notes.append(
                f"Not finite, and left out of the charts: {what} of {name}, "
                f"first {key} at step {int(step):,}."
            )
    path = run_dir / "result.json"
    result = _read_object(path) if path.exists() else None
    if result is not None and not isinstance(result.get("metrics"), dict):
        raise RunError(f"{path} is damaged (it has no `metrics`): evaluate the run again.")
    return _Run(config, environment, result, curves[0], curves[1], tuple(notes))


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, so there is nothing to report: check the folder."
        ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise RunError(f"{path} is damaged (it is not JSON): restore it or run again.") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged (it holds no JSON object): restore it or run again.")
    return value


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a JSON-lines file, and whether a last line was cut in half and left out."""
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, so there is nothing to report: check the folder."
        ) from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from None
    lines: list[dict[str, Any]] = []
    for index, line in enumerate([*whole, rest], start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            float(value["step"])
        except (ValueError, TypeError, KeyError):
            if index > len(whole):
                return lines, True
            raise RunError(
                f"{path} is damaged: line {index} is not a JSON object with a step; "
                "remove that line or run again."
            ) from None
        lines.append(value)
    return lines, False


def _curves(lines: Sequence[Mapping[str, Any]]) -> Curves:
    """Metric name -> step -> value, by ascending step; of a step written twice the later counts."""
    curves: Curves = {}
    for line in sorted(lines, key=lambda line: float(line["step"])):
        for name, value in line.items():
            if name != "step" and not isinstance(value, (str, list, dict, bool)):
                curves.setdefault(name, {})[float(line["step"])] = _number_or_nan(value)
    return curves


def _readable_runs(row: Mapping[str, Any], folder: Path, notes: list[str]) -> list[_Run]:
    """The runs of a study's row; one that cannot be read gives a note."""
    runs = []
    for name in row.get("runs") or []:
        try:
            runs.append(_read_run(folder / str(name)))
        except RunError as error:
            notes.append(f"The curves leave out a run: {str(error).replace(f'{folder}/', '')}")
            continue
        notes.extend(f"{name}: {note}" for note in runs[-1].notes)
    return runs


# What the template shows of a run


def _rank(name: str) -> tuple[int, bool, int, str]:
    """Sorts metric names: test first, the plain ones before a loss and before those of a part."""
    split = name.split("/")[0]
    order = ("test", "valid", "train")
    return order.index(split) if split in order else 3, "loss" in name, name.count("/"), name


def _last_values(metrics: Curves) -> dict[str, float]:
    """The latest value of every metric: of the evaluations where there are any."""
    latest = {name: list(curve.values())[-1] for name, curve in metrics.items()}
    evaluated = {name: value for name, value in latest.items() if not name.startswith("train/")}
    return evaluated or latest


def _by_metric(values: Sequence[tuple[str, Number]]) -> dict[str, dict[str, Number]]:
    """Metric -> split -> value."""
    table: dict[str, dict[str, Number]] = {}
    for name, value in values:
        split, metric = _split(name)
        table.setdefault(metric, {})[split] = value
    return table


def _split(name: str) -> tuple[str, str]:
    """`test/accuracy` as (`test`, `accuracy`); a name without a split as (``, name)."""
    split, slash, metric = name.partition("/")
    return (split, metric) if slash else ("", name)


def _facts(run: _Run, last_step: Number) -> list[tuple[str, str]]:
    """The line of facts under the name."""
    result, facts = run.result or {}, []
    facts.append(("steps", number(int(result.get("steps", last_step)))))
    if result.get("evaluated_step", result.get("steps")) != result.get("steps"):
        facts.append(("evaluated at step", number(result["evaluated_step"])))
    seconds = _number_or_nan(result.get("seconds"))
    if math.isfinite(seconds):
        facts.append(("time", _duration(seconds)))
    seed = result.get("seed", _setting(run.config, "training", "seed"))
    if seed is not None:
        facts.append(("seed", str(seed)))
    devices = run.environment.get("devices")
    if isinstance(devices, list) and devices:
        counts = {str(name): devices.count(name) for name in devices}
        facts.append(
            ("device", ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts.items()))
        )
    speeds = sorted(filter(math.isfinite, run.timing.get("examples_per_second", {}).values()))
    if speeds:
        facts.append(("median throughput", f"{number(speeds[len(speeds) // 2], 3)} examples/s"))
    return facts


def _metric_charts(metrics: Curves) -> list[tuple[str, str]]:
    """(metric, chart): train and valid of one metric in one chart, those evaluated first."""
    families: dict[str, dict[str, dict[float, float]]] = {}
    for name, curve in metrics.items():
        split, metric = _split(name)
        families.setdefault(metric, {})[split] = curve
    order = sorted(
        families, key=lambda m: (m != "loss", set(families[m]) <= {"train"}, m.count("/"), m)
    )
    charts = []
    for metric in order:
        splits = sorted(families[metric], key=lambda split: (split != "train", split))
        series = [
            _series(
                split or metric,
                families[metric][split],
                ("train", "valid").index(split) if split in ("train", "valid") else 2 + index,
            )
            for index, split in enumerate(splits)
        ]
        log = _many_decades([v for curve in families[metric].values() for v in curve.values()])
        caption = metric if len(splits) > 1 or not splits[0] else f"{splits[0]} {metric}"
        charts.append(
            (caption, line_chart(series, label=f"{metric} by step", unit=_unit(metric), log=log))
        )
    return charts


def _timing_charts(timing: Curves) -> list[tuple[str, str]]:
    """(what, chart) of the throughput."""
    charts = []
    for index, (name, curve) in enumerate(timing.items()):
        title, unit = THROUGHPUT.get(name, (name, _unit(name)))
        series = [_series(title, curve, index)]
        charts.append((title, line_chart(series, label=f"{title} by step", unit=unit)))
    return charts


def _series(label: str, curve: Mapping[float, float], style: int) -> Series:
    """One curve as a line; few points are marked."""
    marks = len(curve) <= 40
    return Series(label, list(curve), list(curve.values()), style=style, marks=marks)


def _details(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to show of a result's details: matrices, tables of rows, charts of lists, else trees."""
    shown = []
    for name in sorted(details, key=lambda name: (not _is_matrix(details[name]), _rank(name))):
        value, split = details[name], _split(name)[0]
        if _is_matrix(value):
            labels = details.get(f"{split}/classes")
            if not (isinstance(labels, list) and len(labels) == len(value)):
                labels = list(range(len(value)))
            shown.append(_matrix(name, value, labels))
            if f"{split}/per_class" not in details:
                rows = Confusion(np.array(value)).per_class()
                rows = [row | {"class": label} for row, label in zip(rows, labels, strict=True)]
                shown.append({"shape": "rows", "name": f"{split}, class by class", "rows": rows})
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            shown.append({"shape": "rows", "name": name, "rows": value})
        elif isinstance(value, list) and len(value) > 2 and not isinstance(value[0], (list, str)):
            line = _series(name, dict(enumerate(map(_number_or_nan, value), start=1)), 0)
            chart = line_chart([line], label=name, x_label="number")
            shown.append({"shape": "chart", "name": name, "chart": chart})
        else:
            shown.append({"shape": "tree", "name": name, "value": value})
    return shown


def _matrix(name: str, counts: list[list[int]], labels: Sequence[Any]) -> dict[str, Any]:
    """A confusion matrix to show; of many classes the confusions that happen most."""
    shares = [[cell / max(sum(row), 1) for cell in row] for row in counts]
    if len(counts) <= LARGEST_MATRIX:
        return {"shape": "matrix", "name": name, "cells": counts, "shares": shares, "names": labels}
    wrong = [
        {"true": labels[i], "predicted": labels[j], "examples": cell, "share": shares[i][j]}
        for i, row in enumerate(counts)
        for j, cell in enumerate(row)
        if i != j and cell
    ]
    rows = sorted(wrong, key=lambda row: -row["examples"])[:20]
    return {"shape": "rows", "name": f"{name}: the most frequent mistakes", "rows": rows}


def _is_matrix(value: Any) -> bool:
    """Whether a value is a square matrix of counts."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
        and all(isinstance(cell, int) and cell >= 0 for row in value for cell in row)
    )


# What the template shows of a study


def _study_row(row: Mapping[str, Any], folder: Path, columns: Sequence[str]) -> dict[str, Any]:
    """One row of the table: its cells in the order of the columns, and links to its runs."""
    cells: list[dict[str, Any] | None] = []
    for column in columns:
        cell = (row.get("cells") or {}).get(column)
        if cell is not None:
            values = [_number_or_nan(value) for value in cell.get("values") or []]
            published = cell.get("published")
            cell = {
                "mean": _number_or_nan(cell.get("mean")),
                "std": _number_or_nan(cell.get("std")),
                "n": cell.get("n", len(values)),
                "values": values,
                "published": None if published is None else _number_or_nan(published),
            }
        cells.append(cell)
    links = []
    for run in row.get("runs") or []:
        run = str(run)
        report = "/report.html" if (folder / run / "report.html").exists() else "/"
        links.append((run.rpartition("/")[2], "./" + quote(run) + report))
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


def _study_dots(column: str, index: int, table: Sequence[Mapping[str, Any]]) -> str:
    """The chart of one column."""
    dots = [
        Dots(row["name"], cell["values"], cell["mean"], cell["std"], style, cell["published"])
        for style, row in enumerate(table)
        if (cell := row["cells"][index])
    ]
    return dot_chart(dots, label=f"{column} of every row")


def _study_curves(names: Sequence[str], runs: Sequence[Sequence[_Run]]) -> list[tuple[str, str]]:
    """(metric, chart) of the valid metrics: each row's mean over its seeds, least to largest."""
    metrics = {
        name for row in runs for run in row for name in run.metrics if name.startswith("valid/")
    }
    charts = []
    for metric in sorted(metrics, key=_rank):
        series = []
        for style, (name, row) in enumerate(zip(names, runs, strict=True)):
            seeds: dict[float, list[float]] = {}
            for run in row:
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
        log = _many_decades([value for one in series for value in one.y])
        chart = line_chart(
            series, label=f"{metric} by step", unit=_unit(metric), log=log, legend=False
        )
        charts.append((metric, chart))
    return charts


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(row, its overrides), without those that every row has; empty where no row differs."""
    overrides = [{k: _leaf(v) for k, v in (row.get("overrides") or {}).items()} for row in rows]
    shared = set.intersection(*(set(one.items()) for one in overrides)) if overrides else set()
    table = [
        (str(row["name"]), [item for item in one.items() if item not in shared])
        for row, one in zip(rows, overrides, strict=True)
    ]
    return table if any(changes for _, changes in table) else []


# Small things


def _number_or_nan(value: Any) -> float:
    """A JSON value as a float; what is no number is NaN."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _value(value: Any) -> Number:
    """A JSON value as a number to show: a count stays a count."""
    return value if isinstance(value, int) else _number_or_nan(value)


def _many_decades(values: Sequence[float]) -> bool:
    """Whether a curve needs a logarithmic axis to be read."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) > 1000 * min(finite)


def _unit(name: str) -> str:
    """The unit that a metric's name ends with."""
    endings = {"_ms": "ms", "_seconds": "s", "_per_second": "1/s", "_bytes": "bytes"}
    return next((unit for ending, unit in endings.items() if name.endswith(ending)), "")


def _duration(seconds: float) -> str:
    """Seconds as `48 s`, `5 min 12 s` or `3 h 20 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{number(seconds, 3)} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _setting(config: Mapping[str, Any], *path: str) -> Any:
    """A nested value of a config; None where it is not there."""
    value: Any = config
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _command(command: Any) -> str:
    """A recorded command, a string or its words, as one line."""
    return shlex.join(map(str, command)) if isinstance(command, list) else str(command or "")


def _leaf(value: Any) -> str:
    """A config value as an experiment file writes it: `GatedFusion(width=64)`, `'adam'`."""
    if isinstance(value, dict):
        fields = ", ".join(f"{key}={_leaf(field)}" for key, field in value.items() if key != "type")
        if "type" in value:
            return f"{_short(value['type'])}({fields})"
        return "{" + fields + "}"
    if isinstance(value, list):
        return "(" + ", ".join(map(_leaf, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _short(dotted: Any) -> str:
    """The class name of a dotted path."""
    return str(dotted).rpartition(".")[2]


def _write(path: Path, page: Mapping[str, Any]) -> Path:
    """Fills the template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmjax.studies", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "leaf": _leaf, "short": _short}
    text = environment.get_template("report.html").render(page, colours=COLOURS, cards=CARDS)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}).") from None
    return path
