"""Restores the experiment and the trained state of a run directory."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

from mmjax.data.catalogue import fingerprint
from mmjax.data.corruptions import SEVERITIES
from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.evaluation import evaluate
from mmjax.evaluation.embeddings import shapes_of
from mmjax.evaluation.robustness import Robustness, dropped, measure_robustness
from mmjax.structs import Batch
from mmjax.training.checkpoints import CheckpointGone, Checkpoints
from mmjax.training.config import differences, from_json, to_json
from mmjax.training.experiment import Experiment, check
from mmjax.training.provenance import ENVIRONMENT, check_data
from mmjax.training.run_directory import RESULT, RunDirectory
from mmjax.training.setup import Setup
from mmjax.training.sharding import Mesh, check_devices
from mmjax.training.step import TrainState

Which = Literal["best", "last"]

_TRIES = 20  # to read a checkpoint of a run that is being trained, and that deletes its older ones


def restore_run(
    run_dir: Path,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None = None,
    split: str | None = None,
    change: Callable[[Experiment], Experiment] | None = None,
) -> tuple[Setup, TrainState]:
    """Opens the data of a run and restores one of its checkpoints.

    Args:
        run_dir: a directory that `mmjax train` made.
        which: the checkpoint with the best `training.monitor` (if that is not set, the last), or
            the last.
        folder: the folder of raw data, or None.
        definitions: a module with the dataclasses of the config that mmjax does not define.
        split: a split that the data set must have, or None.
        change: makes another experiment of the run's, with other data, evaluation or mesh.

    Raises:
        RunError: the directory has no run or no checkpoint, or is damaged, or the data is not what
            the run was trained on.
        ConfigError: this version cannot make the config, or the split does not exist.
    """
    check_devices()
    directory = RunDirectory(run_dir)
    experiment = from_json(directory.config(), definitions)
    if not isinstance(experiment, Experiment):
        raise RunError(
            f"The file {run_dir / 'config.json'} does not hold an experiment: give a directory "
            "that `mmjax train` made."
        )
    trained_on = experiment.data
    if change:
        experiment = _changed(experiment, change(experiment))
    check(experiment)
    try:
        experiment.training.mesh.build()
    except ConfigError:  # other devices than in training: their rows are split over all of them
        training = dataclasses.replace(experiment.training, mesh=Mesh())
        experiment = dataclasses.replace(experiment, training=training)
    if split is not None:
        experiment.data.check_split(split)
    if (run_dir / ENVIRONMENT).exists() and experiment.data == trained_on:
        check_data(run_dir, directory.read(ENVIRONMENT), fingerprint(experiment.data, folder))
    setup = Setup(experiment, folder)
    for tries_left in reversed(range(_TRIES)):
        try:
            return setup, _restored(run_dir, which, setup)
        except CheckpointGone:
            if not tries_left:
                raise
    raise AssertionError("the last try has returned or raised")


def _changed(before: Experiment, after: Experiment) -> Experiment:
    """The experiment after options; ConfigError if one of them changes what was trained."""
    for part in (
        "name",
        "model",
        "objectives",
        "optimizer",
        "start",
        "transforms",
        "selections",
        "balance",
    ):
        changes = differences(to_json(getattr(before, part)), to_json(getattr(after, part)), part)
        if changes:
            raise ConfigError(
                f"The option --{changes[0]} changes a run that is trained already: give options of "
                "its data, evaluation or training.mesh only."
            )
    return after


def _restored(run_dir: Path, which: Which, setup: Setup) -> TrainState:
    checkpoints = Checkpoints(run_dir / "checkpoints")
    steps = checkpoints.steps()
    if not steps:
        raise RunError(
            f"The run directory {run_dir} has no checkpoint yet: finish its training with `mmjax "
            "train` first."
        )
    best = checkpoints.best() if which == "best" else None
    return checkpoints.restore(steps[-1] if best is None else best, setup.abstract_state)


def evaluate_run(
    run_dir: Path,
    split: str,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None = None,
    change: Callable[[Experiment], Experiment] | None = None,
    drop: Sequence[str] = (),
) -> dict[str, float]:
    """Evaluates a checkpoint on a split, and says if its run is not finished; see `restore_run`.

    Args:
        run_dir: as in `restore_run`, and so are the others.
        split: the split.
        which: best or last.
        folder: of raw data.
        definitions: of classes of the config.
        change: of the experiment.
        drop: modalities that are absent from all examples.
    """
    setup, state = _opened(run_dir, split, which, folder, definitions, change)
    for name in drop:
        if name not in setup.experiment.data.modalities:
            raise unknown_name("modality, for --drop,", name, setup.experiment.data.modalities)
    evaluators = setup.experiment.evaluation
    predictor = setup.predictor(state, evaluators).changed(lambda batch: dropped(batch, drop))
    return evaluate(evaluators, predictor, [split]).metrics


def robustness_of_run(
    run_dir: Path,
    split: str,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None = None,
    change: Callable[[Experiment], Experiment] | None = None,
    *,
    metric: str = "",
    only: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
) -> Robustness:
    """A metric of a run without modalities and with damaged ones; see `measure_robustness`.

    Args:
        run_dir: as in `evaluate_run`, and so are the next five.
        split: the split.
        which: best or last.
        folder: of raw data.
        definitions: of classes of the config.
        change: of the experiment.
        metric: name of a metric without its split; empty: training.monitor, or the first.
        only: names of corruptions; empty for all.
        severities: 1 to 5.
    """
    setup, state = _opened(run_dir, split, which, folder, definitions, change)
    evaluators, experiment = setup.experiment.evaluation, setup.experiment
    if not evaluators:
        raise ConfigError("The run has no evaluation, so no metric: give its experiment one.")

    predictor = setup.predictor(state, evaluators)

    def measured(change: Callable[[Batch], Batch]) -> dict[str, float]:
        return evaluate(evaluators, predictor.changed(change), [split]).metrics

    first = measured(lambda batch: batch)
    name = metric or experiment.training.monitor or next(iter(first)).partition("/")[2]
    if f"{split}/{name}" not in first:
        raise unknown_name("metric of the run", name, [each.partition("/")[2] for each in first])
    used = _embedded(experiment)
    return measure_robustness(
        lambda change: measured(change)[f"{split}/{name}"],
        name,
        experiment.data.modalities,
        used,
        only=only,
        severities=severities,
    )


def _embedded(experiment: Experiment) -> list[str]:
    """The modalities that the model of an experiment embeds."""
    return [name for name in shapes_of(experiment).embeddings if name in experiment.data.modalities]


def _opened(
    run_dir: Path,
    split: str,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None,
    change: Callable[[Experiment], Experiment] | None,
) -> tuple[Setup, TrainState]:
    """`restore_run`, which says if the run is not finished."""
    setup, state = restore_run(run_dir, which, folder, definitions, split, change)
    if not (run_dir / RESULT).exists():
        print(
            f"mmjax: The run {run_dir} is not finished: what is evaluated is its checkpoint of "
            f"step {int(state.step)}.",
            file=sys.stderr,
        )
    return setup, state
