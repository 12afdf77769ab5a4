"""The search of a sweep: asks for parameters, trains them, stops what is hopeless, goes on later.

Several workers share a sweep: the processes of one start (`--workers`), and starts on the same
directory, on one machine or on several with one file system. What they know of each other is in
the journal, and in locks of the kernel that are free as soon as their holder is gone:

    DIR/journal.log          all trials (`journal.py`)
    DIR/sweep_config.json    sweep and experiment, which every start must agree with
    DIR/locks/ask            held while a trial is taken
    DIR/locks/0007           held by the worker of trial 7; free although it runs: adopt it
    DIR/trials/0007/         the run directory of trial 7

What a trial is told depends on the lines of its `metrics.jsonl` and the trials before it, not on
when a worker looked, so that a sweep with one worker suggests the same parameters however often it
was killed.
"""

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from mmjax.errors import ConfigError, RunError
from mmjax.studies.processes import PATIENCE
from mmjax.studies.sweeps.journal import FrozenTrial, Journal, TrialState
from mmjax.studies.sweeps.plan import SweepPlan, held
from mmjax.training.config import to_json
from mmjax.training.experiment import Experiment
from mmjax.training.loop import METRICS, MONITORED, Interrupted
from mmjax.training.run_directory import RESULT, RunDirectory
from mmjax.training.signals import stop_signal

POLL = 0.1  # seconds between two looks at the processes
SAME_FAILURES = 3  # so many first trials that fail for one reason end the sweep


@runtime_checkable
class Run(Protocol):
    """A run in a process of its own: `RunProcess`."""

    @property
    def seconds(self) -> float:
        """How long it has been at work."""

    def ended(self) -> bool:
        """Whether the process has ended."""

    def interrupted(self) -> bool:
        """Whether somebody else ended the process by a signal."""

    def failure(self) -> str:
        """Why an ended process failed; empty where it did not."""

    def stop(self) -> None:
        """Asks it to save and end."""

    def wait(self) -> None:
        """Waits for the end."""


Starter = Callable[[Path, Mapping[str, Any]], Run]  # run directory, config


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
        with stop_signal() as stopped:
            while not stopped():
                busy = worker.take()
                if not worker.at_work:
                    return
                busy |= any([worker.look(trial) for trial in list(worker.at_work)])
                if not busy:
                    time.sleep(POLL)
            signal = stopped()
    finally:
        worker.leave()
    done = sum(trial.state.is_finished() for trial in journal.trials())
    raise Interrupted(
        f"Stopped by {signal} with {done} of {plan.trials} trials finished; the others are saved "
        f"in {plan.sweep_dir}: run the same command to go on."
    )


@dataclasses.dataclass(eq=False)
class _Trial:
    """A trial that this worker is at work on."""

    number: int
    experiment: Experiment
    lock: IO[str]
    lines: "MetricLines"
    reported: set[int]
    since: float = dataclasses.field(default_factory=time.monotonic)
    run: Run | None = None
    pruned: int | None = None  # the step at which it was


