"""The training loop: from an experiment and a run directory to a result, however often interrupted.

The order within a step is fixed: take a batch, dispatch the step, read the metrics of the step
before it (so that the device never waits for the host), log. Where an evaluation or a checkpoint is
due, the step is waited for first; then evaluate, then save.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmjax.data.catalogue import fingerprint
from mmjax.data.checks import missing_classes
from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.evaluation import evaluate
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment, untrained_heads
from mmjax.training.progress import Clock, Reporter, tensorboard
from mmjax.training.run_directory import RunDirectory, environment, write_interface
from mmjax.training.setup import Setup, prepare
from mmjax.training.signals import stop_signal
from mmjax.training.start import Origin, find_origin

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
MONITORED = "metric for training.monitor"  # what a misspelt one is called in the sentence


class Interrupted(RunError):
    """SIGTERM or Ctrl-C came; the state was saved."""


def train(
    experiment: Experiment,
    run_dir: str | Path,
    folder: str | Path | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains, evaluates and leaves a run directory; goes on where an earlier start stopped.

    Args:
        experiment: what to run.
        run_dir: where to leave it; may hold an unfinished run of the same config.
        folder: the folder of raw data, or None.
        command: the command line, for `environment.json`.

    Returns:
        What `result.json` holds: name, metrics, directions, details, steps, seconds, seed.

    Raises:
        ConfigError: before the first step, for what does not fit together.
        DataError: for data that is missing, damaged or not finite.
        RunError: for a loss that is not finite, a damaged checkpoint, a full disk.
        Interrupted: after saving, on SIGTERM or Ctrl-C.
    """
    run_dir, folder = Path(run_dir), None if folder is None else Path(folder)
    directory = RunDirectory(run_dir)
    config = to_json(experiment)
    directory.refuse_other(config)  # told before any data is read
    if (run_dir / "config.json").exists():
        directory.claim(config)
    try:
        if (run_dir / "result.json").exists():
            return directory.read("result.json")
        setup = prepare(experiment, folder)
        notes = missing_classes(experiment.data, setup.source("train"))
        for sentence in [*notes, *untrained_heads(experiment)]:
            print(f"mmjax: {sentence}", file=sys.stderr)
        origin = None
        if experiment.start and not Checkpoints(directory.checkpoints).steps():
            origin = find_origin(experiment.start, setup.abstract_state, run_dir)
        directory.claim(config)
        write_interface(directory, experiment.data)
        found = environment(command, fingerprint(experiment.data, folder))
        _note_environment(directory, found | ({"start": origin.provenance()} if origin else {}))
        with stop_signal() as stopped:
            run = _Run(setup, directory, origin)
            run.to_the_end(stopped)
            return run.finish()
    finally:
        directory.release()


def _note_environment(directory: RunDirectory, now: dict[str, Any]) -> None:
    """Writes `environment.json`; refuses to go on with other data than the run began with.

    What an earlier start noted of the run that this one started from stays.
    """
    if (directory.path / "environment.json").exists():
        noted = directory.read("environment.json")
        if "start" in noted:
            now = {"start": noted["start"]} | now
        before = noted.get("data") or {}
        if before != now["data"]:
            changed = [name for name, found in now["data"].items() if before.get(name) != found]
            raise RunError(
                f"The data of the run in {directory.path} has changed since it began "
                f"({', '.join(changed)}): restore it, or start anew with another --run-dir."
            )
    directory.write("environment.json", now)


@dataclasses.dataclass
class _Pending:
    """A step that was dispatched and whose metrics were not read yet."""

    step: int
    metrics: dict[str, jax.Array]
    ids: np.ndarray


