"""The members of an ensemble: finished runs, checked against each other, and what they say.

A run of the whole train split is a member. Runs that each leave out a `Fold` of it, and whose
configs are equal otherwise, are one member together.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import scipy.special

from mmjax.data import Fold, Selected
from mmjax.errors import ConfigError, RunError, article
from mmjax.evaluation import Predictor, Reads
from mmjax.evaluation.embeddings import shapes_of
from mmjax.training.config import differences, from_json, to_json
from mmjax.training.experiment import Experiment
from mmjax.training.restore import Which, restore_run
from mmjax.training.run_directory import RESULT, RunDirectory


@dataclasses.dataclass(frozen=True)
class MemberRun:
    """A finished run: its directory, its config as JSON and as values, and its data's hashes."""

    path: Path
    config: Mapping[str, Any]
    experiment: Experiment
    hashes: Mapping[str, str]

    @property
    def fold(self) -> Fold | None:
        """The fold that it leaves out."""
        folds = [each for each in self.experiment.selections if isinstance(each, Fold)]
        if len(folds) > 1:
            raise ConfigError(
                f"The run {self.path} leaves out {len(folds)} folds: an ensemble takes runs with "
                "one Fold in their selections, or none."
            )
        return folds[0] if folds else None


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of an ensemble: a run, or the runs of all folds in the order of the folds."""

    name: str
    runs: tuple[MemberRun, ...]

    @property
    def target(self) -> str:
        """Name of the target that it classifies."""
        return _target(self.runs[0])


@dataclasses.dataclass(frozen=True)
class Said:
    """What a member says of examples.

    Attributes:
        probabilities: split -> [N, C] float64, by record number.
        labels: split -> [N].
        trained_on: [N] bool, which of the train examples one of its runs at least was trained on;
            empty where `train` is not predicted.
    """

    probabilities: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    trained_on: np.ndarray


def open_members(run_dirs: Sequence[Path], definitions: ModuleType | None) -> list[Member]:
    """Reads the runs, without their checkpoints, and puts those of folds together.

    Args:
        run_dirs: of finished runs.
        definitions: a module with dataclasses of the configs that are not mmjax's.

    Raises:
        ConfigError: for runs that make no ensemble.
        RunError: for a directory without run, or a run that is not finished or is damaged.
    """
    if len(run_dirs) < 2:
        raise ConfigError("An ensemble needs two runs or more: name their directories.")
    resolved = [path.resolve() for path in run_dirs]
    for path, place in zip(run_dirs, resolved, strict=True):
        if resolved.count(place) > 1:
            raise ConfigError(f"The run {path} is named twice: name each run once.")
    runs = [_open(path, definitions) for path in run_dirs]
    for run in runs[1:]:
        _check_alike(runs[0], run)
    shared = os.path.commonpath(resolved)
    names = {
        run.path: os.path.relpath(place, shared) if str(place) != shared else place.name
        for run, place in zip(runs, resolved, strict=True)
    }
    without = [run for run in runs if run.fold is None]
    if not without:
        return _joined(runs, names)
    if len(without) < len(runs):
        with_fold = next(run for run in runs if run.fold)
        raise ConfigError(
            f"The run {with_fold.path} leaves out a fold and {without[0].path} does not, so there "
            "is nothing to fit both on: name runs of one kind."
        )
    return [Member(names[run.path], (run,)) for run in runs]


def _open(path: Path, definitions: ModuleType | None) -> MemberRun:
    directory = RunDirectory(path)
    config = directory.config()
    if not (path / RESULT).exists():
        raise RunError(
            f"The run {path} is not finished: start its `mmjax train` again, and then the ensemble."
        )
    directory.read(RESULT)
    experiment = from_json(config, definitions)
    if not isinstance(experiment, Experiment):
        raise RunError(
            f"The file {path / 'config.json'} holds no experiment: name a directory that "
            "`mmjax train` made."
        )
    return MemberRun(path, config, experiment, directory.read("environment.json").get("data") or {})


def _target(run: MemberRun) -> str:
    """Name of the one target whose classes the run's model predicts."""
    targets = run.experiment.data.targets
    predicted = shapes_of(run.experiment).predictions
    classes = [name for name in predicted if targets[name].kind == "class"]
    if len(classes) != 1:
        raise ConfigError(
            f"The run {run.path} is of {article(type(run.experiment.model).__name__)} that "
            f"predicts {len(classes)} targets of classes, but an ensemble is of one: leave the run "
            "out."
        )
    return classes[0]


def _check_alike(one: MemberRun, other: MemberRun) -> None:
    """Refuses two runs that do not say something of the same examples."""
    if _target(one) != _target(other):
        raise ConfigError(
            f"The run {one.path} classifies {_target(one)!r} and {other.path} {_target(other)!r}: "
            "name runs of one target."
        )
    configs = [to_json(run.experiment.data) for run in (one, other)]
    changes = differences(configs[0], configs[1], "data") or differences(
        one.hashes, other.hashes, "data"
    )
    if changes:
        raise ConfigError(
            f"The runs {one.path} and {other.path} have different data ({changes[0]}), so a record "
            "number is not the same example in both: name runs of one data set."
        )


