"""From the run directories of a study to its results, which depend on these files alone."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.errors import RunError, unknown_name
from mmjax.studies.ledger import SCHEMA
from mmjax.studies.rows import RECORD, Cell, Row, cells_there, describe, environment_of, result_of
from mmjax.studies.statistics import compare, confidence_interval, paired_tests
from mmjax.studies.study import Study
from mmjax.training.config import to_json

RESULTS = "results.json"


def gather(
    study: Study, rows: Mapping[str, Row], study_dir: Path, record: Mapping[str, Any]
) -> dict[str, Any]:
    """The results of all cells that are finished; rows without any cell are left out.

    Args:
        study: its columns and published numbers.
        rows: all rows of the study, in order; its means come first in the tables.
        study_dir: where the run directories are.
        record: `name`, `title`, `command` and `date` of the study.

    Returns:
        What `results.json` holds.

    Raises:
        ConfigError: for a column or a published number of a metric that there is not.
        RunError: for cells that have seen different data, or whose files are damaged.
    """
    there = {name: cells_there(row, study_dir) for name, row in rows.items()}
    there = {name: cells for name, cells in there.items() if cells}
    finished = {name: [cell for cell in cells if cell.finished] for name, cells in there.items()}
    every = [cell for cells in finished.values() for cell in cells]
    found = {cell.run: result_of(cell) for cell in every}
    results = {run: result["metrics"] for run, result in found.items()}
    directions = {
        name: better for result in found.values() for name, better in result["directions"].items()
    }
    environments = [environment_of(cell) for cell in every]
    _check_metrics(study, rows, results, every)

    metrics = list(dict.fromkeys(name for values in results.values() for name in values))
    tested = [name for name in metrics if name.startswith("test/")] or metrics
    shown = [name for name in study.columns or tested if name in metrics]
    gathered = [
        {
            "name": name,
            "overrides": describe(rows[name].changes),
            "after": rows[name].after,
            "seeds": [cell.seed for cell in finished[name]],
            "runs": [cell.run for cell in finished[name]],
            "failed": [
                {"seed": cell.seed, "reason": cell.failure} for cell in cells if cell.failure
            ],
            "cells": _cells(
                study, name, [results[cell.run] for cell in finished[name]], directions
            ),
        }
        for name, cells in there.items()
    ]
    means = {name: _mean_of(members, finished, results) for name, members in study.means.items()}
    for name, by_seed in means.items():
        for column in study.published.get(name, {}):
            if by_seed and column not in metrics:
                raise unknown_name(
                    f"metric with a published number in the row {name!r},", column, metrics
                )
    gathered[:0] = [
        {
            "name": name,
            "overrides": {"the mean, seed by seed, of": list(study.means[name])},
            "after": "",
            "seeds": [*by_seed],
            "runs": [""] * len(by_seed),
            "failed": [],
            "cells": _cells(study, name, [*by_seed.values()], directions),
        }
        for name, by_seed in means.items()
        if by_seed
    ]
    members = {member for members in study.means.values() for member in members}
    compared = means | {
        name: {cell.seed: results[cell.run] for cell in cells}
        for name, cells in finished.items()
        if name not in members or name == study.baseline
    }
    machines = _distinct(map(_machine, environments))
    commits = _distinct(str(each.get("git_commit")) for each in environments)
    versions = _found(environments, "versions")
    return {
        "schema": SCHEMA,
        **{key: record[key] for key in RECORD},
        "machine": "; ".join(machines),
        "commits": commits,
        "versions": versions,
        "data": data_groups(
            (cell, made["data"]) for cell, made in zip(every, environments, strict=True)
        ),
        "columns": [*shown, *(name for name in metrics if name not in shown)],
        "shown": shown,
        "directions": directions,
        "baseline": study.baseline,
        "rows": gathered,
        "tests": {column: _tests(study, column, compared) for column in shown if len(compared) > 1},
        "notes": _notes(versions, commits, machines, _found(environments, "code")),
    }


def _check_metrics(
    study: Study,
    rows: Mapping[str, Row],
    results: Mapping[str, Mapping[str, Any]],
    cells: Sequence[Cell],
) -> None:
    """Refuses a column, or a published number, of a metric that the finished cells do not have.

    A column that is not there yet may still come with a row that is evaluated in another way.
    """
    metrics = {name for values in results.values() for name in values}
    seen = {_measured(cell.row) for cell in cells}
    if all(_measured(row) in seen for row in rows.values()):
        for column in study.columns:
            if column not in metrics:
                raise unknown_name("metric, as a column,", column, metrics)
    for cell in cells:
        for column in study.published.get(cell.row.name, {}):
            if column not in results[cell.run]:
                raise unknown_name(
                    f"metric with a published number in the row {cell.row.name!r},",
                    column,
                    results[cell.run],
                )


def _measured(row: Row) -> str:
    """What decides which metrics a row has: its evaluations and their splits."""
    experiment = row.experiment
    splits = experiment.training.final_splits or experiment.data.splits
    return str((to_json(experiment.evaluation), sorted(splits)))


def data_groups(cells: Iterable[tuple[Cell, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """The data that cells were trained on, with the rows that share it.

    Rows may differ in their data's options. What stands in files has to be the same for all, and
    what is generated (an embedded data set) for all with the same options.

    Raises:
        RunError: naming two cells and the file in which they differ.
    """
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    groups: dict[str, dict[str, Any]] = {}
    for cell, hashes in cells:
        data = cell.row.experiment.data
        options = "" if data.about.files else str(to_json(data))
        for file, found in hashes.items():
            other, first = seen.setdefault((options, file), (found, cell.run))
            if found != other:
                raise RunError(
                    f"The runs {first!r} and {cell.run!r} have seen different data ({file} differs "
                    "in its SHA-256) and cannot stand in one table: restore the data, and delete "
                    "the runs of the other, or start a new study with another --run-dir."
                )
        group = groups.setdefault(str(dict(hashes)), {"rows": [], "hashes": dict(hashes)})
        if cell.row.name not in group["rows"]:
            group["rows"].append(cell.row.name)
    return list(groups.values())


def _cells(
    study: Study,
    name: str,
    results: Sequence[Mapping[str, float | None]],
    directions: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Metric -> what its seeds gave, and how that compares with what was published."""
    cells: dict[str, dict[str, Any]] = {}
    for column in dict.fromkeys(name for metrics in results for name in metrics):
        values = [metrics.get(column) for metrics in results]
        known = [value for value in values if value is not None and math.isfinite(value)]
        cells[column] = {
            "values": values,
            "n": len(known),
            "mean": statistics.mean(known) if known else None,
            "std": statistics.stdev(known) if len(known) > 1 else None,
            "interval": confidence_interval(known),
        }
        published = study.published.get(name, {}).get(column)
        if published:
            compared = compare(known, published, directions.get(column) == "min")
            cells[column]["published"] = dataclasses.asdict(published) | dataclasses.asdict(
                compared
            )
    return cells


