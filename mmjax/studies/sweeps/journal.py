"""The journal of a sweep: every trial in one file that several workers write, with Optuna.

A worker that is killed while it writes leaves an incomplete line at the end. Optuna skips it when
it reads, but appends the next line to it, which loses that line and makes the file unreadable from
then on. Here an incomplete line is cut off, and a copy of it kept, before anything is appended, and
under the same lock (`mmjax.training.locks`).

Reference:
    Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019.
"""

import json
import math
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmjax.errors import ConfigError, RunError
from mmjax.studies.sweeps.sweep import Choice, Integers, LogUniform, Range, Sweep
from mmjax.training.locks import lock_file

try:
    import optuna
except ModuleNotFoundError as missing:
    raise ConfigError("A sweep needs the package optuna: pip install 'mmjax[sweep]'.") from missing

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

STUDY = "sweep"  # the name of the one study in the file
STARTUP = 5  # trials that are completed before any is pruned
WARMUP = 4  # no trial is pruned in the first quarter of its steps


class Journal:
    """The trials of a sweep, shared by all its workers.

    Args:
        path: of the file; made where it is not there.
        sweep: whose trials it holds.

    Raises:
        RunError: for a file that is damaged, or cannot be written.
    """

    def __init__(self, path: Path, sweep: Sweep) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sweep = sweep
        best = optuna.study.StudyDirection
        self._direction = best.MAXIMIZE if sweep.direction == "max" else best.MINIMIZE
        self._distributions = {name: distribution(each) for name, each in sweep.space.items()}
        lock = _Lock(path)
        if path.exists():
            lock.acquire()
            lock.release()
            refuse_damaged(path)
        try:
            self._storage = JournalStorage(_Backend(str(path), lock))
        except (ValueError, LookupError, TypeError, AssertionError) as error:  # lines of JSON, but
            raise _damaged(path, f"({error!r})") from error
        try:
            self._study_id = self._storage.get_study_id_from_name(STUDY)
            self.study = optuna.load_study(study_name=STUDY, storage=self._storage)
        except KeyError:  # a new file; opening an old one writes nothing
            self.study = optuna.create_study(
                storage=self._storage, study_name=STUDY, direction=self._direction
            )
            self._study_id = self._storage.get_study_id_from_name(STUDY)
        for trial in self.trials():
            if trial.params.keys() != sweep.space.keys():
                raise _damaged(path, f"(trial {trial.number} has other parameters)")

    def trials(self) -> list[FrozenTrial]:
        """All trials that were begun so far, by number."""
        return self.study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """One trial as it is now."""
        return self._storage.get_trial(self._id(number))

    def suggest(self) -> dict[str, Any]:
        """The parameters of the next trial.

        The sampler is made from the seed of the sweep and the number of the trial, so that it
        depends on the trials before it and on nothing else.
        """
        trials = self.trials()
        seed = np.random.SeedSequence([self._sweep.seed, len(trials)]).generate_state(1)[0]
        sampler = optuna.samplers.TPESampler(seed=int(seed))
        draft = optuna.create_study(direction=self._direction, sampler=sampler)
        draft.add_trials(trials)
        return dict(draft.ask(self._distributions).params)

    def begin(self, parameters: Mapping[str, Any]) -> None:
        """Records the next trial in one line, so that all of it is in the journal, or nothing."""
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(parameters),
                distributions=self._distributions,
            )
        )

    def report(self, number: int, step: int, value: float) -> None:
        """Records the metric of a running trial at a step."""
        self._storage.set_trial_intermediate_value(self._id(number), step, value)

    def hopeless(self, number: int, steps: int) -> bool:
        """Whether a trial's best so far is worse than the median of the others at its last step."""
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=STARTUP, n_warmup_steps=-(-steps // WARMUP)
        )
        return bool(pruner.prune(self.study, self.trial(number)))

    def end(
        self, number: int, state: TrialState, value: float | None = None, **facts: float | str
    ) -> None:
        """Records how a trial ended: its state, its value where it is complete, and facts."""
        for name, fact in facts.items():
            self._storage.set_trial_user_attr(self._id(number), name, fact)
        self.study.tell(number, value, state=state, skip_if_finished=True)

    def tested(self) -> list[dict[str, Any]]:
        """The evaluations on `test` so far: `number` of the trial, `trials` then there, `test`."""
        return list(self.study.user_attrs.get("tested", ()))

    def note_test(self, number: int, metrics: Mapping[str, float | None]) -> None:
        """Records an evaluation of a trial on `test`; one worker at a time."""
        found = {"number": number, "trials": len(self.trials()), "test": dict(metrics)}
        self.study.set_user_attr("tested", [*self.tested(), found])

    def best(self) -> FrozenTrial | None:
        """The complete trial with the best value, the first of equals; None without any."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        sign = -1 if self._sweep.direction == "max" else 1
        return min(
            complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None
        )

    def importance(self, fewest: int) -> dict[str, float]:
        """Share of each parameter in the variance of the values (fANOVA), largest first.

        Empty where fewer than `fewest` trials are complete, or all have the same value.

        Reference:
            Hutter, Hoos and Leyton-Brown, "An efficient approach for assessing hyperparameter
            importance", ICML 2014.
        """
        values = [trial.value for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(values) < fewest or len(set(values)) < 2:
            return {}
        # Optuna's own choice, PED-ANOVA, names the wrong parameter where there are few trials.
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._sweep.seed)
        shares = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        order = sorted(shares, key=lambda name: -shares[name])
        return {name: float(shares[name]) for name in order}

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def distribution(each: Range) -> BaseDistribution:
    """A range in Optuna's terms."""
    if isinstance(each, Choice):
        return CategoricalDistribution(tuple(each.named))
    if isinstance(each, Integers):
        return IntDistribution(int(each.low), int(each.high), log=each.log)
    return FloatDistribution(float(each.low), float(each.high), log=isinstance(each, LogUniform))


