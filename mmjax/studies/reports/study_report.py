"""The report of a study: results beside published numbers, tests, curves, and links to its runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.errors import RunError
from mmjax.studies.ledger import read_results
from mmjax.studies.reports.run_files import RunFiles, read_run
from mmjax.studies.reports.run_report import leaf, write_page, write_report_of
from mmjax.studies.reports.study_curves import study_curves, study_dots
from mmjax.studies.reports.study_tables import (
    cited_sources,
    other_columns,
    result_columns,
    row_heads,
    test_tables,
)
from mmjax.studies.tables import failures

WIDEST = 6  # columns of one table, so that it fits on paper; a published number takes one more
MOST_COLUMNS = 4  # of the table of all metrics


def write_study_report(folder: Path) -> Path:
    """Writes `report.html` for a study, and one for each of its runs, to which it links.

    Args:
        folder: a folder with `results.json` and the run directories that it names.

    Returns:
        The path of the report.

    Raises:
        RunError: if `results.json` is missing, damaged or not a study's of this version, or the
            report cannot be written. A run directory that cannot be read is named in the report
            instead.
    """
    study = read_results(folder / "results.json")
    notes = [str(note) for note in study["notes"]]
    runs = [_readable_runs(row, folder, notes) for row in study["rows"]]
    for row, of_row in zip(study["rows"], runs, strict=True):
        for run in of_row.values():
            write_report_of(run, row["name"], "../../report.html")
    columns, others = result_columns(study), other_columns(study)
    curves, folded_curves = study_curves(study, runs)
    page = {
        "name": study["name"] or folder.name,
        "title": study["title"],
        "notes": notes,
        "failures": failures(study),
        "facts": _facts(study),
        "rows": row_heads(study, runs),
        "tables": _side_by_side(columns),
        "others": [others[i : i + MOST_COLUMNS] for i in range(0, len(others), MOST_COLUMNS)],
        "most_seeds": max((len(row["seeds"]) for row in study["rows"]), default=0),
        "sources": cited_sources(study),
        "tests": test_tables(study),
        "dots": study_dots(study),
        "curves": curves or folded_curves,
        "folded_curves": folded_curves if curves else [],
        "differences": _differences(study["rows"]),
        "config": _first_config(study["rows"], runs),
        "command": study["command"],
        "record": [
            ("machine", study["machine"]),
            ("date", study["date"]),
            ("commit" if len(study["commits"]) == 1 else "commits", ", ".join(study["commits"])),
        ],
        "versions": [(library, ", ".join(found)) for library, found in study["versions"].items()],
        "data": study["data"],
    }
    return write_page(folder / "report.html", "study.html", page)


def _readable_runs(row: Mapping[str, Any], folder: Path, notes: list[str]) -> dict[str, RunFiles]:
    """The runs of a study's row by their names; one that cannot be read gives a note."""
    runs = {}
    for name in filter(None, row["runs"]):  # a mean has no run of its own
        try:
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise RunError(f"{name} lies outside the study's folder.")
            runs[name] = read_run(folder / name)
        except RunError as error:
            notes.append(f"The curves leave out a run: {str(error).replace(f'{folder}/', '')}")
            continue
        notes.extend(f"{name}: {note}" for note in runs[name].notes)
    return runs


def _first_config(
    rows: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, RunFiles]]
) -> tuple[str, Mapping[str, Any]] | None:
    """(name of the first row that has a readable run, that run's configuration)."""
    for row, of_row in zip(rows, runs, strict=True):
        for run in of_row.values():
            return row["name"], run.config
    return None


def _facts(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line of facts under the name."""
    rows = study["rows"]
    finished, failed = (
        sum(bool(run) for row in rows for run in row[key]) for key in ("runs", "failed")
    )
    facts = [("rows", str(len(rows))), ("finished runs", str(finished))]
    if failed:
        facts.append(("failed runs", str(failed)))
    if study["baseline"]:
        facts.append(("baseline", study["baseline"]))
    return [*facts, *((key, study[key]) for key in ("machine", "date") if study[key])]


def _side_by_side(columns: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The columns in tables that are not too wide."""
    tables: list[list[dict[str, Any]]] = []
    room = 0
    for column in columns:
        width = 2 if column["published"] else 1
        if width > room:
            tables.append([])
            room = WIDEST
        tables[-1].append(column)
        room -= width
    return tables


def _differences(
    rows: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(row, the row that it starts from, its overrides without those that every row has).

    Empty where no row differs.
    """
    overrides = [{path: leaf(value) for path, value in row["overrides"].items()} for row in rows]
    shared = set.intersection(*(set(one.items()) for one in overrides)) if overrides else set()
    table = [
        (row["name"], row["after"], [item for item in one.items() if item not in shared])
        for row, one in zip(rows, overrides, strict=True)
    ]
    return table if any(after or changes for _, after, changes in table) else []
