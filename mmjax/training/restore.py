"""From a run directory back to its experiment and its trained state."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Literal

from mmjax.errors import RunError
from mmjax.evaluation import evaluate
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.config import from_json
from mmjax.training.experiment import Experiment, check
from mmjax.training.run_directory import RunDirectory
from mmjax.training.setup import Setup
from mmjax.training.sharding import Mesh
from mmjax.training.step import TrainState

Which = Literal["best", "last"]


def restore_run(
    run_dir: Path,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None = None,
    split: str | None = None,
) -> tuple[Setup, TrainState]:
    """Opens the data of a run and restores one of its checkpoints.

    Args:
        run_dir: that `mmjax train` made.
        which: the checkpoint with the best `training.monitor` (the last, where that is not set), or
            the last.
        folder: the folder of raw data, or None.
        definitions: a module with dataclasses of the config that are not mmjax's.
        split: that the data set has to have, or None.

    Raises:
        RunError: for a directory without run or checkpoint, or a damaged one.
        ConfigError: for a config that this version cannot make, or a split that is not there.
    """
    experiment = from_json(RunDirectory(run_dir).config(), definitions)
    if not isinstance(experiment, Experiment):
        raise RunError(
            f"The file {run_dir / 'config.json'} holds no experiment: name a directory that "
            "`mmjax train` made."
        )
    # On the devices that are here, whatever the mesh of the training was.
    training = dataclasses.replace(experiment.training, mesh=Mesh())
    experiment = dataclasses.replace(experiment, training=training)
    check(experiment)
    if split is not None:
        experiment.data.check_split(split)
    checkpoints = Checkpoints(run_dir / "checkpoints")
    steps = checkpoints.steps()
    if not steps:
        raise RunError(f"{run_dir} has no checkpoint yet: run `mmjax train` with it first.")
    best = checkpoints.best() if which == "best" else None
    setup = Setup(experiment, folder)
    state = checkpoints.restore(steps[-1] if best is None else best, setup.abstract_state)
    return setup, state


def evaluate_run(
    run_dir: Path,
    split: str,
    which: Which,
    folder: Path | None,
    definitions: ModuleType | None = None,
) -> dict[str, float]:
    """Evaluates a checkpoint of a run on a split; see `restore_run`."""
    setup, state = restore_run(run_dir, which, folder, definitions, split)
    evaluators = setup.experiment.evaluation
    return evaluate(evaluators, setup.predictor(state, evaluators), [split]).metrics
