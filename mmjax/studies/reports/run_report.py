"""The report of a run: one `report.html` that needs nothing outside itself.

Fills the template `run.html`; the pages of studies and sweeps share its frame, styles, script and
macros: `page.html`, `style.html`, `script.html`, `macros.html`.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np

from mmjax.evaluation.metrics import Confusion
from mmjax.studies.files import write_text
from mmjax.studies.reports.charts import MOST_POINTS, Series, line_chart, many_decades
from mmjax.studies.reports.drawing import COLOURS, Number, duration, number
from mmjax.studies.reports.run_files import Curves, RunFiles, number_or_nan, read_run, setting

CARDS = 4
LARGEST_MATRIX = 24  # classes; above it the report lists the confusions that happen most
THROUGHPUT = {
    "examples_per_second": ("throughput", "examples/s"),
    "step_ms": ("time of a step", "ms"),
    "data_wait_ms": ("wait for data", "ms"),
}


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
    return write_report_of(read_run(run_dir))


def write_report_of(run: RunFiles, row: str = "", study: str = "") -> Path:
    """Writes the report of a run that was read already.

    Args:
        run: what its directory holds.
        row: the row of a study that it is a cell of; empty for a run of its own.
        study: the report of that study, relative to the run's.

    Returns:
        The path of the report.
    """
    result = run.result or {}
    monitor = setting(run.config, "training", "monitor")
    values = result.get("metrics") or _last_values(run.metrics)
    order = sorted(values, key=lambda name: (_split(name)[1] != monitor, metric_order(name)))
    table = [(name, _value(values[name])) for name in order]
    environment = dict(run.environment)
    data, command = environment.pop("data", None), environment.pop("command", None)
    page = {
        "row": row,
        "study": study,
        "name": str(run.config.get("name") or run.folder.name),
        "notes": run.notes,
        "finished": run.result is not None,
        "facts": _facts(run),
        "last_step": run.last_step,
        "planned_steps": setting(run.config, "training", "steps"),
        "headline": _headline(table, run.metrics),
        "splits": list(dict.fromkeys(_split(name)[0] for name, _ in table)),
        "results": _by_metric(table),
        "charts": _metric_charts(run, monitor),
        "thinned": any(len(curve) > MOST_POINTS for curve in run.metrics.values()),
        "timing": _timing_charts(run),
        "details": _details(result.get("details") or {}),
        "config": run.config,
        "environment": environment,
        "data": data,
        "command": str(command or ""),
    }
    return write_page(run.folder / "report.html", "run.html", page)


def _headline(table: Sequence[tuple[str, Number]], metrics: Curves) -> Sequence[tuple[str, Number]]:
    """What the cards show: what training was followed by; a baseline that it cannot move is not."""
    followed = {_split(name)[1] for name in metrics}
    return [(name, value) for name, value in table if _split(name)[1] in followed] or table


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    """The line of facts under the name."""
    result, facts = run.result or {}, []
    facts.append(("steps", number(int(result.get("steps", run.last_step)))))
    if result.get("evaluated_step", result.get("steps")) != result.get("steps"):
        facts.append(("evaluated at step", number(result["evaluated_step"])))
    seconds = number_or_nan(result.get("seconds"))
    if math.isfinite(seconds):
        facts.append(("time", duration(seconds)))
    seed = result.get("seed", setting(run.config, "training", "seed"))
    if seed is not None:
        facts.append(("seed", str(seed)))
    devices = run.environment.get("devices")
    if isinstance(devices, list) and devices:
        devices = [re.sub(r"^(.+) \(\1\)$", r"\1", str(name)) for name in devices]  # cpu (cpu)
        counts = {name: devices.count(name) for name in devices}
        facts.append(
            ("device", ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts.items()))
        )
    speeds = sorted(filter(math.isfinite, run.timing.get("examples_per_second", {}).values()))
    if speeds:
        facts.append(("median throughput", f"{number(speeds[len(speeds) // 2], 3)} examples/s"))
    return facts


def metric_order(name: str) -> tuple[int, bool, int, str]:
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


def _metric_charts(run: RunFiles, monitor: Any) -> list[tuple[str, str]]:
    """(metric, chart): the splits of one metric in one chart, as are metrics that are all equal."""
    families: dict[str, dict[str, dict[float, float]]] = {}
    for name, curve in run.metrics.items():
        split, metric = _split(name)
        families.setdefault(metric, {})[split] = curve
    order = sorted(
        families,
        key=lambda m: (m != "loss", m != monitor, set(families[m]) <= {"train"}, m.count("/"), m),
    )
    groups = equal_groups(
        {
            metric: [
                (f"{split} {step}", value)
                for split, curve in sorted(families[metric].items())
                for step, value in curve.items()
            ]
            for metric in order
        }
    )
    charts = []
    for group in groups:
        curves, metrics = families[group[0]], " = ".join(group)
        splits = sorted(curves, key=lambda split: (split != "train", split))
        series = [
            _series(
                split or group[0],
                curves[split],
                ("train", "valid").index(split) if split in ("train", "valid") else 2 + index,
            )
            for index, split in enumerate(splits)
        ]
        chart = line_chart(
            series,
            label=f"{metrics} by step",
            x_range=(0, run.last_step),
            unit=unit_of(group[0]),
            log=many_decades([v for curve in curves.values() for v in curve.values()]),
        )
        charts.append((metrics if len(splits) > 1 else f"{splits[0]} {metrics}".strip(), chart))
    return charts


def equal_groups(points: Mapping[str, Iterable[tuple[str, float]]]) -> list[list[str]]:
    """Names whose points all agree to nine digits: of a loss and its only objective, for one."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, values in points.items():
        key = tuple(f"{where} {value:.9g}" for where, value in values)
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _timing_charts(run: RunFiles) -> list[tuple[str, str]]:
    """(what, chart) of the throughput."""
    charts = []
    for name, curve in run.timing.items():
        title, unit = THROUGHPUT.get(name, (name, unit_of(name)))
        chart = line_chart(
            [_series(title, curve, 2)],
            label=f"{title} by step",
            x_range=(0, run.last_step),
            unit=unit,
        )
        charts.append((title, chart))
    return charts


