"""The training loop: runs an experiment in a run directory, and continues it after interruptions.

The order within a step is fixed: take a batch, dispatch the step, read the metrics of the previous
step (so that the device never waits for the host), log. If an evaluation or a checkpoint is due,
the loop waits for the step, then evaluates, then saves.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
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
from mmjax.training.pairs import few_pairs
from mmjax.training.progress import Clock, Reporter, tensorboard
from mmjax.training.provenance import code_files, environment, note_environment
from mmjax.training.published import keep_published, load_published, published_parts
from mmjax.training.run_directory import RunDirectory, write_interface
from mmjax.training.setup import Setup, prepare
from mmjax.training.signals import raise_at_signal, stop_signal
from mmjax.training.start import Origin, find_origin

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"
MONITORED = "metric for training.monitor"  # how the error for a misspelt name calls it


class Interrupted(RunError):
    """A signal came; the state was saved."""


def train(
    experiment: Experiment,
    run_dir: str | Path,
    folder: str | Path | None = None,
    command: Sequence[str] = (),
    definitions: ModuleType | None = None,
) -> dict[str, Any]:
    """Trains and evaluates an experiment in a run directory; continues an unfinished run.

    Args:
        experiment: the experiment.
        run_dir: the run directory; may hold an unfinished run of the same config.
        folder: the folder of raw data, or None.
        command: the command line, for `environment.json`.
        definitions: the module of the experiment's file, of which a copy is kept with the run; by
            default the program that runs.

    Returns:
        The content of `result.json`: name, metrics, directions, details, steps, seconds, seed.

    Raises:
        ConfigError: the parts of the experiment do not fit together; before the first step.
        DataError: data is missing, damaged or not finite.
        RunError: a loss is not finite, a checkpoint is damaged, or the disk is full.
        Interrupted: SIGTERM, SIGHUP or Ctrl-C; the state was saved.
    """
    run_dir, folder = Path(run_dir), None if folder is None else Path(folder)
    directory = RunDirectory(run_dir)
    config = to_json(experiment)
    directory.refuse_other(config)  # before any data is read
    if (run_dir / "config.json").exists():
        directory.claim(config)
    try:
        # A finished run whose checkpoints are gone is of no use: it is trained again.
        if (run_dir / "result.json").exists() and Checkpoints(directory.checkpoints).steps():
            return directory.read("result.json")
        setup = prepare(experiment, folder)
        notes = missing_classes(experiment.data, setup.source("train"))
        for sentence in [*notes, *untrained_heads(experiment), *few_pairs(setup)]:
            print(f"mmjax: {sentence}", file=sys.stderr)
        origin = None
        if experiment.start and not Checkpoints(directory.checkpoints).steps():
            origin = find_origin(experiment.start, setup.abstract_state, run_dir)
        parts = published_parts(setup.abstract_state)
        directory.claim(config)
        write_interface(directory, experiment.data)
        keep_published(directory, parts)
        code = code_files(experiment, definitions)
        found = environment(command, fingerprint(experiment.data, folder), code)
        found |= {"start": origin.provenance()} if origin else {}
        if parts and not Checkpoints(directory.checkpoints).steps():
            found["published"] = {
                ".".join(path): part.encoder.provenance() for path, part in parts.items()
            }
        for sentence in note_environment(directory, found, code):
            print(f"mmjax: {sentence}", file=sys.stderr)
        with stop_signal() as stopped:
            run = _Run(setup, directory, origin)
            run.to_the_end(stopped)
        with raise_at_signal(run.interrupted):
            return run.finish()
    finally:
        directory.release()


@dataclasses.dataclass
class _Pending:
    """A dispatched step whose metrics have not been read yet."""

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
            self.seconds = float(self.checkpoints.facts(self.step).get("seconds", 0))
        else:
            fresh = load_published(setup.create_state())
            self.state = origin.load_into(fresh) if origin else fresh
        for name in (METRICS, TIMING):
            directory.cut_after(name, self.step or -1)  # step 0 is logged again
        self.begun = time.perf_counter() - self.seconds
        self.clock = Clock()
        self.speed: dict[str, float] = {}
        self.tensorboard = tensorboard(directory.path, self.step) if training.tensorboard else None
        self.reporter = Reporter(setup.experiment.name, training.steps, self.step, training.monitor)
        if saved:
            self.reporter.say(
                f"Continuing from the checkpoint of step {self.step} in {directory.path}"
            )

    def to_the_end(self, stopped: Callable[[], str]) -> None:
        """Runs the remaining steps, with evaluations, checkpoints and logs."""
        try:
            with jax.set_mesh(self.setup.mesh):
                self._steps(stopped)
        finally:
            self.reporter.close()
            self.batches.close()
            if self.tensorboard:
                self.tensorboard.close()
        if self.step < self.training.steps or stopped():
            raise self.interrupted(stopped())

    def interrupted(self, signal: str) -> Interrupted:
        """The error of a run that a signal ends now."""
        where = f"at step {self.step} of {self.training.steps}"
        if self.step == self.training.steps:
            where = "before the end of the final evaluation"
        done = "the state is saved" if self.step else "nothing was done yet"
        return Interrupted(
            f"Stopped {where} by {signal}; {done} in {self.directory.path}: run the same command "
            "again to continue."
        )

    def _steps(self, stopped: Callable[[], str]) -> None:
        training = self.training
        train_step = self.setup.compile_step()
        # Queued steps of several simulated CPU devices can deadlock, so wait for each step.
        wait_for_each = jax.default_backend() == "cpu" and jax.device_count() > 1
        pending: _Pending | None = None
        if self.step == 0 and training.steps and (training.eval_every or training.monitor):
            self._evaluate()  # so that an evaluation with an error fails before training
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
                jax.block_until_ready(metrics)  # the first step compiles and is not timed
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
        """Reads the metrics of a step: raises if they are not finite, logs them if due."""
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
        """Evaluates on `valid`, if the data has it; returns the monitor's facts for `_save`."""
        experiment, monitor = self.setup.experiment, self.training.monitor
        if "valid" not in experiment.data.splits:
            return {}
        evaluators = [item for item in experiment.evaluation if not item.at_end_only]
        predictor = self.setup.predictor(self.state, evaluators)
        metrics, _, directions = evaluate(evaluators, predictor, ["valid"])
        if metrics:
            self._write(self.step, metrics)
            self.reporter.metrics(self.step, metrics)
        if monitor and f"valid/{monitor}" not in metrics:
            measured = [name.removeprefix("valid/") for name in metrics]
            raise unknown_name(MONITORED, monitor, measured)
        if not monitor:
            return {}
        value, better = metrics[f"valid/{monitor}"], directions.get(f"valid/{monitor}", "max")
        if better == "none":
            raise ConfigError(
                f"training.monitor is {monitor!r}, a metric for which neither higher nor lower is "
                "better: choose another metric."
            )
        return {"monitor": value, "better": better} if math.isfinite(value) else {}

    def _save(self, monitored: dict[str, Any]) -> None:
        """Saves a checkpoint, and deletes all except the last two and the best.

        Args:
            monitored: the result of `_evaluate` at this step.
        """
        facts = {"seconds": round(time.perf_counter() - self.begun, 3), **monitored}
        if self.tensorboard:
            self.tensorboard.flush()
        self.directory.sync(METRICS)  # before the checkpoint, which implies they were written
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
            f"{shown} of the train split (complete list: "
            f"{self.directory.path / 'not_finite.json'}; last good checkpoint: {last}): lower "
            "optimizer.learning_rate, set optimizer.clip_norm, or check these records."
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
