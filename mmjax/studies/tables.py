"""The tables of a study, from its results: Markdown, CSV, and what the terminal shows.

Each is a function of the results alone: the same results give the same bytes.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmjax.errors import unknown_name
from mmjax.studies.study import CERTAINTIES

Cell = Mapping[str, Any]

LEVEL = 0.05  # of the paired tests
NOTHING = "-"
PUBLISHED_FIELDS = ("value", "source", "certainty", "difference", "verdict")
CSV_FIELDS = (
    *("row", "column", "n", "mean", "std", "low", "high"),
    *("published", *PUBLISHED_FIELDS[1:], "values"),
)


def decimals(cells: Iterable[Cell | None]) -> int:
    """Decimals of a column: two digits of its typical standard deviation, at most five.

    Args:
        cells: each with `mean` and `std`, either of which may be None or NaN; or None.
    """
    known = [(_float(cell["mean"]), _float(cell["std"])) for cell in cells if cell]
    known = [(mean, std) for mean, std in known if math.isfinite(mean)]
    spread = sorted(std for mean, std in known if 1e-9 * abs(mean) < std < math.inf)
    if spread:  # else the seeds agree in every row
        return min(5, max(0, 1 - math.floor(math.log10(spread[len(spread) // 2]))))
    largest = max((abs(mean) for mean, _ in known), default=0.0) or 1.0
    return min(4, max(0, 3 - math.floor(math.log10(largest))))


def markdown(results: Mapping[str, Any], level: int = 1) -> str:
    """A study as GitHub-flavoured Markdown.

    Its title, the table of the shown columns, what the signs mean, the cells that failed, where the
    published numbers stand, and which rows differ.

    Args:
        results: what `results.json` holds.
        level: of the title's heading.
    """
    columns, rows = results["shown"], results["rows"]
    parts = [f"{'#' * level} {escape(results['title'] or results['name'])}"]
    head, right = ["row"], [False]
    body: list[list[str]] = [[escape(row["name"])] for row in rows]
    for column in columns:
        of_column = [row["cells"].get(column) for row in rows]
        places = decimals(of_column)
        any_published = any(cell and "published" in cell for cell in of_column)
        head += [escape(column)] + ["published", "difference", "verdict"] * any_published
        right += [True] + [True, True, False] * any_published
        for line, cell in zip(body, of_column, strict=True):
            line.append(" ".join(filter(None, (_mean(cell, places), _interval(cell, places)))))
            if any_published:
                line += _published(cell, places)
    for line, row in zip(body, rows, strict=True):
        line.append(str(len(row["seeds"])))
    parts.append(_table([*head, "seeds"], [*right, True], body))
    parts.append(_explanation(results))
    failed = [
        f"- Failed: {escape(f'{row}, seed {seed}: {reason}')}"
        for row, seed, reason in failures(results)
    ]
    several = len(results["shown"]) > 1
    sources = [
        f"- {escape(source)}, {CERTAINTIES[certainty]}: "
        + escape("; ".join(f"{row} ({column})" if several else row for row, column, _ in cells))
        for (source, certainty), cells in sources_of(results).items()
    ]
    parts += ["\n".join(failed)] if failed else []
    parts += ["Published numbers:", "\n".join(sources)] if sources else []
    parts += _differences(results, level + 1)
    return "\n\n".join(parts) + "\n"


def _explanation(results: Mapping[str, Any]) -> str:
    sentences = [
        "Mean over the seeds ± their standard deviation, and in brackets Student's 95 % interval "
        "of the mean."
    ]
    if sources_of(results):
        sentences.append(
            "The difference is ours minus published; the verdict says whether it is beyond what "
            "the spread over seeds explains at 5 %, `within the interval` that it is not."
        )
    lower = [column for column in results["shown"] if results["directions"].get(column) == "min"]
    if lower:
        sentences.append(f"Lower is better in {escape(', '.join(lower))}.")
    return " ".join(sentences)


def sources_of(
    results: Mapping[str, Any],
) -> dict[tuple[str, str], list[tuple[str, str, dict[str, Any]]]]:
    """(source, certainty) -> (row, column, published number), in the order of the table."""
    sources: dict[tuple[str, str], list[tuple[str, str, dict[str, Any]]]] = {}
    for row in results["rows"]:
        for column in results["shown"]:
            if published := row["cells"].get(column, {}).get("published"):
                key = published["source"], published["certainty"]
                sources.setdefault(key, []).append((row["name"], column, published))
    return sources


def failures(results: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """(row, seed, reason) of every failed run."""
    return [
        (row["name"], failed["seed"], failed["reason"])
        for row in results["rows"]
        for failed in row["failed"]
    ]


def significant(test: Mapping[str, Any]) -> bool:
    """Whether a paired test is significant after Holm's correction."""
    return test["p_corrected"] is not None and test["p_corrected"] < LEVEL


