"""Progress output of a run: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Clock:
    """Times steps, without compilation, evaluations and checkpoints."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._steps = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Counts a step, and the seconds for which the host waited for its data."""
        self._waited += seconds
        self._steps += 1

    def pause(self) -> None:
        """Discards the time since the last reading, which was not only steps."""
        self._restart()

    def read(self, batch_size: int) -> dict[str, float]:
        """Examples per second, ms per step and ms of waiting for data, since the last reading.

        Empty if no step was counted.
        """
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


SECONDS_BETWEEN_LINES = 1.0


class Reporter:
    """Shows the progress of a run of `steps` steps, which continues after step `done`.

    Without a terminal it prints at most one line of a step per second, and that of the last step.
    Of the metrics, it shows those that are called `first` (after their split) before the others.
    """

    def __init__(self, name: str, steps: int, done: int, first: str = "") -> None:
        self._name, self._steps, self._first = name, steps, first
        self._shown = -SECONDS_BETWEEN_LINES
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
        """Shows the loss after `done` steps, and examples/s if `speed` is given."""
        status = f"loss {loss:.4g}" + (f"  {speed:,.0f} examples/s" if speed else "")
        if self._bar:
            self._bar.update(self._task, completed=done, status=status)
            return
        now = time.monotonic()
        if done == self._steps or now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            _print(f"{self._name}: step {done}/{self._steps}  {status}")

    def say(self, text: str) -> None:
        """Shows a line of text (above the bar)."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            _print(text)

    def metrics(self, done: int, values: Mapping[str, float]) -> None:
        """Shows the first three metrics of an evaluation; `metrics.jsonl` has all."""
        shown = monitored_first(values, self._first)[:3]
        figures = "  ".join(f"{name} {values[name]:.4g}" for name in shown)
        self.say(f"{self._name}: step {done}/{self._steps}  {figures}")

    def close(self) -> None:
        """Removes the bar."""
        if self._bar:
            self._bar.stop()


def monitored_first(names: Iterable[str], monitor: str) -> list[str]:
    """The names `split/metric` of metrics, those of `training.monitor` first."""
    return sorted(names, key=lambda name: name.partition("/")[2] != monitor)


def _print(text: str) -> None:
    """Prints a line; if that is no longer possible, says so once, and the run goes on."""
    try:
        print(text, flush=True)
    except OSError as error:  # a pipe's reader has ended, the terminal was closed, a full disk
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
        reason = (
            "Nobody reads the output any more"
            if error.errno in (errno.EPIPE, errno.EIO)
            else f"The output cannot be written any more ({os.strerror(error.errno or 0)})"
        )
        with contextlib.suppress(OSError):
            print(
                f"mmjax: {reason}; the run goes on, and metrics.jsonl in its directory shows how "
                "far it is.",
                file=sys.stderr,
            )


def tensorboard(path: Path, step: int) -> Any:
    """A writer of TensorBoard events for a run that continues after `step`."""
    from tensorboardX import SummaryWriter  # an optional package; `check` found it

    return SummaryWriter(str(path / "tensorboard"), purge_step=step + 1)
