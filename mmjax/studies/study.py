"""A study as values: named rows that change an experiment, and the published numbers beside them.

    study = Study(
        rows=axis("model.fusion", {"concat": Concat(), "mean": Mean(width=64)}),
        columns=("test/accuracy",),
        published={"concat": {"test/accuracy": Published(0.91, "Doe et al. 2020, Table 2")}},
    )

A row is a mapping {dotted path of the experiment: new value}. A `Stage` is one that starts from the
parameters that another row has trained. `axis`, `product` and `zipped` make many rows at once.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mmjax.errors import ConfigError, article, unknown_name
from mmjax.training.overrides import is_within

Changes = Mapping[str, Any]  # dotted path -> value
Certainty = Literal["paper", "secondary", "rerun", "unverified"]

CERTAINTIES: Mapping[str, str] = {
    "paper": "read in the paper",
    "secondary": "from another paper's table",
    "rerun": "a re-run by another code base",
    "unverified": "unverified",
}

# The files in the directory of a study, beside the folders of its rows.
FILES_OF_A_STUDY = (
    *("lock", "compile_cache", "study.json", "results.json"),
    *("table.md", "table.csv", "report.html"),
)
LONGEST_NAME = 255  # bytes of a file's name, on every usual file system


@dataclasses.dataclass(frozen=True)
class Published:
    """A number that somebody published.

    Attributes:
        value: in the unit of our metric.
        source: where it stands: authors, year, table.
        certainty: `paper`: read in the paper's own text; `secondary`: in the table of another
            paper; `rerun`: of a re-run by another code base; `unverified`: recalled, not seen.
        std: its standard deviation over runs, where published.
        runs: over how many runs, where published; 0 where not.
    """

    value: float
    source: str
    certainty: Certainty = "unverified"
    std: float | None = None
    runs: int = 0

    def __post_init__(self) -> None:
        if self.certainty not in CERTAINTIES:
            raise unknown_name("certainty of a published number", self.certainty, CERTAINTIES)
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise ConfigError(f"A published value is {self.value!r}: it must be a number.")
        if not math.isfinite(self.value) or not self.source.strip():
            raise ConfigError(
                f"The published value {self.value} needs to be finite and to have a source: name "
                "authors, year and table."
            )
        if (self.std is not None and not 0 <= self.std < math.inf) or self.runs < 0:
            raise ConfigError(
                f"The published value {self.value} has the standard deviation {self.std} over "
                f"{self.runs} runs: neither can be negative."
            )


@dataclasses.dataclass(frozen=True)
class Stage:
    """A row that starts from the parameters that another row has trained, seed by seed.

    Attributes:
        after: name of that row.
        changes: dotted path -> value, as of any row.
        parts: dotted names of the parameters to take, such as `encoders`; none takes all.
    """

    after: str
    changes: Changes = dataclasses.field(default_factory=dict)
    parts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """Rows of an experiment, the metrics that make the columns, and what was published.

    Attributes:
        rows: name -> what it changes; without rows there is one, the experiment itself.
        columns: the metrics to show, such as `test/accuracy`; none shows all of `test`.
        published: row -> metric -> the published number.
        baseline: the row with which all others are compared; empty compares all pairs of rows.
        seeds: runs a row; `--seeds` of the command line counts more.
        once: rows that no seed changes, such as those without training: only the first seed of
            each is run, so that its numbers have no spread and no paired test.
        means: name -> rows, such as the folds of a cross-validation: the tables begin with the mean
            over these rows, seed by seed, and the paired tests compare it in their place. It can
            have published numbers, and be the baseline.
    """

    rows: Mapping[str, Changes | Stage] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, Published]] = dataclasses.field(default_factory=dict)
    baseline: str = ""
    seeds: int = 3
    once: tuple[str, ...] = ()
    means: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Mapping):
            raise ConfigError(
                f"The rows of the study are {article(type(self.rows).__name__)}: make them a "
                "mapping from names to {dotted path: value}."
            )
        for name, row in self.rows.items():
            check_row_name(name)
            if not isinstance(row, Mapping | Stage):
                raise ConfigError(
                    f"The row {name!r} is {row!r}: make it a mapping {{dotted path: value}} or a "
                    "Stage."
                )
            for path in row.changes if isinstance(row, Stage) else row:
                if not isinstance(path, str):
                    raise ConfigError(
                        f"The row {name!r} changes {path!r}: name what it changes by a dotted "
                        "path, such as 'training.steps'."
                    )
            if isinstance(row, Stage) and (row.after not in self.rows or row.after == name):
                others = [other for other in self.rows if other != name]
                raise unknown_name(f"row for {name!r} to start from, called", row.after, others)
        if any(isinstance(names, str) for names in (self.columns, self.once)):
            raise ConfigError("`columns` and `once` are tuples: write ('test/accuracy',).")
        if len(set(self.columns)) != len(self.columns):
            raise ConfigError(f"The columns {self.columns} name a metric twice: name each once.")
        for row_name, cells in self.published.items():
            if self.rows and row_name not in (shown := {**self.means, **self.rows}):
                raise unknown_name("row with published numbers,", row_name, shown)
            for column, published in cells.items():
                if self.columns and column not in self.columns:
                    raise unknown_name(
                        f"column with a published number of the row {row_name!r},",
                        column,
                        self.columns,
                    )
                if not isinstance(published, Published):
                    raise ConfigError(
                        f"The published number of {row_name!r} in {column!r} is {published!r}: "
                        "write Published(value, source)."
                    )
        _check_means(self.means, self.rows)
        if self.baseline and self.baseline not in (shown := {**self.means, **self.rows}):
            raise unknown_name("row, as `baseline`,", self.baseline, shown)
        if self.seeds < 1:
            raise ConfigError(f"Study.seeds is {self.seeds}: it must be 1 or more.")
        for name in self.once:
            if name not in self.rows:
                raise unknown_name("row, in `once`,", name, self.rows)
        _check_stages(self.rows, self.once)


def axis(path: str, values: Mapping[str, Any] | Sequence[Any]) -> dict[str, Changes]:
    """Rows that differ in one value of the experiment.

    Args:
        path: dotted path of the value.
        values: row name -> value; or the values, each of which then names its row as
            `learning_rate=0.001`.

    Raises:
        ConfigError: where two values would name their rows alike.
    """
    if isinstance(values, Mapping):
        return {name: {path: value} for name, value in values.items()}
    leaf = path.rpartition(".")[2]
    return _unlike((f"{leaf}={value}", {path: value}) for value in values)


def product(*axes: Mapping[str, Changes], separator: str = ", ") -> dict[str, Changes]:
    """Every combination of the rows of several axes; names and changes are joined.

    Raises:
        ConfigError: where two axes change the same value, a later one replaces what an earlier
            one changes, or two combinations would have the same name.
    """
    rows: dict[str, Changes] = {"": {}}
    for each in axes:
        rows = _unlike(
            (f"{name}{separator if name else ''}{more}", _joined(name, changes, more, row))
            for name, changes in rows.items()
            for more, row in each.items()
        )
    return rows


def zipped(*axes: Mapping[str, Changes], separator: str = ", ") -> dict[str, Changes]:
    """The first rows of all axes joined, then the second rows, and so on.

    Raises:
        ConfigError: where the axes are not equally long, and where `product` raises it.
    """
    if len({len(each) for each in axes}) > 1:
        lengths = ", ".join(str(len(each)) for each in axes)
        raise ConfigError(f"The axes to zip have {lengths} rows: give all of them the same number.")
    return _unlike(
        row
        for rows in zip(*(each.items() for each in axes), strict=True)
        for row in product(*({name: row} for name, row in rows), separator=separator).items()
    )


def _unlike(rows: Iterable[tuple[str, Changes]]) -> dict[str, Changes]:
    """Rows by their names; ConfigError where two have the same."""
    named: dict[str, Changes] = {}
    for name, changes in rows:
        if name in named:
            raise ConfigError(
                f"Two rows would be called {name!r}: name the values of the axes so that no two "
                "rows are called alike."
            )
        named[name] = changes
    return named


def _joined(name: str, changes: Changes, more: str, row: Changes) -> Changes:
    both = changes.keys() & row.keys()
    if both:
        raise ConfigError(
            f"The rows {name!r} and {more!r} both change {min(both)}: combine axes that change "
            "different values."
        )
    for path in row:
        for earlier in changes:
            if is_within(earlier, path):
                raise ConfigError(
                    f"In the row {name!r} with {more!r}, {path} replaces {earlier}, which was "
                    f"changed before: put the axis of {path} first."
                )
    return {**changes, **row}


def check_row_name(name: Any) -> None:
    """Refuses a row name that cannot name a folder."""
    if not isinstance(name, str) or not name.strip(". ") or re.search(r"[/\\\x00-\x1f]", name):
        raise ConfigError(
            f"The row name {name!r} cannot name a folder: leave out slashes, and use more than "
            "dots and spaces."
        )
    if name.lower() in FILES_OF_A_STUDY:
        raise ConfigError(
            f"A row cannot be called {name!r}, which is a file of the study: choose another name."
        )
    if len(name.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"The row name {name[:20]!r}... is longer than {LONGEST_NAME} bytes, which no folder's "
            "name may be: shorten it."
        )


def _check_means(means: Mapping[str, Sequence[str]], rows: Mapping[str, Changes | Stage]) -> None:
    """Refuses a mean that is called like a row, or of rows that there are not."""
    for name, members in means.items():
        check_row_name(name)
        if name in rows:
            raise ConfigError(f"A row and a mean are both called {name!r}: rename one of them.")
        if isinstance(members, str) or not members:
            raise ConfigError(f"The mean {name!r} is of {members!r}: list the names of its rows.")
        if len(set(members)) != len(members):
            raise ConfigError(f"The mean {name!r} lists a row twice: list each once.")
        for member in members:
            if member not in rows:
                raise unknown_name(f"row for the mean {name!r},", member, rows)


def _check_stages(rows: Mapping[str, Changes | Stage], once: Sequence[str]) -> None:
    """Refuses rows that start from each other in a circle, or from a row of fewer seeds."""
    for name, row in rows.items():
        if isinstance(row, Stage) and row.after in once and name not in once:
            raise ConfigError(
                f"The row {name!r} starts from {row.after!r}, of which only one seed is run: list "
                "it in `once` too, or neither."
            )
        seen = [name]
        while isinstance(row, Stage):
            if row.after in seen:
                circle = " after ".join(map(repr, [*seen, row.after]))
                raise ConfigError(f"The rows start from each other in a circle ({circle}).")
            seen.append(row.after)
            row = rows[row.after]
