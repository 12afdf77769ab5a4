"""What a run shows while it goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Clock:
    """Times steps, leaving out what was paused (compilation, evaluations, checkpoints)."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._steps = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Notes that the host waited for data, at a step."""
        self._waited += seconds
        self._steps += 1

    def pause(self) -> None:
        """Forgets what was timed since the last reading: it was not steps alone."""
        self._restart()

    def read(self, batch_size: int) -> dict[str, float]:
        """Examples a second, step and data wait in ms since the last reading; or nothing."""
        if not self._steps:
            return {}
        seconds = time.perf_counter() - self._start
        steps, waited = self._steps, self._waited
        self._restart()
        return {
            "examples_per_second": batch_size * steps / seconds,
            "step_ms": 1e3 * seconds / steps,
            "data_wait_ms": 1e3 * waited / steps,
        }


class Reporter:
    """Shows the progress of a run of `steps` steps, of which `done` are done."""

    def __init__(self, name: str, steps: int, done: int) -> None:
        self._name, self._steps = name, steps
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                console=Console(),
            )
            self._task = self._bar.add_task(name, total=steps, completed=done, status="")
            self._bar.start()

    def step(self, done: int, loss: float, speed: float | None) -> None:
        """Shows the loss after `done` steps, and examples/s where it is known."""
        status = f"loss {loss:.4g}" + (f"  {speed:,.0f} examples/s" if speed else "")
        if self._bar:
            self._bar.update(self._task, completed=done, status=status)
        else:
            print(f"{self._name}: step {done}/{self._steps}  {status}", flush=True)

    def say(self, text: str) -> None:
        """Shows a line above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def metrics(self, done: int, values: Mapping[str, float]) -> None:
        """Shows the first metrics of an evaluation; all of them are in `metrics.jsonl`."""
        figures = "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:3])
        self.say(f"{self._name}: step {done}/{self._steps}  {figures}")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar:
            self._bar.stop()


def tensorboard(path: Path, step: int) -> Any:
    """A writer of TensorBoard events for a run that goes on after `step`."""
    from tensorboardX import SummaryWriter  # an extra; `check` has seen that it is there

    return SummaryWriter(str(path / "tensorboard"), purge_step=step + 1)