def _differences(results: Mapping[str, Any], level: int) -> list[str]:
    """The paired tests: those that are significant after correction, or that none is."""
    tests = [(name, test) for name in results["shown"] for test in results["tests"].get(name, ())]
    if not tests:
        return []
    heading = f"{'#' * level} Rows that differ"
    tested = [(column, test) for column, test in tests if test["p"] is not None]
    if not tested:
        why = "No two rows share two seeds in which their difference varies"
        return [heading, f"{why}, so no paired t-test was made."]
    body = []
    for column, test in tested:
        if significant(test):
            places = decimals(row["cells"].get(column) for row in results["rows"])
            difference = f"{fixed(test['difference'], places, sign=True)} {_interval(test, places)}"
            ps = (f"{test['p']:.2g}", f"{test['p_corrected']:.2g}")
            names = (escape(name) for name in (column, test["a"], test["b"]))
            body.append([*names, difference, *ps, str(test["n"])])
    summary = (
        "Significant at 5 % after Holm's correction within each column: "
        f"{len(body) or 'none'} of {len(tested)} paired t-test{'s' * (len(tested) != 1)} over "
        "shared seeds. The tests speak of the noise of training, not of other data."
    )
    head = ["column", "a", "b", "a minus b", "p", "p, corrected", "seeds"]
    table = _table(head, [False] * 3 + [True] * 4, body)
    return [heading, summary, table] if body else [heading, summary]


