"""What a study shows while it goes on: bars on a terminal, a line for each cell elsewhere."""

import json
import math
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from mmjax.studies.reports.drawing import duration
from mmjax.studies.rows import Cell, result_of


def estimate(
    todo: Sequence[Cell], finished: Sequence[Cell], jobs: int, more: float = 0.0
) -> float | None:
    """Seconds that cells will take, `jobs` at a time, by what others took; None without others.

    For a row with finished cells it is their mean; for another row the mean time of a step of all
    cells times its steps, or the mean time of a cell where there are no steps. `more` seconds are
    added for each cell.
    """
    rows: dict[str, list[float]] = {}
    per_step, per_cell = [], []
    for cell in finished:
        result = result_of(cell)
        rows.setdefault(cell.row.name, []).append(result["seconds"])
        per_cell.append(result["seconds"])
        if result["steps"]:
            per_step.append(result["seconds"] / result["steps"])
    if not per_cell:
        return None

    def of(cell: Cell) -> float:
        if cell.row.name in rows:
            return statistics.fmean(rows[cell.row.name])
        steps = cell.row.experiment.training.steps
        of_step = statistics.fmean(per_step) if per_step else 0.0
        return of_step * steps or statistics.fmean(per_cell)

    each = [of(cell) for cell in todo]
    at_once = max(1, min(jobs, len(each)))
    return (math.fsum(each) + more * len(each)) / at_once


class StudyProgress:
    """Shows how far a study is.

    Args:
        cells: all that were asked for.
        todo: those that are not finished yet.
        there: the finished cells of the study.
        jobs: how many run at the same time.
    """

    def __init__(
        self, cells: Sequence[Cell], todo: Sequence[Cell], there: Sequence[Cell], jobs: int
    ) -> None:
        self.there = list(there)
        self._total, self._done, self._jobs = len(cells), len(cells) - len(todo), jobs
        self._left = list(todo)
        self._starts: list[float] = []  # seconds that a process took beyond its training
        self._bar: Progress | None = None
        self._tasks: dict[Cell, TaskID] = {}
        self._updated = 0.0
        if not todo:
            return
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                console=Console(),
            )
            self._all = self._bar.add_task(
                "cells", total=self._total, completed=self._done, status=self._time_left()
            )
            self._bar.start()
        else:
            at_once = min(jobs, len(todo))
            self._print(
                f"{self._total} cells, {len(todo)} to run, {at_once} at a time"
                f"{self._time_left('; ')}"
            )

    def finished(self, cell: Cell, columns: Sequence[str], seconds: float) -> None:
        """Shows a cell that has finished, its process after so many seconds."""
        result = result_of(cell)
        metrics = result["metrics"]
        self._starts.append(max(0.0, seconds - result["seconds"]))
        self.there.append(cell)
        shown = [name for name in columns or metrics if metrics.get(name) is not None]
        shown = [name for name in shown if columns or name.startswith("test/")][:3]
        figures = "  ".join(f"{name} {metrics[name]:.4g}" for name in shown)
        self._advance(cell, f"{figures}  in {seconds:.0f} s")

    def failed(self, cell: Cell, reason: str) -> None:
        """Shows a cell that has failed."""
        self._advance(cell, f"failed: {reason}")

    def update(self, running: Iterable[Cell]) -> None:
        """Shows how far the running cells are; on a terminal only."""
        if not self._bar or time.monotonic() < self._updated + 1:
            return
        self._updated = time.monotonic()
        for cell in running:
            if cell not in self._tasks:
                steps = cell.row.experiment.training.steps
                self._tasks[cell] = self._bar.add_task(cell.run, total=steps, status="steps")
            self._bar.update(self._tasks[cell], completed=last_step(cell.run_dir))
        self._bar.update(self._all, status=self._time_left())

    def close(self) -> None:
        """Takes the bars away."""
        if self._bar:
            self._bar.stop()

    def _advance(self, cell: Cell, text: str) -> None:
        self._done += 1
        self._left = [each for each in self._left if each != cell]
        self._print(
            f"[{self._done}/{self._total}] {cell.row.name}, seed {cell.seed}: {text}"
            f"{self._time_left('; ')}"
        )
        if self._bar:
            self._bar.update(self._all, completed=self._done)
            if cell in self._tasks:
                self._bar.remove_task(self._tasks.pop(cell))

    def _time_left(self, before: str = "") -> str:
        more = statistics.fmean(self._starts) if self._starts else 0.0
        seconds = estimate(self._left, self.there, self._jobs, more)
        if seconds is None or not self._left:
            return ""
        return f"{before}about {duration(seconds)} left"

    def _print(self, text: str) -> None:
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)


def last_step(run_dir: Path) -> int:
    """The step of the last complete line of a run's metrics; 0 before the first."""
    try:
        with open(run_dir / "metrics.jsonl", "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16384))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (ValueError, KeyError, TypeError):  # an incomplete line
        return 0
