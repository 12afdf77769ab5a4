"""The ledger: results of studies kept under version control, and the page that is made of them.

`experiments/results/<name>.json` is a copy of the `results.json` of a study, and
`experiments/RESULTS.md` is made of these files alone, so that it can be checked against them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from mmjax.errors import RunError
from mmjax.studies.files import check_shape, damaged, read_json, write_text
from mmjax.studies.study import CERTAINTIES
from mmjax.studies.tables import escape, markdown

SCHEMA = 3
PAGE = "RESULTS.md"
FIX = "run the study again: `mmjax ablate`"

# The shape of a results file; see `shape_error`.
_NUMBER, _MAYBE = (int, float), (int, float, NoneType)
_INTERVAL = ([_NUMBER], NoneType)
_CELL = {
    "values": [_MAYBE],
    "n": int,
    "interval": _INTERVAL,
    "published?": {"value": _NUMBER, "std": _MAYBE, "difference": _MAYBE, "runs": int}
    | dict.fromkeys(("source", "certainty", "verdict", "reason"), str),
} | dict.fromkeys(("mean", "std"), _MAYBE)
_ROW = {
    "name": str,
    "overrides": {str: object},
    "after": str,
    "seeds": [int],
    "runs": [str],
    "failed": [{"seed": int, "reason": str}],
    "cells": {str: _CELL},
}
_TEST = {"a": str, "b": str, "n": int, "interval": _INTERVAL} | dict.fromkeys(
    ("difference", "p", "p_corrected"), _MAYBE
)
_RESULTS = {
    **dict.fromkeys(("name", "title", "command", "date", "machine", "baseline"), str),
    **{key: [str] for key in ("commits", "columns", "shown", "notes")},
    "versions": {str: [str]},
    "directions": {str: str},
    "data": [{"rows": [str], "hashes": {str: str}}],
    "rows": [_ROW],
    "tests": {str: [_TEST]},
}


def read_results(path: Path) -> dict[str, Any]:
    """The results of a study, checked, so that tables can be made of them.

    Args:
        path: a `results.json`, or a copy of one.

    Raises:
        RunError: where it is missing, damaged, or of another version of mmjax.
    """
    results = read_json(path, {"schema?": object}, FIX)
    if results.get("schema", 1) != SCHEMA:
        raise RunError(
            f"{path} has the schema {results.get('schema', 1)!r}, not {SCHEMA}, and is of another "
            f"version of mmjax: {FIX}."
        )
    check_shape(path, results, _RESULTS, FIX)
    if wrong := _contradiction(results):
        raise damaged(path, wrong, FIX)
    return results


def _contradiction(results: Mapping[str, Any]) -> str:
    """What is inconsistent in results of the right shape; empty where nothing is."""
    unknown = {*results["shown"], *results["tests"]} - {*results["columns"]}
    if unknown:
        return f"{min(unknown)!r} is not among its columns"
    for row in results["rows"]:
        if len(row["runs"]) != len(row["seeds"]):
            return f"the row {row['name']!r} does not have one run for each seed"
        for column, cell in row["cells"].items():
            place = f"{column!r} of the row {row['name']!r}"
            if len(cell["values"]) != len(row["seeds"]):
                return f"{place} does not have one value for each seed"
            if cell["interval"] is not None and len(cell["interval"]) != 2:
                return f"the interval of {place} does not have two ends"
            if cell.get("published", {}).get("certainty", "paper") not in CERTAINTIES:
                return f"{place} has a published number of unknown certainty"
    for test in (test for tests in results["tests"].values() for test in tests):
        known = [test[key] is not None for key in ("p", "p_corrected", "interval")]
        complete = all(known) and test["difference"] is not None and len(test["interval"]) == 2
        if any(known) and not complete:
            return f"the test of {test['a']!r} and {test['b']!r} lacks some of its numbers"
    return ""


def add(folder: Path, study_dir: Path) -> Path:
    """Copies the results of a study into the ledger's folder, in place of an earlier copy.

    Args:
        folder: the folder of the ledger, `experiments`.
        study_dir: a folder with `results.json`.

    Returns:
        The path of the copy, `folder/results/<name of the study>.json`.

    Raises:
        RunError: where the results are missing, damaged or of another version, where no cell is
            finished, where the study's name cannot name a file, or the copy cannot be written.
    """
    path = study_dir / "results.json"
    results = read_results(path)
    name = results["name"]
    if not re.fullmatch(r"\w[\w .,+=()-]*", name):
        raise RunError(
            f"The study of {path} is called {name!r}, which cannot name a file: call it with "
            f"letters, digits and dashes, and {FIX}."
        )
    if not any(row["cells"] for row in results["rows"]):
        raise RunError(f"{path} has no finished cell: finish one by `mmjax ablate` first.")
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    return write_text(folder / "results" / f"{name}.json", text)


def write_ledger(folder: Path) -> Path:
    """Writes `folder/RESULTS.md`; `ledger` says what of."""
    return write_text(folder / PAGE, ledger(folder))


def ledger(folder: Path) -> str:
    """The text of `RESULTS.md`: every study in `folder/results`, by the names of the files.

    Raises:
        RunError: where there is no study, or a file is damaged or of another version.
    """
    paths = sorted((folder / "results").glob("*.json"), key=lambda path: path.stem)
    if not paths:
        raise RunError(
            f"{folder / 'results'} holds no results: name the folder of the ledger, or add a study "
            "to it."
        )
    studies = [(_anchor(path.stem), read_results(path)) for path in paths]
    contents = [
        f"- [{escape(study['title'] or study['name'])}](#{anchor}), {study['date']}"
        for anchor, study in studies
    ]
    made = (
        "Made by `mmjax ledger experiments` of the files in `results`, which `mmjax ablate` wrote; "
        "do not edit it by hand."
    )
    parts = ["# Results", made, "\n".join(contents)]
    for anchor, study in studies:
        parts += [f'<a id="{anchor}"></a>', markdown(study, level=2).rstrip("\n"), _facts(study)]
    return "\n\n".join(parts) + "\n"


def _facts(study: Mapping[str, Any]) -> str:
    """Where the numbers of a study come from, and its notes."""
    jax = ", ".join(study["versions"].get("jax", ())) or "unknown"
    commits = ", ".join(map(_code, study["commits"])) or "unknown"
    command = f" by {_code(study['command'])}" if study["command"] else ""
    facts = [
        f"- Made{command} on {study['date']}",
        f"- Machine: {escape(study['machine'])}",
        f"- Commit{'s' * (len(study['commits']) > 1)}: {commits}; jax {escape(jax)}",
        *(f"- Note: {escape(note)}" for note in study["notes"]),
    ]
    details = [
        f"- {escape(name)} {escape(', '.join(found))}" for name, found in study["versions"].items()
    ]
    for data in study["data"]:
        of_rows = "" if len(study["data"]) == 1 else f" (of {escape('; '.join(data['rows']))})"
        for name, digest in data["hashes"].items():
            details.append(f"- {escape(name)}{of_rows}: {_code(digest[:12])}")
    hidden = "<details><summary>Versions and data (SHA-256)</summary>\n\n{}\n\n</details>"
    text = "### Provenance\n\n" + "\n".join(facts)
    return text + ("\n\n" + hidden.format("\n".join(details)) if details else "")


def _anchor(name: str) -> str:
    return re.sub(r"[^\w.-]", "-", name)


def _code(text: str) -> str:
    """A text as code in a line of Markdown, whatever backticks it holds."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    room = " " if "`" in text else ""
    return f"{fence}{room}{text}{room}{fence}"