def refuse_damaged(path: Path) -> None:
    """Refuses a journal with a damaged line; RunError names the first."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            valid = isinstance(json.loads(line)["op_code"], int)
        except (ValueError, TypeError, KeyError):
            valid = False
        if not valid:
            raise _damaged(path, f"in line {number}")


def _damaged(path: Path, where: str) -> RunError:
    return RunError(
        f"The file {path} is damaged {where}: restore it from a copy, or start a new sweep with "
        "another --run-dir."
    )


def cut_torn_line(path: Path) -> Path | None:
    """Cuts off an incomplete last line of a file; returns the path of the copy that is kept."""
    with open(path, "r+b") as file:
        if not file.seek(0, os.SEEK_END):
            return None
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return None
        file.seek(0)
        content = file.read()
        end = content.rfind(b"\n") + 1
        number = 1
        while (copy := path.with_name(f"{path.name}.torn-{number}")).exists():
            number += 1
        copy.write_bytes(content[end:])
        file.truncate(end)
        os.fsync(file.fileno())
    return copy


class _Lock(JournalFileOpenLock):
    """The lock for writing the journal; whoever gets it finds no incomplete line at the end."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._file = lock_file(self._journal.with_name(f"{self._journal.name}.lock"), math.inf)
        copy = cut_torn_line(self._journal) if self._journal.exists() else None
        if copy:
            print(
                f"The incomplete last line of {self._journal} is cut off, and kept in {copy.name}."
            )
        return True

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


class _Backend(JournalFileBackend):
    """The file, with errors in sentences."""

    def __init__(self, path: str, lock: _Lock) -> None:
        self._path = Path(path)
        super().__init__(path, lock)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except ValueError:
            refuse_damaged(self._path)
            raise

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        try:
            super().append_logs(list(logs))
        except OSError as error:
            raise RunError(
                f"The file {self._path} cannot be written ({error.strerror}): make room or get "
                "the permission, and run the same command again."
            ) from error
