"""From a study's values to its rows as experiments, and to the cells that are to be run."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any

from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.studies.files import read_json
from mmjax.studies.study import Changes, Stage, Study, check_row_name
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment, check
from mmjax.training.overrides import defined, replace_at
from mmjax.training.run_directory import RESULT, RunDirectory
from mmjax.training.start import OWN, Start

FAILED = "failed.json"
# Shapes of the files of a cell; see `shape_error`.
_RESULT = {
    "metrics": {str: (int, float, NoneType)},
    "directions": {str: str},
    "seconds": (int, float),
    "steps": int,
}
_ENVIRONMENT = {"data": {str: str}, "versions": {str: str}, "devices": [str]}
RECORD = ("name", "title", "command", "date")  # what `study.json` holds


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One row of a study: its name, what it changes, and the experiment that it then is.

    `after` names the row whose trained `parts` it starts from; it may be empty.
    Only the first seed of a row is run that is to be run `once`.
    """

    name: str
    changes: Changes
    experiment: Experiment
    after: str = ""
    parts: tuple[str, ...] = ()
    once: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One row with one seed: a run in the directory `row/seed<seed>` of the study."""

    row: Row
    seed: int
    study_dir: Path

    @property
    def run(self) -> str:
        """Its directory within that of the study."""
        return f"{self.row.name}/seed{self.seed}"

    @property
    def run_dir(self) -> Path:
        """Its directory."""
        return self.study_dir / self.run

    @property
    def after(self) -> str:
        """The run that it starts from; empty where it starts from none."""
        return f"{self.row.after}/seed{self.seed}" if self.row.after else ""

    @property
    def experiment(self) -> Experiment:
        """What is run."""
        experiment = replace_at(self.row.experiment, "training.seed", self.seed)
        if not self.after:
            return experiment
        source = f"{OWN}/../../{self.after}"  # a study can be moved, or named otherwise
        return dataclasses.replace(experiment, start=Start(source, parts=self.row.parts))

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return (self.run_dir / RESULT).exists()

    @property
    def failure(self) -> str:
        """Why its last start failed; empty where it did not."""
        if self.finished or not (self.run_dir / FAILED).exists():
            return ""
        try:
            return str(RunDirectory(self.run_dir).read(FAILED).get("reason"))
        except RunError as error:  # no more than a note is lost
            return str(error)

    def refuse_other(self) -> None:
        """Refuses a directory that holds another run; ConfigError."""
        RunDirectory(self.run_dir).refuse_other(to_json(self.experiment))


def study_of(module: ModuleType) -> Study:
    """The `study` of an experiment file; without one, a study of the experiment alone.

    Raises:
        ConfigError: where it is not a `Study`, or its parts are outside of one.
    """
    names = [name for name in ("study", "rows", "columns", "published") if hasattr(module, name)]
    if names in ([], ["study"]) and getattr(module, "study", None) is None:
        return Study()
    return defined(module, "study", Study, "mmjax.studies.Study(rows=..., columns=...)")


def rows_of(study: Study, experiment: Experiment) -> dict[str, Row]:
    """The rows of a study as experiments, in the order of the study.

    Args:
        study: the study.
        experiment: what its rows change, with the overrides of the command line.

    Raises:
        ConfigError: for a path in a row that is not there, or a value that does not fit.
    """
    rows = {}
    check_row_name(experiment.name)
    for name, row in (study.rows or {experiment.name: {}}).items():
        stage = row if isinstance(row, Stage) else None
        changes: Changes = stage.changes if stage else row  # type: ignore[assignment]
        changed = experiment
        try:
            for path, value in changes.items():
                changed = replace_at(changed, path, value)
            check(changed)
            if stage and changed.start:
                raise ConfigError("It is a Stage, and its experiment has a `start`: use one.")
        except ConfigError as error:
            raise ConfigError(f"Row {name!r}: {error}") from error
        after, parts = (stage.after, stage.parts) if stage else ("", ())
        rows[name] = Row(name, changes, changed, after, parts, once=name in study.once)
    for made in rows.values():
        ours = made.experiment.training.seed
        theirs = rows[made.after].experiment.training.seed if made.after else ours
        if ours != theirs:
            raise ConfigError(
                f"Row {made.name!r}: Its seeds begin at {ours} and those of {made.after!r}, which "
                f"it starts from, at {theirs}: give both rows the same training.seed."
            )
    for published in study.published:
        if published not in (shown := {**study.means, **rows}):
            raise unknown_name("row with published numbers,", published, shown)
    return rows


def chosen_rows(rows: Mapping[str, Row], only: Sequence[str]) -> list[Row]:
    """The rows that are named, after those that they start from; none named takes all.

    Raises:
        ConfigError: for a name that no row has.
    """
    taken: dict[str, Row] = {}

    def take(name: str) -> None:
        if name not in rows:
            raise unknown_name("row", name, rows)
        if rows[name].after:
            take(rows[name].after)
        taken[name] = rows[name]

    for name in only or rows:
        take(name)
    return list(taken.values())


def cells_of(rows: Sequence[Row], seeds: int, study_dir: Path) -> list[Cell]:
    """Every row with so many seeds, counted from its own `training.seed` on; seed by seed.

    The first seed of every row comes first, so that a study that is stopped compares all rows.
    """
    return [
        Cell(row, row.experiment.training.seed + index, study_dir)
        for index in range(seeds)
        for row in rows
        if index == 0 or not row.once
    ]


def cells_there(row: Row, study_dir: Path) -> list[Cell]:
    """The cells of a row that a study's directory holds, by seed, whoever started them.

    Raises:
        ConfigError: for a cell of another config.
        RunError: for a config that is damaged.
    """
    seeds = [
        int(path.parent.name.removeprefix("seed"))
        for path in (study_dir / row.name).glob("seed*/config.json")
        if path.parent.name.removeprefix("seed").isdecimal()
    ]
    cells = [Cell(row, seed, study_dir) for seed in sorted(seeds)]
    for cell in cells:
        cell.refuse_other()
    return cells


def note_failure(cell: Cell, reason: str) -> None:
    """Writes down in its directory why a cell failed."""
    directory = RunDirectory(cell.run_dir)
    directory.claim(to_json(cell.experiment))
    directory.write(FAILED, {"reason": reason})
    directory.release()


def read_record(study_dir: Path, name: str) -> dict[str, Any]:
    """What `study.json` says of a study that was begun; empty for a new one.

    Raises:
        ConfigError: for a directory of another study, of a single run, or of something else.
        RunError: for a `study.json` that is damaged.
    """
    if (study_dir / "study.json").exists():
        fix = "restore it, or start a new study in another directory"
        record = read_json(study_dir / "study.json", dict.fromkeys(RECORD, str), fix)
        if record.get("name") != name:
            raise ConfigError(
                f"{study_dir} holds the study {record.get('name')!r}: name another directory with "
                "--run-dir."
            )
        return record
    if (study_dir / "config.json").exists():
        raise ConfigError(f"{study_dir} holds a run: name another directory with --run-dir.")
    known = {"lock", "study.json.tmp"}  # of a study that was killed as it began
    if study_dir.is_file() or (
        study_dir.is_dir() and any(path.name not in known for path in study_dir.iterdir())
    ):
        raise ConfigError(
            f"{study_dir} exists and holds no study: name another directory with --run-dir."
        )
    return {}


def check_seeds(seeds: int) -> None:
    """Refuses a number of seeds below 1."""
    if seeds < 1:
        raise ConfigError(f"--seeds is {seeds}: it must be 1 or more.")


def result_of(cell: Cell) -> dict[str, Any]:
    """What a finished cell has: `metrics` (None where not finite), `seconds`, `steps` and more.

    Raises:
        RunError: where its `result.json` is damaged.
    """
    return read_json(cell.run_dir / RESULT, _RESULT, "delete it and run the same command again")


def environment_of(cell: Cell) -> dict[str, Any]:
    """What a finished cell was made with: `data` is a mapping from its files to their SHA-256.

    Raises:
        RunError: where its `environment.json` is damaged.
    """
    fix = "restore it, or delete that run and run the same command again"
    return read_json(cell.run_dir / "environment.json", _ENVIRONMENT, fix)


def describe(changes: Changes) -> dict[str, Any]:
    """What a row changes, as JSON values."""
    return json.loads(json.dumps({path: to_json(value) for path, value in changes.items()}))