def _mean_of(
    members: Sequence[str],
    finished: Mapping[str, Sequence[Cell]],
    results: Mapping[str, Mapping[str, float | None]],
) -> dict[int, dict[str, float | None]]:
    """Seed -> metric -> its mean over the rows, for the seeds that all of them have finished.

    None where the metric of one of them is not finite.
    """
    runs = [{cell.seed: results[cell.run] for cell in finished.get(row, ())} for row in members]
    means: dict[int, dict[str, float | None]] = {}
    for seed in (seed for seed in runs[0] if all(seed in each for each in runs)):
        means[seed] = {}
        for metric in runs[0][seed]:
            values = [each[seed].get(metric) for each in runs]
            known = [value for value in values if value is not None and math.isfinite(value)]
            means[seed][metric] = statistics.mean(known) if len(known) == len(values) else None
    return means


def _tests(
    study: Study,
    column: str,
    compared: Mapping[str, Mapping[int, Mapping[str, float | None]]],
) -> list[dict[str, Any]]:
    """The paired tests of one column; `compared` is row -> seed -> metrics."""
    values = {
        name: {
            seed: value
            for seed, metrics in seeds.items()
            if (value := metrics.get(column)) is not None and math.isfinite(value)
        }
        for name, seeds in compared.items()
    }
    known = {name: seeds for name, seeds in values.items() if seeds}
    tests = paired_tests(known, study.baseline) if study.baseline in ("", *known) else []
    return [dataclasses.asdict(test) for test in tests]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _found(environments: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[str]]:
    """Name -> the different values that an entry of the environments has for it."""
    found: dict[str, list[str]] = {}
    for environment in environments:
        for name, value in environment.get(key, {}).items():
            found[name] = _distinct([*found.get(name, ()), value])
    return found


def _machine(environment: Mapping[str, Any]) -> str:
    devices = [str(name) for name in environment.get("devices", [])]
    kinds = ", ".join(f"{devices.count(kind)} × {kind}" for kind in _distinct(devices))
    only = "no accelerator" if all(name.endswith("(cpu)") for name in devices) else kinds
    cores = environment.get("cores")
    return f"{cores} cores of {environment.get('processor', 'an unknown processor')}, {only}"


def _notes(
    versions: Mapping[str, Sequence[str]],
    commits: Sequence[str],
    machines: Sequence[str],
    code: Mapping[str, Sequence[str]],
) -> list[str]:
    """What a reader has to know of how the cells were made."""
    notes = [
        f"The cells were made with several versions of {library}: {', '.join(found)}."
        for library, found in versions.items()
        if len(found) > 1
    ]
    notes += [
        f"The file {name} was changed while the study ran; each run keeps its own in code/."
        for name, found in code.items()
        if len(found) > 1
    ]
    if len(commits) > 1:
        notes.append(f"The cells were made at several commits: {', '.join(commits)}.")
    if any(commit.endswith("-dirty") for commit in commits):
        notes.append("Some cells were made with changes that were not committed.")
    if len(machines) > 1:
        notes.append(f"The cells were made on several machines: {'; '.join(machines)}.")
    return notes