def _joined(runs: Sequence[MemberRun], names: Mapping[Path, str]) -> list[Member]:
    """Members of runs with folds."""
    groups: dict[str, dict[int, MemberRun]] = {}
    for run in runs:
        assert run.fold, "the caller has looked"
        _check_start(run)
        group = groups.setdefault(_but_for_the_fold(run), {})
        if run.fold.index in group:
            raise ConfigError(
                f"The runs {group[run.fold.index].path} and {run.path} leave out the same fold of "
                "the same experiment: name one of them."
            )
        group[run.fold.index] = run
    members = []
    for group in groups.values():
        first = next(iter(group.values()))
        assert first.fold, "as before"
        count = first.fold.count
        for index in range(count):
            if index not in group:
                raise ConfigError(
                    f"Fold {index} of {count} is missing beside the run {first.path}: train it "
                    f"with {dataclasses.replace(first.fold, index=index)} and else the same "
                    "config, and name it too."
                )
        members.append(
            Member(
                f"{names[first.path]} ({count} folds)",
                tuple(group[index] for index in range(count)),
            )
        )
    if len(members) < 2:
        raise ConfigError(
            f"These {len(runs)} runs are the folds of one experiment, which is one member: name "
            "the runs of another experiment too."
        )
    return members


def _but_for_the_fold(run: MemberRun) -> str:
    """What the configs of the runs of one member have in common, as text."""
    experiment = run.experiment
    selections = tuple(
        dataclasses.replace(each, index=0) if isinstance(each, Fold) else each
        for each in experiment.selections
    )
    start = experiment.start and dataclasses.replace(experiment.start, run="of its fold")
    alike = dataclasses.replace(experiment, selections=selections, start=start)
    return json.dumps(to_json(alike), sort_keys=True)


def _check_start(run: MemberRun) -> None:
    """Refuses a run that starts from one which was trained on what its fold leaves out."""
    fold, start = to_json(run.fold), run.config.get("start")
    while start:
        origin = Path(start["run"])
        config = RunDirectory(origin).config()
        if fold not in (config.get("selections") or []):
            raise ConfigError(
                f"The run {run.path} starts from {origin}, which was trained on the examples that "
                "the fold leaves out: let both leave out the same fold."
            )
        start = config.get("start")


def predict(
    member: Member,
    splits: Sequence[str],
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None,
) -> Said:
    """Restores the runs of a member, one after the other, and lets them predict.

    Of `train`, each run of a member with folds predicts the examples that it has left out; of the
    other splits the result is the mean over its runs.

    Args:
        member: to restore.
        splits: to predict; `train` only for a member with folds.
        which: the checkpoint; see `restore_run`.
        folder: the folder of raw data, or None.
        definitions: a module with dataclasses of the config that are not mmjax's.
    """
    told = [_told_by(run, member.target, splits, which, folder, definitions) for run in member.runs]
    probabilities, labels = {}, {}
    for split in splits:
        records = [each.records[split] for each in told]
        if split == "train":  # every record once, from the run that had left it out
            order = np.argsort(np.concatenate(records))
            probabilities[split] = np.concatenate([each.p[split] for each in told])[order]
            labels[split] = np.concatenate([each.labels[split] for each in told])[order]
        else:
            probabilities[split] = np.mean([each.p[split] for each in told], axis=0)
            labels[split] = told[0].labels[split]
    trained_on = np.logical_or.reduce([each.trained_on for each in told])
    if "train" in splits:  # of the records that have a label
        trained_on = trained_on[np.sort(np.concatenate([each.records["train"] for each in told]))]
    return Said(probabilities, labels, trained_on)


@dataclasses.dataclass(frozen=True)
class _Told:
    """What one run says: split -> record numbers, probabilities and labels of them."""

    records: Mapping[str, np.ndarray]
    p: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    trained_on: np.ndarray


def _told_by(
    run: MemberRun,
    target: str,
    splits: Sequence[str],
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None,
) -> _Told:
    setup, state = restore_run(run.path, which, folder, definitions)
    source_of, trained_on = setup.source, np.zeros(0, bool)
    if "train" in splits:
        unselected, selected = setup.unselected("train"), setup.source("train")
        assert run.fold, "only members with folds predict `train`"
        assert isinstance(selected, Selected), "what a Fold makes"
        left_out = Selected(unselected, run.fold.held_out(len(unselected)))
        trained_on = np.isin(np.arange(len(unselected)), selected.records)
        source_of = {
            split: left_out if split == "train" else setup.source(split) for split in splits
        }.__getitem__
    reads = Reads(predictions=(target,), targets=(target,))
    predictor = Predictor(
        setup.forward(state, reads), source_of, setup.eval_rows, setup.experiment.data, reads
    )
    records, p, labels = {}, {}, {}
    for split in splits:
        predictions = predictor(split)
        known = predictions.known(target)
        logits = predictions.predictions[target][known].astype(np.float64)
        records[split] = predictions.ids[known]
        p[split] = scipy.special.softmax(logits, axis=1)
        labels[split] = predictions.targets[target][known]
    jax.clear_caches()  # what was compiled for this run would fill the memory for nothing
    return _Told(records, p, labels, trained_on)