def csv_table(results: Mapping[str, Any]) -> str:
    """A study as CSV: a line for each row and column, all columns and not only the shown.

    Numbers are exact; `values` is a JSON object from seed to value. A text that a spreadsheet would
    take for a formula begins with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for row in results["rows"]:
        for column in results["columns"]:
            cell = row["cells"].get(column)
            if cell is None:
                cell = {"values": [None] * len(row["seeds"]), "n": 0, "mean": None}
            published = cell.get("published", {})
            values = {str(s): v for s, v in zip(row["seeds"], cell["values"], strict=True)}
            line = [row["name"], column, *(cell.get(key) for key in ("n", "mean", "std"))]
            line += cell.get("interval") or [None, None]
            line += [published.get(key) for key in PUBLISHED_FIELDS]
            writer.writerow([*map(_field, line), json.dumps(values)])
    return text.getvalue()


def _field(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if re.match(r"\s*[=+\-@]|[\t\r]", value) else value
    return "" if value is None else repr(value)


def print_table(results: Mapping[str, Any], columns: Sequence[str] = ()) -> None:
    """Prints the table: mean ± standard deviation over the seeds, and the published numbers.

    Where the terminal is too narrow for it, each row of the study has a line for every metric.

    Args:
        results: what `results.json` holds.
        columns: the metrics to print; none prints the shown ones.

    Raises:
        ConfigError: for a metric that no cell has.
    """
    chosen = list(columns) or results["shown"]
    for name in chosen:
        if name not in results["columns"]:
            raise unknown_name("metric", name, results["columns"])
    table = Table(title=Text(results["title"] or results["name"]), title_justify="left")
    table.add_column("")
    places = {}
    for name in chosen:
        places[name] = decimals(row["cells"].get(name) for row in results["rows"])
        table.add_column(Text(name), justify="right")
    table.add_column("seeds", justify="right")
    for row in results["rows"]:
        cells = [Text(_printed(row["cells"].get(name), places[name])) for name in chosen]
        table.add_row(Text(row["name"]), *cells, str(len(row["seeds"])))
    console = Console(width=None if Console().is_terminal else 120)
    longest = max((word for name in chosen for word in name.split()), key=len, default="")
    if len(chosen) > 1 and (len(longest) + 3) * len(chosen) > console.width:
        console.print(table.title)
        for row in results["rows"]:
            lines = {name: _printed(row["cells"].get(name), places[name]) for name in chosen}
            console.print(Text(f"{row['name']}, seeds: {len(row['seeds'])}", style="bold"))
            for name, value in lines.items():
                console.print(Text(f"  {name:{len(longest)}}  {value}"))
    else:
        console.print(table)
    for name, seed, reason in failures(results):
        console.print(Text(f"Failed: {name}, seed {seed}: {reason}", style="red"), soft_wrap=True)


def _printed(cell: Cell | None, places: int) -> str:
    published = cell.get("published") if cell else None
    if not published:
        return _mean(cell, places)
    sure = "" if published["certainty"] == "paper" else f", {published['certainty']}"
    beside = f"(published {published_number(published)}{sure}: {published['verdict']})"
    return f"{_mean(cell, places)} {beside}"


def _mean(cell: Cell | None, places: int) -> str:
    """Mean ± standard deviation, and how many of the values are finite where not all are."""
    if cell is None:
        return NOTHING
    if cell["mean"] is None:
        return "not finite"
    spread = "" if cell["std"] is None else f" ± {fixed(cell['std'], places)}"
    count = len(cell["values"])
    finite = "" if cell["n"] == count else f" ({cell['n']} of {count} finite)"
    return f"{fixed(cell['mean'], places)}{spread}{finite}"


def _interval(cell: Cell | None, places: int) -> str:
    if cell is None or cell["interval"] is None:
        return ""
    low, high = (fixed(end, places) for end in cell["interval"])
    return f"[{low}, {high}]"


def _published(cell: Cell | None, places: int) -> list[str]:
    """Published value, signed difference, verdict."""
    if cell is None or "published" not in cell:
        return [NOTHING] * 3
    published = cell["published"]
    difference = published["difference"]
    return [
        f"{published_number(published)} ({published['certainty']})",
        NOTHING if difference is None else fixed(difference, places, sign=True),
        published["verdict"],
    ]


def published_number(published: Mapping[str, Any]) -> str:
    """A published number as it was given, with its standard deviation."""
    spread = "" if published["std"] is None else f" ± {published['std']!r}"
    return f"{published['value']!r}{spread}"


def fixed(value: float, places: int, sign: bool = False) -> str:
    """A number with fixed decimals, or with an exponent where these would leave nothing of it."""
    if not math.isfinite(value):
        return "not finite"
    value = value or 0.0  # not -0.0
    far = 0 < abs(value) < 0.5 * 10.0**-places or abs(value) >= 1e12
    return f"{value:{'+' if sign and value else ''}{'.1e' if far else f',.{places}f'}}"


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _table(head: Sequence[str], right: Sequence[bool], body: Iterable[Sequence[str]]) -> str:
    rules = ["---:" if one else "---" for one in right]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *body))


def escape(text: str) -> str:
    """A text that Markdown shows as it is, in one line, in a table too."""
    return re.sub(r"[\\|*`<\[\]]|\b_|_\b|&(?=#?\w+;)", r"\\\g<0>", " ".join(text.split()))