def _series(label: str, curve: Mapping[float, float], style: int) -> Series:
    """One curve as a line; few points are marked."""
    marks = len(curve) <= 40
    return Series(label, list(curve), list(curve.values()), style=style, marks=marks)


def _details(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What to show of a result's details: matrices, tables of rows, charts of lists, else trees."""
    shown = []
    lists = _lists(details)
    for name in sorted(
        details, key=lambda name: (not _is_matrix(details[name]), metric_order(name))
    ):
        value, split = details[name], _split(name)[0]
        if _is_matrix(value):
            labels = details.get(f"{split}/classes")
            if not (isinstance(labels, list) and len(labels) == len(value)):
                labels = list(range(len(value)))
            shown.append(_matrix(name, value, labels))
            if f"{split}/per_class" not in details:
                rows = Confusion(np.array(value)).per_class()
                rows = [row | {"class": label} for row, label in zip(rows, labels, strict=True)]
                title = f"{split}, class by class"
                shown.append({"shape": "rows", "name": title, "rows": rows, "shares": True})
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            shown.append({"shape": "rows", "name": name, "rows": value, "shares": False})
        elif name in lists:
            lines = []
            for style, (other, numbers) in enumerate(lists[name].items(), start=3):
                curve = {float(at): number_or_nan(v) for at, v in enumerate(numbers, start=1)}
                lines.append(_series(_split(other)[1], curve, style))
            x_label = "dimension" if name.endswith("correlations") else "index"
            chart = line_chart(lines, label=" and ".join(lists[name]), x_label=x_label)
            shown.append({"shape": "chart", "name": name, "chart": chart})
        elif not any(name in group for group in lists.values()):
            shown.append({"shape": "tree", "name": name, "value": value})
    return shown


def _lists(details: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """First name -> name -> numbers: lists to draw, in one chart where they are of one kind.

    Of one kind are lists of one split and one length whose names end alike: the correlations of
    DCCA beside the `linear_cca_correlations` of the raw data.
    """
    kinds: dict[tuple[str, str, int], dict[str, list[Any]]] = {}
    for name in sorted(details, key=lambda name: (metric_order(name)[0], len(name), name)):
        value, (split, metric) = details[name], _split(name)
        if (
            isinstance(value, list)
            and len(value) > 2
            and not isinstance(value[0], (list, str, dict))
        ):
            kind = (split, metric.rpartition("_")[2], len(value))
            kinds.setdefault(kind, {})[name] = value
    return {next(iter(group)): group for group in kinds.values()}


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
    title = f"{name}: the most frequent mistakes"
    return {"shape": "rows", "name": title, "rows": rows, "shares": True}


def _is_matrix(value: Any) -> bool:
    """Whether a value is a square matrix of counts."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
        and all(isinstance(cell, int) and cell >= 0 for row in value for cell in row)
    )


def _value(value: Any) -> Number:
    """A JSON value as a number to show: a count stays a count."""
    return value if isinstance(value, int) else number_or_nan(value)


def unit_of(name: str) -> str:
    """The unit that a metric's name ends with."""
    endings = {"_ms": "ms", "_seconds": "s", "_per_second": "1/s", "_bytes": "bytes"}
    return next((unit for ending, unit in endings.items() if name.endswith(ending)), "")


def leaf(value: Any) -> str:
    """A config value as an experiment file writes it: `GatedFusion(width=64)`, `'adam'`."""
    if isinstance(value, dict):
        fields = ", ".join(f"{key}={leaf(field)}" for key, field in value.items() if key != "type")
        if "type" in value:
            return f"{_short(value['type'])}({fields})"
        return "{" + fields + "}"
    if isinstance(value, list):
        return "(" + ", ".join(map(leaf, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _breakable(name: str) -> markupsafe.Markup:
    """A name that may break after each slash and underscore."""
    return markupsafe.Markup(re.sub("([/_])", r"\1<wbr>", str(markupsafe.escape(name))))


def _short(dotted: Any) -> str:
    """The class name of a dotted path."""
    return str(dotted).rpartition(".")[2]


def write_page(path: Path, template: str, page: Mapping[str, Any]) -> Path:
    """Fills a template with a page's values; RunError where it cannot be written."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmjax.studies.reports", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "breakable": _breakable,
        "leaf": leaf,
        "number": number,
        "short": _short,
    }
    text = environment.get_template(template).render(page, colours=COLOURS, cards=CARDS)
    return write_text(path, text)
