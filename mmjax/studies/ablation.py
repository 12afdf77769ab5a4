"""Ablations: the rows of an experiment file times seeds, each cell in its own run directory.

An experiment file may define, beside its `experiment`, `rows`: row name -> dotted path -> value,
each row the experiment with these parts replaced. Without it there is one row, the experiment
itself. It may also define `published`: row name -> metric -> the number that its paper gives, shown
beside ours as unverified.
"""

import dataclasses
import datetime
import math
import os
import platform
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from mmjax.errors import ConfigError, unknown_name
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment, check
from mmjax.training.loop import train
from mmjax.training.overrides import replace_at
from mmjax.training.run_directory import RunDirectory
from mmjax.training.setup import prepare

RESULTS = "results.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a study: its name, what it changes, and the experiment that it then is."""

    name: str
    changes: Mapping[str, Any]
    experiment: Experiment
    published: Mapping[str, float]


def rows_of(module: ModuleType, experiment: Experiment, only: Sequence[str]) -> list[Row]:
    """The rows of an experiment file.

    Args:
        module: the experiment file, run.
        experiment: its experiment, with the overrides of the command line.
        only: names of the rows to take; none takes all.

    Raises:
        ConfigError: for a row, or a path in one, that is not there.
    """
    table = getattr(module, "rows", {experiment.name: {}})
    _check_table(table)
    published = getattr(module, "published", {})
    for name in [*only, *published]:
        if name not in table:
            raise unknown_name("row", name, table)
    rows = []
    for name in only or table:
        changed = experiment
        try:
            for path, value in table[name].items():
                changed = replace_at(changed, path, value)
            check(changed)
        except ConfigError as error:
            raise ConfigError(f"Row {name!r}: {error}") from error
        rows.append(Row(name, table[name], changed, published.get(name, {})))
    return rows


def _check_table(table: Any) -> None:
    """Refuses rows that are not name -> {dotted path: value}, or whose name is no folder's."""
    if not (isinstance(table, Mapping) and all(isinstance(row, Mapping) for row in table.values())):
        raise ConfigError("`rows` is not a mapping from names to mappings {dotted path: value}.")
    for name in table:
        if not isinstance(name, str) or not name.strip(". ") or re.search(r"[/\\\x00-\x1f]", name):
            raise ConfigError(
                f"The row name {name!r} cannot name a folder: leave out slashes, and use more than "
                "dots and spaces."
            )


def ablate(
    name: str,
    title: str,
    rows: Sequence[Row],
    seeds: int,
    study_dir: Path,
    folder: Path | None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs every row with every seed that is not finished yet, and gathers the table.

    Args:
        name: of the study.
        title: one line about it.
        rows: what to run.
        seeds: each row is run with `training.seed` from its own value on, so many times.
        study_dir: cell (row, seed) is the run directory `row/seed<seed>` in it.
        folder: the folder of raw data, or None.
        command: the command line, for the record.

    Returns:
        What `results.json` in `study_dir` then holds.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}: it must be 1 or more.")
    _refuse_other(study_dir, name)
    for row in rows:  # what can fail for a row, fails before the first is trained
        prepare(row.experiment, folder)
    gathered = _other_rows(study_dir, rows)
    for row in rows:
        results, runs = {}, []
        for seed in range(row.experiment.training.seed, row.experiment.training.seed + seeds):
            run = f"{row.name}/seed{seed}"
            runs.append(run)
            experiment = replace_at(row.experiment, "training.seed", seed)
            results[run] = train(experiment, study_dir / run, folder, command)
            jax.clear_caches()  # what was compiled for this cell would fill the memory for nothing
        gathered.append(
            {
                "name": row.name,
                "overrides": {path: to_json(value) for path, value in row.changes.items()},
                "cells": _cells([result["metrics"] for result in results.values()], row),
                "runs": runs,
            }
        )
        study = {
            "name": name,
            "title": title,
            "command": shlex.join(command),
            "columns": list(dict.fromkeys(column for each in gathered for column in each["cells"])),
            "rows": gathered,
            "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
            "date": datetime.date.today().isoformat(),
        }
        RunDirectory(study_dir).write(RESULTS, study)
    return study


def _other_rows(study_dir: Path, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of an earlier start that are not run again now."""
    if not (study_dir / RESULTS).exists():
        return []
    again = {row.name for row in rows}
    return [
        row for row in RunDirectory(study_dir).read(RESULTS)["rows"] if row["name"] not in again
    ]


def _refuse_other(study_dir: Path, name: str) -> None:
    """Refuses a directory of another study, or of a single run."""
    other = None
    if (study_dir / "config.json").exists():
        other = "a run"
    elif (study_dir / RESULTS).exists():
        found = RunDirectory(study_dir).read(RESULTS).get("name")
        other = None if found == name else f"the study {found!r}"
    if other:
        raise ConfigError(f"{study_dir} holds {other}: name another directory with --run-dir.")


def _cells(metrics: Sequence[Mapping[str, float | None]], row: Row) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    for column in dict.fromkeys(name for values in metrics for name in values):
        values = [each.get(column) for each in metrics]
        known = [value for value in values if value is not None and math.isfinite(value)]
        cells[column] = {
            "mean": statistics.fmean(known) if known else None,
            "std": statistics.stdev(known) if len(known) > 1 else None,
            "n": len(known),
            "values": values,
        }
    for column, value in row.published.items():
        if column not in cells:
            raise unknown_name(
                f"metric of the row {row.name!r} with a published number", column, cells
            )
        cells[column]["published"] = value
    return cells


def show(study: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Prints the table: mean ± standard deviation over the seeds.

    Args:
        study: what `ablate` returns.
        columns: the metrics to print; none prints those of `test`.
    """
    chosen = list(columns) or [name for name in study["columns"] if name.startswith("test/")]
    for name in chosen:
        if name not in study["columns"]:
            raise unknown_name("metric", name, study["columns"])
    table = Table(title=study["title"], title_justify="left")
    table.add_column("")
    for name in chosen:
        table.add_column(name, justify="right")
    table.add_column("seeds", justify="right")
    for row in study["rows"]:
        cells = [row["cells"].get(name) for name in chosen]
        table.add_row(row["name"], *map(_cell, cells), str(len(row["runs"])))
    Console(width=None if Console().is_terminal else 120).print(table)


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["mean"] is None:
        return "-"
    spread = "" if cell["std"] is None else f" ± {cell['std']:.2g}"
    published = f" (published, unverified: {cell['published']:g})" if "published" in cell else ""
    return f"{cell['mean']:.4g}{spread}{published}"
