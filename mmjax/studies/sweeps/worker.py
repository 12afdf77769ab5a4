"""The search of a sweep: samples parameters, trains them, prunes trials, and resumes.

Several workers share a sweep: the processes of one start (`--workers`), and starts on the same
directory, on one machine or on several with one file system. They share the journal, and locks
that are free as soon as their process has ended:

    DIR/journal.log          all trials (`journal.py`)
    DIR/sweep_config.json    sweep and experiment, which have to be the same in every start
    DIR/locks/ask            locked while a worker takes a trial
    DIR/locks/0007           locked by the worker of trial 7; an unfinished trial whose lock is
                             free is taken by the next worker
    DIR/trials/0007/         the run directory of trial 7

What is reported of a trial depends on the lines of its `metrics.jsonl` and the trials before it,
not on when a worker read them, so that a sweep with one worker suggests the same parameters however
often it was killed.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from mmjax.errors import ConfigError, RunError
from mmjax.studies.processes import PATIENCE, RunProcess, run_all
from mmjax.studies.sweeps.journal import FrozenTrial, Journal, TrialState
from mmjax.studies.sweeps.plan import SweepPlan, locked
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment
from mmjax.training.locks import lock_file
from mmjax.training.loop import METRICS, MONITORED, Interrupted
from mmjax.training.run_directory import RESULT, RunDirectory

SAME_FAILURES = 3  # so many first trials that fail for one reason end the sweep


Starter = Callable[[Path, Mapping[str, Any]], RunProcess]  # run directory, config


def search(plan: SweepPlan, journal: Journal, start: Starter) -> None:
    """Runs trials until all that were asked for are finished, or taken by other workers.

    Args:
        plan: what was asked for.
        journal: of the sweep.
        start: starts a run, or goes on with it.

    Raises:
        ConfigError: where the sweep's metric is not among those of the experiment, or is better in
            the other direction.
        RunError: where the first trials all fail for the same reason, or files cannot be used.
        Interrupted: on SIGTERM or Ctrl-C, when the running trials have saved.
    """
    worker = _Worker(plan, journal, start)
    try:
        signal = run_all(worker.running, worker.begin, worker.follow)
    finally:
        for trial in worker.running:
            trial.lock.close()
    if not signal:
        return
    done = sum(trial.state.is_finished() for trial in journal.trials())
    raise Interrupted(
        f"Stopped by {signal} with {done} of {plan.trials} trials finished; the others are saved "
        f"in {plan.sweep_dir}: run the same command to go on."
    )


@dataclasses.dataclass(eq=False)
class _Trial:
    """A trial that this worker runs."""

    number: int
    experiment: Experiment
    lock: IO[str]
    lines: "MetricLines"
    reported: set[int]
    since: float = dataclasses.field(default_factory=time.monotonic)
    pruned: int | None = None  # the step at which it was


class _Worker:
    """One start of `mmjax sweep`: the trials that it runs, and what it does with them."""

    def __init__(self, plan: SweepPlan, journal: Journal, start: Starter) -> None:
        self.plan, self.journal, self.start = plan, journal, start
        self.running: dict[_Trial, RunProcess | None] = {}
        self.metric = f"valid/{plan.sweep.metric}"
        self.failures: list[str] = []
        if plan.sweep.pruning and not plan.experiment.training.eval_every:
            print("No trial is stopped early, because training.eval_every is 0.", flush=True)

    def begin(self) -> bool:
        """Takes trials until this worker has enough: interrupted ones first, then new ones."""
        before = len(self.running)
        while len(self.running) < self.plan.workers:
            with locked(self.plan.lock("ask")):
                trials = self.journal.trials()
                unfinished = {each.number for each in trials if each.state == TrialState.RUNNING}
                others = sorted(unfinished - {trial.number for trial in self.running})
                taken = next(filter(None, map(self._adopt, others)), None)
                if taken is None and len(trials) >= self.plan.trials:
                    break
                if taken is None:
                    lock = self._lock(len(trials))
                    if lock is None:
                        raise RunError(
                            f"{self.plan.lock(f'{len(trials):04d}')} is locked, and its trial is "
                            "not in the journal: start a new sweep with another --run-dir."
                        )
                    self.journal.begin(self.journal.suggest())
                    taken = self.journal.trial(len(trials)), lock
            self._take(*taken)
        return len(self.running) > before

    def follow(self, trial: _Trial) -> bool:
        """Handles what a trial has done since the last call; returns whether there was anything."""
        run = self.running[trial]
        if run is None:
            return self._start(trial)
        ended = run.ended()  # before its lines are read, so that none comes after
        steps = trial.experiment.training.steps
        lines = trial.lines.new() if trial.pruned is None else []
        for step, value in lines:
            known = max(trial.reported, default=0)
            if step == 0 or step < known:  # untrained, or reported by an earlier start
                continue
            if step > known:
                self.journal.report(trial.number, step, value)
                trial.reported.add(step)
            if (
                self.plan.sweep.pruning
                and step < steps
                and self.journal.hopeless(trial.number, steps)
            ):
                trial.pruned = step
                run.stop()
                break
        if not ended:
            return bool(lines)
        if trial.pruned is not None:
            seconds = round(run.seconds, 3)
            message = f"pruned at step {trial.pruned}"
            self._end(trial, message, TrialState.PRUNED, None, seconds=seconds)
        elif reason := run.failure():
            self._fail(trial, reason)
        else:
            self._complete(trial, run)
        return True

    def _lock(self, number: int) -> IO[str] | None:
        """The lock of a trial; None where another worker has it."""
        return lock_file(self.plan.lock(f"{number:04d}"))

    def _adopt(self, number: int) -> tuple[FrozenTrial, IO[str]] | None:
        """An unfinished trial whose worker has ended, and its lock; None where it has not."""
        lock = self._lock(number)
        if lock is None:
            return None
        trial = self.journal.trial(number)
        if trial.state == TrialState.RUNNING:
            return trial, lock
        lock.close()  # it was finished in between
        return None

    def _take(self, frozen: FrozenTrial, lock: IO[str]) -> None:
        """Adds a trial, whose lock this worker has, to those that it runs."""
        run_dir = self.plan.run_dir(frozen.number)
        trial = _Trial(
            frozen.number,
            self.plan.experiment,
            lock,
            MetricLines(run_dir / METRICS, self.metric),
            set(frozen.intermediate_values),
        )
        self.running[trial] = None
        begun = (run_dir / "config.json").exists()
        values = ", ".join(f"{name} {short(value)}" for name, value in frozen.params.items())
        print(f"trial {trial.number} {'goes on' if begun else 'begins'}: {values}", flush=True)
        try:
            trial.experiment = self.plan.sweep.trial(self.plan.experiment, frozen.params)
        except ConfigError as error:  # values that do not fit each other
            self._fail(trial, str(error))

    def _start(self, trial: _Trial) -> bool:
        """Starts the run of a trial, as soon as the process of an earlier start has ended."""
        run_dir = self.plan.run_dir(trial.number)
        begun = (run_dir / "config.json").exists()
        try:
            self.running[trial] = self.start(run_dir, to_json(trial.experiment))
        except RunError:
            if not begun or time.monotonic() > trial.since + PATIENCE:
                raise
            return False
        return True

    def _complete(self, trial: _Trial, run: RunProcess) -> None:
        result = RunDirectory(self.plan.run_dir(trial.number)).read(RESULT)
        if "directions" in result:
            self.plan.sweep.check_direction(result["directions"])
        value = result["metrics"].get(self.metric)
        if value is None:
            self._fail(trial, f"{self.metric} of its best checkpoint is not finite.")
            return
        seconds = max(run.seconds, float(result["seconds"]))  # an earlier start may have begun it
        message = f"{self.metric} {value:.4g} in {seconds:.0f} s"
        self._end(trial, message, TrialState.COMPLETE, float(value), seconds=seconds)

    def _fail(self, trial: _Trial, reason: str) -> None:
        """Records a failure; ends the sweep where all trials fail for the same reason."""
        run = self.running[trial]
        if run and run.interrupted():
            raise Interrupted(
                f"A signal from outside stopped the process of trial {trial.number}; what it has "
                f"saved is in {self.plan.sweep_dir}: run the same command to go on."
            )
        if reason.startswith(f"There is no {MONITORED}"):
            raise ConfigError(reason.replace(MONITORED, "metric for Sweep.metric", 1))
        facts = {"seconds": round(run.seconds, 3)} if run else {}
        self._end(trial, f"failed: {reason}", TrialState.FAIL, None, reason=reason, **facts)
        self.failures.append(reason)
        states = {each.state for each in self.journal.trials()}
        if (
            len(self.failures) >= SAME_FAILURES
            and len(set(self.failures)) == 1
            and not states & {TrialState.COMPLETE, TrialState.PRUNED}
        ):
            raise RunError(
                f"The first {len(self.failures)} trials all failed with: {reason} Fix it, and "
                "start a new sweep with another --run-dir."
            )

    def _end(
        self,
        trial: _Trial,
        message: str,
        state: TrialState,
        value: float | None,
        **facts: float | str,
    ) -> None:
        """Records how a trial ended, prints it, and frees its lock."""
        self.journal.end(trial.number, state, value, **facts)
        trial.lock.close()
        del self.running[trial]
        trials = self.journal.trials()
        done = sum(each.state.is_finished() for each in trials)
        best = self.journal.best()
        so_far = f"; best {best.value:.4g}, trial {best.number}" if best else ""
        total = max(self.plan.trials, len(trials))
        print(f"[{done}/{total}] trial {trial.number}: {message}{so_far}", flush=True)


class MetricLines:
    """Follows one metric of a run's `metrics.jsonl`, which a resumed run may shorten first.

    Args:
        path: of the file, which need not be there yet.
        metric: with its split.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self._path, self._metric = path, metric
        self._place, self._file = 0, 0

    def new(self) -> list[tuple[int, float]]:
        """(step, finite value) of the complete lines that were added since the last call.

        Raises:
            RunError: for a line that is damaged.
        """
        try:
            file = open(self._path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._file or status.st_size < self._place:
                self._file, self._place = status.st_ino, 0
            file.seek(self._place)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._place += len(complete)
        found = []
        for line in complete.splitlines():
            try:
                values = json.loads(line)
                if values.get(self._metric) is not None:
                    found.append((int(values["step"]), float(values[self._metric])))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RunError(
                    f"The file {self._path} is damaged ({line[:40]!r} is not a line of metrics): "
                    "remove that line and run the same command again."
                ) from error
        return found


def short(value: Any) -> str:
    """A parameter in few letters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
