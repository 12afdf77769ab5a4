"""Initialises the parameters of a run from a checkpoint of another run."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.training.checkpoints import Checkpoints, dtype_and_shape, named_leaves
from mmjax.training.optimizer import in_part
from mmjax.training.run_directory import RunDirectory
from mmjax.training.step import TrainState

# The parts of a state that can be copied. A parameter may be frozen in one run and trained in the
# other, so both count as parameters.
KINDS = {"params": "parameter", "frozen": "parameter", "variables": "statistic"}
OWN = "{run_dir}"  # prefix of a `Start.run` that is relative to the new run's directory


@dataclasses.dataclass(frozen=True)
class Start:
    """The run whose trained parameters initialise a new run.

    Step, optimizer state and random numbers start fresh. If an experiment file sets a start, the
    command line can change it (`--start.run DIR`); if the file has none, it cannot.

    Attributes:
        run: the directory of that run, relative to the current directory; or, if it begins with
            `{run_dir}/`, relative to that of the new run, so that both can be moved as one.
        checkpoint: the one with the best `training.monitor` (if that run has none, the last), or
            the last.
        parts: dotted names of the parts of the model whose parameters and statistics are copied,
            such as `encoders` or `encoders.image`; empty copies all. Parameters of objectives are
            never copied.
    """

    run: str
    checkpoint: Literal["best", "last"] = "best"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.run:
            raise ConfigError("start.run is empty: give the directory of a run.")


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """A checkpoint that was verified and fits the new model.

    Attributes:
        start: the config that names it.
        checkpoints: the checkpoints of that run.
        step: step of the checkpoint.
        names: name of an array in the new state -> its name in the checkpoint.
    """

    start: Start
    checkpoints: Checkpoints
    step: int
    names: Mapping[str, str]

    def provenance(self) -> dict[str, Any]:
        """The entry `start` of `environment.json`."""
        return {
            "run": self.start.run,
            "step": self.step,
            "manifest_sha256": self.checkpoints.manifest_sha256(self.step),
        }

    def load_into(self, state: TrainState) -> TrainState:
        """A fresh state with the arrays of the checkpoint in it, in the sharding of the state.

        Raises:
            RunError: the checkpoint can no longer be read.
        """
        leaves = named_leaves(state)
        wanted = {
            saved_name: jax.ShapeDtypeStruct(
                leaves[name].shape, leaves[name].dtype, sharding=leaves[name].sharding
            )
            for name, saved_name in self.names.items()
        }
        read = self.checkpoints.read(self.step, wanted)
        for name, saved_name in self.names.items():
            leaves[name] = jax.device_put(read[saved_name], leaves[name].sharding)
        return with_leaves(state, leaves)


def with_leaves(state: TrainState, leaves: Mapping[str, Any]) -> TrainState:
    """A fresh state with other arrays, by the names and in the order of `named_leaves`."""
    started = jax.tree.unflatten(jax.tree.structure(state), leaves.values())
    # Some optimizers initialise their state with a copy of the parameters.
    layout = jax.tree.map(lambda leaf: leaf.sharding, state.opt_state)
    init = jax.jit(started.program.optimizer.init, out_shardings=layout)
    return dataclasses.replace(started, opt_state=init(started.params))


def find_origin(start: Start, like: TrainState, run_dir: Path) -> Origin:
    """Finds and verifies the checkpoint to start from; does not load its arrays.

    Args:
        start: the config that names it.
        like: the fresh state, or its shapes.
        run_dir: the directory of the new run.

    Raises:
        ConfigError: the model does not have one of the parts, or the two models differ in one.
        RunError: the directory has no run or no checkpoint, or is damaged.
    """
    _check_parts(start.parts, like)
    folder = Path(start.run)
    if folder.is_relative_to(OWN):
        folder = Path(os.path.normpath(run_dir / folder.relative_to(OWN)))
    if not (folder / "config.json").exists():
        raise RunError(
            f"start.run is {folder}, which is not a run directory (it has no config.json): give "
            "one that `mmjax train` made."
        )
    RunDirectory(folder).config()  # raises if it is damaged, or of an older version
    checkpoints = Checkpoints(
        folder / "checkpoints", fix="train that run again, or give another one as start.run"
    )
    steps = checkpoints.steps()
    if not steps:
        raise RunError(
            f"start.run is {folder}, which has no checkpoint yet: finish its training with `mmjax "
            "train` first, or give another run."
        )
    best = checkpoints.best() if start.checkpoint == "best" else None
    step = steps[-1] if best is None else best
    source = f"The checkpoint {checkpoints.folder / str(step)} of start.run"
    names = names_taken(checkpoints.arrays(step), like, start.parts, source)
    checkpoints.verify(step)
    return Origin(start, checkpoints, step, names)


def names_taken(
    arrays: Mapping[str, str], like: TrainState, parts: tuple[str, ...], source: str
) -> dict[str, str]:
    """Which arrays of a trained state a new one takes: name in the new -> name in the trained.

    Args:
        arrays: name -> `dtype_and_shape` in the trained state.
        like: the new state, or its shapes.
        parts: of `Start`.
        source: what the trained state is, for the message.

    Raises:
        ConfigError: the new model does not have one of the parts, or the two differ in one.
    """
    _check_parts(parts, like)
    leaves = named_leaves(like)
    names, saved_names = _taken(leaves, parts), _taken(arrays, parts)
    ours = {key: dtype_and_shape(leaves[name]) for key, name in names.items()}
    theirs = {key: arrays[name] for key, name in saved_names.items()}
    differing = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if differing:
        key, more = differing[0], len(differing) - 1
        raise ConfigError(
            f"{source} is of another model ({' '.join(key)} is {theirs.get(key, 'absent')} in it "
            f"and {ours.get(key, 'absent')} in the new model"
            f"{f', and {more} more differ' if more else ''}): list in `parts` the parts that are "
            "equal in both models."
        )
    return {names[key]: saved_names[key] for key in names}


def _taken(names: Iterable[str], parts: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """The names of the arrays to copy, by kind and dotted path."""
    taken = {}
    for name in names:
        top, _, rest = name.partition("/")
        if top not in KINDS or not rest.startswith("model/"):
            continue
        path = rest.removeprefix("model/").replace("/", ".")
        if not parts or any(in_part(path, part) for part in parts):
            taken[KINDS[top], path] = name
    return taken


def _check_parts(parts: tuple[str, ...], like: TrainState) -> None:
    """Checks that the model has parameters in every part."""
    paths = [path for kind, path in _taken(named_leaves(like), ()) if kind == "parameter"]
    for part in parts:
        if not any(in_part(path, part) for path in paths):
            depth = 2 if "." in part else 1
            possible = dict.fromkeys(".".join(path.split(".")[:depth]) for path in paths)
            raise unknown_name("part of this model, for start.parts,", part, sorted(possible))