class _Run:
    """The state of a run between two steps."""

    def __init__(self, setup: Setup, directory: RunDirectory, origin: Origin | None) -> None:
        self.setup = setup
        self.training = training = setup.experiment.training
        self.directory = directory
        self.checkpoints = Checkpoints(directory.checkpoints)
        self.batches = setup.train_batches()
        saved = self.checkpoints.steps()
        self.step, self.seconds = (saved[-1] if saved else 0), 0.0
        if saved:
            self.state = self.checkpoints.restore(self.step, setup.abstract_state, self.batches)
            self.seconds = self.checkpoints.facts(self.step)["seconds"]
        else:
            fresh = setup.create_state()
            self.state = origin.give_to(fresh) if origin else fresh
        for name in (METRICS, TIMING):
            directory.cut_after(name, self.step or -1)  # what step 0 logs comes again
        self.begun = time.perf_counter() - self.seconds
        self.clock = Clock()
        self.speed: dict[str, float] = {}
        self.tensorboard = tensorboard(directory.path, self.step) if training.tensorboard else None
        self.reporter = Reporter(setup.experiment.name, training.steps, self.step)
        if saved:
            self.reporter.say(
                f"Going on from the checkpoint of step {self.step} in {directory.path}"
            )

    def to_the_end(self, stopped: Callable[[], str]) -> None:
        """Runs the steps that are left; evaluates, saves and logs on the way."""
        try:
            with jax.set_mesh(self.setup.mesh):
                self._steps(stopped)
        finally:
            self.reporter.close()
            self.batches.close()
            if self.tensorboard:
                self.tensorboard.close()
        if self.step < self.training.steps:
            done = "the state is saved" if self.step else "nothing was done yet"
            raise Interrupted(
                f"Stopped at step {self.step} of {self.training.steps} by {stopped()}; {done} in "
                f"{self.directory.path}: run the same command to go on."
            )

    def _steps(self, stopped: Callable[[], str]) -> None:
        training = self.training
        train_step = self.setup.compile_step()
        # Queued steps of several fake devices on few cores can deadlock: there, wait for each.
        wait_for_each = jax.default_backend() == "cpu" and jax.device_count() > 1
        pending: _Pending | None = None
        if self.step == 0 and training.steps and (training.eval_every or training.monitor):
            self._evaluate()  # an evaluation that fails, fails here
        while self.step < training.steps and not stopped():
            begun = time.perf_counter()
            batch = next(self.batches)
            self.clock.waited(time.perf_counter() - begun)
            self.state, metrics = train_step(self.state, self.setup.put(batch))
            self.step += 1
            previous, pending = pending, _Pending(self.step, metrics, batch.ids)
            if wait_for_each:
                jax.block_until_ready(metrics)
            if previous:
                self._log(previous)
            elif not self.speed:
                jax.block_until_ready(metrics)  # the first step: leave out its compilation
                self.clock.pause()
            ended = self.step == training.steps
            evaluates = self._is_due(training.eval_every) or bool(ended and training.monitor)
            if evaluates or ended or self._is_due(training.save_every):
                self._log(pending)
                pending = None
                self._save(self._evaluate() if evaluates else {})
                self.clock.pause()
        if training.steps == 0:
            self._save({})
        if pending:  # stopped between two checkpoints
            self._log(pending)
            self._save({})

    def _is_due(self, every: int) -> bool:
        return bool(every) and self.step % every == 0

    def _log(self, done: _Pending) -> None:
        """Reads the metrics of a step: stops if they are not finite, logs them if it is time."""
        values = {name: float(value) for name, value in jax.device_get(done.metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise self._not_finite(done, values)
        count = done.step
        if count % self.training.log_every == 0 or count == self.training.steps:
            line = {f"train/{name}": value for name, value in values.items()}
            self._write(count, line)
            self.speed = self.clock.read(self.training.batch_size) or self.speed
            self.directory.append(TIMING, {"step": count, **self.speed})
            self.reporter.step(count, values["loss"], self.speed.get("examples_per_second"))

    def _write(self, step: int, values: dict[str, float]) -> None:
        self.directory.append(METRICS, {"step": step, **values})
        if self.tensorboard:
            for name, value in values.items():
                self.tensorboard.add_scalar(name, value, step)

    def _evaluate(self) -> dict[str, Any]:
        """Evaluates on `valid`, where there is one; what a checkpoint notes of the monitor."""
        experiment, monitor = self.setup.experiment, self.training.monitor
        if "valid" not in experiment.data.splits:
            return {}
        evaluators = [each for each in experiment.evaluation if not each.at_end_only]
        predictor = self.setup.predictor(self.state, evaluators)
        metrics, _, directions = evaluate(evaluators, predictor, ["valid"])
        if metrics:
            self._write(self.step, metrics)
            self.reporter.metrics(self.step, metrics)
        if monitor and f"valid/{monitor}" not in metrics:
            there = [name.removeprefix("valid/") for name in metrics]
            raise unknown_name(MONITORED, monitor, there)
        if not monitor:
            return {}
        value, better = metrics[f"valid/{monitor}"], directions.get(f"valid/{monitor}", "max")
        if better == "none":
            raise ConfigError(
                f"training.monitor is {monitor!r}, of which neither more nor less is better: name "
                "another metric."
            )
        return {"monitor": value, "better": better} if math.isfinite(value) else {}

    def _save(self, monitored: dict[str, Any]) -> None:
        """Saves a checkpoint, and deletes all but the last two and the best.

        Args:
            monitored: what `_evaluate` gave at this step.
        """
        facts = {"seconds": round(time.perf_counter() - self.begun, 3), **monitored}
        if self.tensorboard:
            self.tensorboard.flush()
        self.directory.sync(METRICS)  # before the checkpoint that says that they were written
        self.checkpoints.save(self.state, self.batches, facts)
        best = self.checkpoints.best()
        self.checkpoints.keep([*self.checkpoints.steps()[-2:], *([] if best is None else [best])])

    def finish(self) -> dict[str, Any]:
        """Evaluates the best (or last) checkpoint on the final splits; writes the result."""
        experiment = self.setup.experiment
        best = self.checkpoints.best()
        if best is not None and best != self.step:
            self.state = self.checkpoints.restore(best, self.setup.abstract_state)
        splits = self.training.final_splits or [s for s in experiment.data.splits if s != "train"]
        predictor = self.setup.predictor(self.state, experiment.evaluation)
        metrics, details, directions = evaluate(experiment.evaluation, predictor, splits)
        result = {
            "name": experiment.name,
            "metrics": {name: _finite(value) for name, value in metrics.items()},
            "directions": directions,
            "details": details,
            "steps": self.training.steps,
            "evaluated_step": int(self.state.step),
            "seconds": round(time.perf_counter() - self.begun, 3),
            "seed": self.training.seed,
        }
        self.directory.write("result.json", result)
        return result

    def _not_finite(self, done: _Pending, values: dict[str, float]) -> RunError:
        names = [name for name, value in values.items() if not math.isfinite(value)]
        ids = [int(record) for record in done.ids]
        self.directory.write("not_finite.json", {"step": done.step, "records": ids})
        good = self.checkpoints.steps()
        last = f"{self.checkpoints.folder / str(good[-1])}" if good else "none yet"
        shown = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        return RunError(
            f"The {' and the '.join(names)} of step {done.step} is not finite, on the records "
            f"{shown} of the train split (all of them in "
            f"{self.directory.path / 'not_finite.json'}); last good checkpoint: {last}: lower "
            "optimizer.learning_rate, set optimizer.clip_norm, or look at these records."
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
