"""The tables of a study's report: every cell as text, the sources, and the tests between rows.

The values come from `results.json`; nothing is estimated here. What is written beside a number says
only what was tested: a best mean is the best mean, and no more.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mmjax.studies.reports.drawing import number
from mmjax.studies.study import CERTAINTIES
from mmjax.studies.tables import decimals, fixed, published_number, significant, sources_of

VERDICTS = {  # -> CSS class, sign
    "better": ("good", "✓"),
    "within the interval": ("even", "≈"),
    "worse": ("bad", "✗"),
    "no verdict": ("none", "?"),
}


# Direction of a metric -> what its column says.
_BETTER = {"max": "higher", "min": "lower", "none": ""}


def row_heads(study: Mapping[str, Any], readable: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Name, seeds and failures of every row.

    Args:
        study: what `results.json` holds.
        readable: of every row, the runs that have a report.
    """
    return [
        {
            "name": row["name"],
            "after": row["after"],
            "seeds": [
                (seed, f"./{quote(run)}/report.html" if run in there else "")
                for seed, run in zip(row["seeds"], row["runs"], strict=True)
            ],
            "failed": [(each["seed"], each["reason"]) for each in row["failed"]],
        }
        for row, there in zip(study["rows"], readable, strict=True)
    ]


def result_columns(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shown columns: their cells in the order of the rows, as text beside what they sort by."""
    numbers = {key: index for index, key in enumerate(sources_of(study), start=1)}
    several = any(len(row["seeds"]) > 1 for row in study["rows"])
    columns = []
    for name in study["shown"]:
        column = _column(study, name)
        tests = _by_pair(study, name)
        best = _best(column)
        for row, cell in zip(study["rows"], column["cells"], strict=True):
            if cell is None:
                continue
            cell["best"] = row["name"] in best
            for winner in best if row["name"] not in best else []:
                test = tests.get((row["name"], winner))
                if test is None or test["p_corrected"] is None:
                    only = f"both were compared with {study['baseline']} only"
                    why = _why_not(test) if test else only
                    cell["untested"] = several and f"Not tested against {winner}: {why}."
                elif not significant(test):
                    cell["even"] = (
                        f"Not significantly different from {winner}: "
                        f"{_p_is(test['p_corrected'])} after Holm's correction."
                    )
            published = row["cells"][name].get("published")
            cell["published"] = published and _published(published, column["decimals"], numbers)
        columns.append(
            column | {"published": any(cell and cell["published"] for cell in column["cells"])}
        )
    return columns


def other_columns(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics that the study does not show among its results."""
    return [_column(study, name) for name in study["columns"] if name not in study["shown"]]


def _column(study: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A metric's cells; None for one without a finite value."""
    cells = [row["cells"].get(name) for row in study["rows"]]
    places = decimals([cell for cell in cells if cell])
    return {
        "name": name,
        "decimals": places,
        "better": _BETTER[study["directions"].get(name, "max")],
        "cells": [
            None if cell is None or cell["mean"] is None else _cell(row, cell, places)
            for row, cell in zip(study["rows"], cells, strict=True)
        ],
    }


def _cell(row: Mapping[str, Any], cell: Mapping[str, Any], places: int) -> dict[str, Any]:
    interval = cell["interval"]
    return {
        "row": row["name"],
        "best": False,
        "even": "",
        "untested": "",
        "published": None,
        "value": cell["mean"],
        "n": cell["n"],
        "mean": _fixed(cell["mean"], places),
        "std": "" if cell["std"] is None else _fixed(cell["std"], places),
        "interval": interval and f"{_fixed(interval[0], places)} to {_fixed(interval[1], places)}",
        "seeds": [
            "not finite" if value is None else number(float(value), max(4, places + 1))
            for value in cell["values"]
        ],
    }


def _best(column: Mapping[str, Any]) -> list[str]:
    """The rows with the best mean of a column; none where there is nothing to choose from."""
    cells = [cell for cell in column["cells"] if cell]
    if len(cells) < 2 or not column["better"]:
        return []
    best = (min if column["better"] == "lower" else max)(cell["value"] for cell in cells)
    return [cell["row"] for cell in cells if cell["value"] == best]


def _published(
    published: Mapping[str, Any], places: int, numbers: Mapping[tuple[str, str], int]
) -> dict[str, Any]:
    difference, verdict = published["difference"], published["verdict"]
    style, sign = VERDICTS.get(verdict, VERDICTS["no verdict"])
    return {
        "value": _plain(published),
        "certainty": CERTAINTIES[published["certainty"]],
        "source": published["source"],
        "number": numbers[published["source"], published["certainty"]],
        "sort": difference,
        "difference": "" if difference is None else _fixed(difference, places, sign=True),
        "verdict": verdict,
        "style": style,
        "sign": sign,
        "reason": published["reason"],
    }


def cited_sources(study: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(source, its certainty, its numbers with their verdicts), in the order of the table."""
    return [
        (
            source,
            CERTAINTIES[certainty],
            [
                {"row": row, "column": column, "value": _plain(published)}
                | {key: published[key] for key in ("verdict", "reason")}
                for row, column, published in numbers
            ],
        )
        for (source, certainty), numbers in sources_of(study).items()
    ]


def test_tables(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The paired tests of every shown column that has any: a matrix, or a list with a baseline."""
    tables = []
    for name in study["shown"]:
        tests = study["tests"].get(name) or []
        if all(test["n"] < 2 for test in tests):
            continue  # no pair shares two seeds: the rows themselves are marked
        column = _column(study, name)
        pairs = _by_pair(study, name)
        named = {test[side] for test in tests for side in ("a", "b")}
        # Numbered as in the table, so that the columns of a matrix stay narrow.
        rows = [(i, row["name"]) for i, row in enumerate(study["rows"], 1) if row["name"] in named]
        baseline = study["baseline"]
        against = [(i, row) for i, row in rows if not baseline or row == baseline]
        tables.append(
            {
                "name": name,
                "baseline": baseline,
                "rows": [(i, row) for i, row in rows if row != baseline],
                "against": against,
                "cells": [
                    [_tested(pairs.get((row, other)), column) for _, other in against]
                    for _, row in rows
                    if row != baseline
                ],
                "count": sum(test["p"] is not None for test in tests),
                "untested": [_untested(test) for test in tests if test["p"] is None],
            }
        )
    return tables


def _by_pair(study: Mapping[str, Any], name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(row, other row) -> the test of row minus other row, both ways around."""
    pairs = {}
    for test in study["tests"].get(name) or []:
        pairs[test["a"], test["b"]] = test
        turned = {
            "a": test["b"],
            "b": test["a"],
            "difference": None if test["difference"] is None else -test["difference"],
            "interval": test["interval"] and [-end for end in reversed(test["interval"])],
        }
        pairs[test["b"], test["a"]] = test | turned
    return pairs


def _tested(test: Mapping[str, Any] | None, column: Mapping[str, Any]) -> dict[str, Any] | None:
    """One comparison as text; None where the two were not compared."""
    if test is None:
        return None
    places, difference = column["decimals"], test["difference"]
    shown = "–" if difference is None else _fixed(difference, places, sign=True)
    lines = [f"{test['a']} minus {test['b']}: {shown}"]
    if test["interval"]:
        low, high = (_fixed(end, places, sign=True) for end in test["interval"])
        lines.append(f"95 % interval {low} to {high}")
    if test["p"] is None:
        lines.append(f"not tested: {_why_not(test)}")
    else:
        before, after = _p_is(test["p"]), _p_is(test["p_corrected"])
        lines.append(f"{after} after Holm's correction, {before} before it")
    lines.append(f"{test['n']} shared seed{'' if test['n'] == 1 else 's'}")
    style = ""
    if significant(test):
        better = (difference < 0) == (column["better"] == "lower")
        style = ("good" if better else "bad") if column["better"] else "even"
    return {
        "sort": difference,
        "difference": shown,
        "p": "" if test["p"] is None else _p_value(test["p_corrected"]),
        "p_sort": test["p_corrected"],
        "significant": significant(test),
        "style": style,
        "hover": "\n".join(lines),
    }


def _untested(test: Mapping[str, Any]) -> str:
    return f"{test['a']} and {test['b']} ({_why_not(test)})"


def _why_not(test: Mapping[str, Any]) -> str:
    return "fewer than two shared seeds" if test["n"] < 2 else "the differences do not vary"


def _p_is(p: float) -> str:
    shown = _p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _plain(published: Mapping[str, Any]) -> str:
    """A published number as it was given, with its spread and its number of runs."""
    runs = published["runs"]
    text = published_number(published) + (f" ({runs} run{'s' * (runs != 1)})" if runs else "")
    return text.replace("-", "−")


def _fixed(value: float, places: int, sign: bool = False) -> str:
    return fixed(value, places, sign).replace("-", "−")


def _p_value(p: float) -> str:
    """A p-value with two digits; small ones as a bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.995 else "1"