class _Worker:
    """One start of `mmjax sweep`: the trials that it has, and what it does with them."""

    def __init__(self, plan: SweepPlan, journal: Journal, start: Starter) -> None:
        self.plan, self.journal, self.start = plan, journal, start
        self.at_work: list[_Trial] = []
        self.metric = f"valid/{plan.sweep.metric}"
        self.failures: list[str] = []
        if plan.sweep.pruning and not plan.experiment.training.eval_every:
            print("No trial is stopped early, for training.eval_every is 0.", flush=True)

    def take(self) -> bool:
        """Takes trials until this worker has enough: left ones first, then new ones."""
        before = len(self.at_work)
        while len(self.at_work) < self.plan.workers:
            with held(self.plan.lock("ask")):
                trials = self.journal.trials()
                running = [each.number for each in trials if each.state == TrialState.RUNNING]
                mine = {trial.number for trial in self.at_work}
                left = next(filter(None, map(self._adopt, sorted({*running} - mine))), None)
                if left is None and len(trials) >= self.plan.trials:
                    break
                if left is None:
                    lock = self._lock(len(trials))
                    if lock is None:
                        raise RunError(
                            f"{self.plan.lock(f'{len(trials):04d}')} is locked, and its trial is "
                            "not in the journal: start the sweep anew with another --run-dir."
                        )
                    self.journal.begin(self.journal.suggest())
                    left = self.journal.trial(len(trials)), lock
            self._begin(*left)
        return len(self.at_work) > before

    def look(self, trial: _Trial) -> bool:
        """Takes note of what a trial has done since; whether there was anything."""
        if trial.run is None:
            return self._go(trial)
        ended = trial.run.ended()  # before its lines, so that none comes after
        steps = trial.experiment.training.steps
        news = trial.lines.new() if trial.pruned is None else []
        for step, value in news:
            known = max(trial.reported, default=0)
            if step == 0 or step < known:  # untrained, or told by an earlier start
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
                trial.run.stop()
                break
        if not ended:
            return bool(news)
        if trial.pruned is not None:
            facts = {"seconds": round(trial.run.seconds, 3)}
            self._end(trial, f"pruned at step {trial.pruned}", TrialState.PRUNED, None, **facts)
        elif reason := trial.run.failure():
            self._failed(trial, reason)
        else:
            self._completed(trial)
        return True

    def leave(self) -> None:
        """Stops what is still at work; it saves, and another start goes on with it."""
        for trial in self.at_work:
            if trial.run:
                trial.run.stop()
        for trial in self.at_work:
            if trial.run:
                trial.run.wait()
            trial.lock.close()
        self.at_work = []

    def _lock(self, number: int) -> IO[str] | None:
        """The lock of a trial; None where another worker holds it."""
        file = open(self.plan.lock(f"{number:04d}"), "a", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def _adopt(self, number: int) -> tuple[FrozenTrial, IO[str]] | None:
        """A running trial whose worker is gone; None where it is not."""
        lock = self._lock(number)
        if lock is None:
            return None
        trial = self.journal.trial(number)
        if trial.state == TrialState.RUNNING:
            return trial, lock
        lock.close()  # it was finished in between
        return None

    def _begin(self, frozen: FrozenTrial, lock: IO[str]) -> None:
        """Puts a trial to work, its lock held."""
        run_dir = self.plan.run_dir(frozen.number)
        trial = _Trial(
            frozen.number,
            self.plan.experiment,
            lock,
            MetricLines(run_dir / METRICS, self.metric),
            set(frozen.intermediate_values),
        )
        self.at_work.append(trial)
        begun = (run_dir / "config.json").exists()
        values = ", ".join(f"{name} {_short(value)}" for name, value in frozen.params.items())
        print(f"trial {trial.number} {'goes on' if begun else 'begins'}: {values}", flush=True)
        try:
            trial.experiment = self.plan.sweep.trial(self.plan.experiment, frozen.params)
        except ConfigError as error:  # values that do not fit each other
            self._failed(trial, str(error))

    def _go(self, trial: _Trial) -> bool:
        """Starts the run of a trial, as soon as the process of an earlier start has ended."""
        run_dir = self.plan.run_dir(trial.number)
        left = (run_dir / "config.json").exists()
        try:
            trial.run = self.start(run_dir, to_json(trial.experiment))
        except RunError:
            if not left or time.monotonic() > trial.since + PATIENCE:
                raise
            return False
        return True

    def _completed(self, trial: _Trial) -> None:
        result = RunDirectory(self.plan.run_dir(trial.number)).read(RESULT)
        if "directions" in result:
            self.plan.sweep.check_direction(result["directions"])
        value = result["metrics"].get(self.metric)
        if value is None:
            self._failed(trial, f"{self.metric} of its best checkpoint is not finite.")
            return
        here = trial.run.seconds if trial.run else 0.0
        seconds = max(here, float(result["seconds"]))  # it may have begun in an earlier start
        said = f"{self.metric} {value:.4g} in {seconds:.0f} s"
        self._end(trial, said, TrialState.COMPLETE, float(value), seconds=seconds)

    def _failed(self, trial: _Trial, reason: str) -> None:
        """Notes a failure; ends the sweep where all trials will fail like this."""
        if trial.run and trial.run.interrupted():
            raise Interrupted(
                f"The process of trial {trial.number} was stopped by somebody else; it goes on "
                f"from what it saved in {self.plan.sweep_dir}: run the same command to go on."
            )
        if reason.startswith(f"There is no {MONITORED}"):
            raise ConfigError(reason.replace(MONITORED, "metric for Sweep.metric", 1))
        facts: dict[str, float | str] = {"reason": reason}
        if trial.run:
            facts["seconds"] = round(trial.run.seconds, 3)
        self._end(trial, f"failed: {reason}", TrialState.FAIL, None, **facts)
        self.failures.append(reason)
        trials = self.journal.trials()
        states = {each.state for each in trials}
        if (
            len(self.failures) >= SAME_FAILURES
            and len(set(self.failures)) == 1
            and not states & {TrialState.COMPLETE, TrialState.PRUNED}
        ):
            raise RunError(
                f"The first {len(self.failures)} trials all failed with: {reason} Mend it, and "
                "start the sweep anew with another --run-dir."
            )

    def _end(
        self,
        trial: _Trial,
        said: str,
        state: TrialState,
        value: float | None,
        **facts: float | str,
    ) -> None:
        """Notes how a trial ended, says so, and lets go of it."""
        self.journal.end(trial.number, state, value, **facts)
        trial.lock.close()
        self.at_work.remove(trial)
        trials = self.journal.trials()
        done = sum(each.state.is_finished() for each in trials)
        best = self.journal.best()
        then = f"; best {best.value:.4g}, trial {best.number}" if best else ""
        total = max(self.plan.trials, len(trials))
        print(f"[{done}/{total}] trial {trial.number}: {said}{then}", flush=True)


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
        """(step, value) of the whole lines that were added since; those not finite are left out.

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
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        found = []
        for line in whole.splitlines():
            try:
                values = json.loads(line)
                if values.get(self._metric) is not None:
                    found.append((int(values["step"]), float(values[self._metric])))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise RunError(
                    f"The file {self._path} is damaged ({line[:40]!r} is no line of metrics): "
                    "remove that line and run the same command again."
                ) from error
        return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
