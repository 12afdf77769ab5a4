"""Ablations: the rows of a study times seeds, each cell in its own run directory and process."""

import dataclasses
import datetime
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError, RunError
from mmjax.studies.files import write_text
from mmjax.studies.processes import (
    Launch,
    RunProcess,
    check_experiments,
    compile_cache,
    locked,
    run_all,
)
from mmjax.studies.reports.drawing import duration
from mmjax.studies.reports.study_report import write_study_report
from mmjax.studies.results import RESULTS, data_groups, gather
from mmjax.studies.rows import (
    FAILED,
    Cell,
    Row,
    cells_of,
    cells_there,
    check_seeds,
    chosen_rows,
    environment_of,
    note_failure,
    read_record,
    rows_of,
)
from mmjax.studies.study import Study
from mmjax.studies.study_progress import StudyProgress, estimate
from mmjax.studies.tables import csv_table, markdown
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment
from mmjax.training.loop import Interrupted
from mmjax.training.run_directory import RESULT, RunDirectory


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What `mmjax ablate` was asked for.

    Attributes:
        study: rows, columns and published numbers.
        experiment: what the rows change, with the overrides of the command line.
        title: one line about the study.
        study_dir: cell (row, seed) is the run directory `row/seed<seed>` in it.
        seeds: runs a row.
        only: the rows to run; none named runs all.
        jobs: cells that run at the same time.
        folder: the folder of raw data, or None.
        definitions: the experiment file.
        command: the command line, for the record.
    """

    study: Study
    experiment: Experiment
    title: str
    study_dir: Path
    seeds: int
    only: Sequence[str] = ()
    jobs: int = 1
    folder: Path | None = None
    definitions: Path | None = None
    command: Sequence[str] = ()

    def plan(self) -> tuple[dict[str, Row], list[Cell]]:
        """All rows of the study, and the cells that were asked for; see `ablate` for the errors."""
        check_seeds(self.seeds)
        if self.jobs < 1:
            raise ConfigError(f"--jobs is {self.jobs}: it must be 1 or more.")
        rows = rows_of(self.study, self.experiment)
        chosen = chosen_rows(rows, self.only)
        read_record(self.study_dir, self.experiment.name)
        cells = cells_of(chosen, self.seeds, self.study_dir)
        for cell in cells:
            cell.refuse_other()
        return rows, cells


def dry_run(ablation: Ablation) -> list[str]:
    """What `ablate` would do: a line a cell, and the time that it would take; nothing is run."""
    rows, cells = ablation.plan()
    lines = []
    for cell in cells:
        state = "to run"
        if cell.finished:
            state = "finished"
        elif cell.failure:
            state = f"to run again; it failed: {cell.failure}"
        elif (cell.run_dir / "config.json").exists():
            state = "to continue"
        lines.append(f"{cell.run}: {state}")
    todo = [cell for cell in cells if not cell.finished]
    seconds = estimate(todo, _finished(rows, ablation.study_dir), ablation.jobs)
    took = "whose time is not known before one is finished"
    if seconds is not None:
        took = f"about {duration(seconds)} of training with --jobs {ablation.jobs}"
    return [*lines, f"{len(cells)} cells, {len(todo)} to run" + (f", {took}" if todo else "")]


def ablate(ablation: Ablation) -> dict[str, Any]:
    """Runs every cell that is not finished yet, and writes the tables and the report.

    A cell that fails is recorded with its reason, and the others run on; the next start tries it
    again. What is killed goes on at the next start, and ends with the same tables.

    Returns:
        What `results.json` in the study's directory then holds.

    Raises:
        ConfigError: before the first cell, for rows, columns or options that do not fit.
        RunError: for data that is not that of the finished cells, or a directory that cannot be
            written.
        Interrupted: on SIGTERM or Ctrl-C, when the running cells have saved.
    """
    rows, cells = ablation.plan()
    launch = Launch(ablation.definitions, ablation.folder, ablation.command)
    _check(rows, cells, launch, ablation.study_dir)
    with (
        locked(ablation.study_dir / "lock") as lock,
        compile_cache(ablation.study_dir / "compile_cache") as cache,
    ):
        directory = RunDirectory(ablation.study_dir)
        record = read_record(ablation.study_dir, ablation.experiment.name)
        if not record or not ablation.only:  # a part of the rows does not make the table
            record = {
                "name": ablation.experiment.name,
                "title": ablation.title,
                "command": shlex.join(ablation.command),
                "date": record.get("date", datetime.date.today().isoformat()),
            }
            directory.write("study.json", record)

        def write() -> dict[str, Any]:
            results = gather(ablation.study, rows, ablation.study_dir, record)
            directory.write(RESULTS, results)
            return results

        write()  # refuses inconsistent cells before more is run
        launch = dataclasses.replace(launch, lock=lock, cache=cache)
        todo = [cell for cell in cells if not cell.finished]
        finished = _finished(rows, ablation.study_dir)
        progress = StudyProgress(cells, todo, finished, ablation.jobs)
        stopped = _Runner(ablation, launch, write, todo, progress).run()
        results = write()
        write_text(ablation.study_dir / "table.md", markdown(results))
        write_text(ablation.study_dir / "table.csv", csv_table(results))
        write_study_report(ablation.study_dir)
    left = sum(not cell.finished for cell in cells)
    if stopped:
        raise Interrupted(
            f"Stopped by {stopped} with {left} of {len(cells)} cells unfinished; what is done is "
            f"saved in {ablation.study_dir}: run the same command to go on."
        )
    return results


def _check(rows: dict[str, Row], cells: Sequence[Cell], launch: Launch, study_dir: Path) -> None:
    """Prepares every row that is to be run, and compares its data with that of finished cells."""
    first = {cell.row.name: cell for cell in reversed(cells)}
    needed = [cell for cell in cells if not cell.finished]
    wanted = {name for cell in needed for name in (cell.row.name, cell.row.after) if name}
    if not wanted:
        return
    asked = {
        row.name: {"config": to_json(row.experiment), "after": row.after, "parts": row.parts}
        for row in rows.values()
        if row.name in wanted
    }
    for row in asked.values():
        row["after"] = row["after"] if row["after"] in asked else ""
    now = check_experiments(asked, launch)
    seen = [(cell, environment_of(cell)["data"]) for cell in _finished(rows, study_dir)]
    data_groups([*seen, *((first[name], hashes) for name, hashes in now.items())])


def _finished(rows: Mapping[str, Row], study_dir: Path) -> list[Cell]:
    cells = (cell for row in rows.values() for cell in cells_there(row, study_dir))
    return [cell for cell in cells if cell.finished]


@dataclasses.dataclass
class _Runner:
    """Runs the cells that are waiting."""

    ablation: Ablation
    launch: Launch
    write: Callable[[], object]
    waiting: list[Cell]
    progress: StudyProgress
    running: dict[Cell, RunProcess] = dataclasses.field(default_factory=dict)
    failed: set[str] = dataclasses.field(default_factory=set)

    def run(self) -> str:
        """Runs them; returns the name of the signal that stopped it before the last, if any."""
        try:
            stopped = run_all(self.running, self._begin, self._follow)
            return stopped if self.waiting or self.running else ""
        finally:
            self.progress.close()

    def _begin(self) -> bool:
        """Starts the cells that can start."""
        before = len(self.waiting)
        for cell in list(self.waiting):
            if len(self.running) >= self.ablation.jobs:
                break
            if cell.after in self.failed:
                self.waiting.remove(cell)
                self._fail(cell, f"The run that it starts from, {cell.after!r}, failed.")
            elif not cell.after or (self.ablation.study_dir / cell.after / RESULT).exists():
                self.waiting.remove(cell)
                config = to_json(cell.experiment)
                (cell.run_dir / FAILED).unlink(missing_ok=True)  # of an earlier start
                self.running[cell] = RunProcess(cell.run_dir, config, self.launch)
        self.progress.update(self.running)
        return len(self.waiting) < before

    def _follow(self, cell: Cell) -> bool:
        """Records a cell whose process has ended."""
        process = self.running[cell]
        if not process.ended():
            return False
        del self.running[cell]
        if reason := process.failure():
            self._fail(cell, reason)
        else:
            self.progress.finished(cell, self.ablation.study.columns, process.seconds)
            self.write()
        return True

    def _fail(self, cell: Cell, reason: str) -> None:
        self.failed.add(cell.run)
        note_failure(cell, reason)
        self.progress.failed(cell, reason)


def refuse_failed(ablation: Ablation) -> None:
    """Ends a study in which cells that were asked for failed; RunError, naming the first."""
    failed = [cell for cell in ablation.plan()[1] if cell.failure]
    if failed:
        more = f", and {len(failed) - 1} more failed" if len(failed) > 1 else ""
        raise RunError(
            f"The cell {failed[0].run} failed{more}: {failed[0].failure} Fix it and run the same "
            "command again; the other cells are kept."
        )
