"""From an experiment, or a run directory, to a `Run` that Python programs use."""

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.data import Dataset, DescribedData, resolve_folder
from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.models import Model
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.config import check_types, from_json
from mmjax.training.experiment import Experiment, Training
from mmjax.training.loop import train as fit
from mmjax.training.overrides import load_module
from mmjax.training.run import Run
from mmjax.training.run_directory import INTERFACE, RESULT, RunDirectory, fresh_run_dir
from mmjax.training.setup import Setup
from mmjax.training.sharding import Mesh
from mmjax.training.start import Origin, Start, names_taken


def train(
    experiment: Experiment, run_dir: str | Path = "", *, data_dir: str | Path | None = None
) -> Run:
    """Trains an experiment, or continues its run, and returns the finished run.

    Args:
        experiment: the experiment.
        run_dir: the run directory; may hold an unfinished or finished run of the same config. If
            empty, a new directory `runs/<name>-<time>` is made.
        data_dir: the folder of raw data; None takes the environment variable MMJAX_DATA.

    Raises:
        UserError: with the sentence that `mmjax train` prints: a `ConfigError` if parts of the
            experiment do not fit, a `DataError` if data is missing or damaged, a `RunError` if the
            run cannot continue.
    """
    with nullcontext(Path(run_dir)) if run_dir else fresh_run_dir(experiment.name) as path:
        fit(experiment, path, resolve_folder(str(data_dir) if data_dir else None))
    return open_run(path, experiment.name, experiment.data, experiment.model, experiment.training)


def load(
    run_dir: str | Path,
    *,
    checkpoint: str = "best",
    definitions: str | Path | ModuleType | None = None,
) -> Run:
    """Opens a finished run, without its training data.

    Args:
        run_dir: a directory that `mmjax.train` or `mmjax train` made.
        checkpoint: `best`, by `training.monitor` (if that is not set, the last), or `last`.
        definitions: the experiment file, or a module, with those classes of the model that mmjax
            does not define.

    Raises:
        RunError: the directory has no run, or the run is not finished or damaged.
        ConfigError: the model uses a class that neither mmjax nor `definitions` has.
    """
    if checkpoint not in ("best", "last"):
        raise unknown_name("checkpoint", checkpoint, ("best", "last"))
    if isinstance(definitions, str | Path):
        definitions = load_module(definitions)
    path = Path(run_dir)
    directory = RunDirectory(path)
    config = directory.config()
    if not (path / RESULT).exists():
        raise RunError(
            f"The run {path} is not finished: start its training again, which continues where it "
            "stopped."
        )
    try:
        data = from_json(directory.read(INTERFACE), definitions)
        model = from_json(config.get("model"), definitions)
        training = from_json(config.get("training"), definitions)
        name = directory.read(RESULT)["name"]
        complete = isinstance(data, DescribedData) and isinstance(model, Model)
        if not (complete and isinstance(training, Training)):
            raise TypeError("a part is missing")
        for part in (data, model, training):
            check_types(part)
    except ConfigError as error:
        raise ConfigError(
            f"The model of the run {path} cannot be rebuilt: {error} In Python, give that file as "
            "`definitions` to mmjax.load."
        ) from error
    except (TypeError, ValueError, KeyError) as error:
        raise RunError(
            f"The files of the run {path} are damaged ({error}): train it again."
        ) from error
    return open_run(path, str(name), data, model, training, checkpoint)


def open_run(
    path: Path, name: str, data: Dataset, model: Any, training: Training, checkpoint: str = "best"
) -> Run:
    """Opens a finished run with a given config; see `load`."""
    # Use the available devices, whatever the mesh of the training was.
    training = dataclasses.replace(training, mesh=Mesh(), steps=0, monitor="")
    setup = Setup(Experiment(name, data, model, (), training), None)
    checkpoints = Checkpoints(
        path / "checkpoints", fix="delete the directory of the run and train it again"
    )
    steps = checkpoints.steps()
    if not steps:
        raise RunError(f"The run directory {path} has no checkpoint: train the run again.")
    best = checkpoints.best() if checkpoint == "best" else None
    step = steps[-1] if best is None else best
    checkpoints.verify(step)
    try:
        names = names_taken(checkpoints.arrays(step), setup.abstract_state, (), "it")
    except ConfigError as error:
        raise RunError(
            f"The checkpoint of step {step} in {path} does not fit the model in its config: train "
            "the run again."
        ) from error
    origin = Origin(Start(str(path)), checkpoints, step, names)
    return Run(path, setup, origin.load_into(setup.create_state()))
