"""Where a run's parameters come from, if not from chance: a checkpoint of another run."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.training.checkpoints import Checkpoints, look, named_leaves
from mmjax.training.optimizer import in_part
from mmjax.training.run_directory import RunDirectory
from mmjax.training.step import TrainState

# What of a state can be taken, and as what: a parameter may be frozen here and trained there.
_KINDS = {"params": "parameter", "frozen": "parameter", "variables": "statistic"}
OWN = "{run_dir}"  # begins a `Start.run` that is seen from the new run's own directory


@dataclasses.dataclass(frozen=True)
class Start:
    """The run whose trained parameters a new run begins with.

    Step, optimizer state and random numbers begin anew. Where an experiment file sets it, the
    command line can change it (`--start.run DIR`); where the file leaves it out, it cannot.

    Attributes:
        run: the directory of that run, as seen from the current one; or, where it begins with
            `{run_dir}/`, from that of the new run, so that both can be moved together.
        checkpoint: the one with the best `training.monitor` (the last, where that run has none), or
            the last.
        parts: dotted names of the model's parameters to take, with its statistics beside them,
            such as `encoders` or `encoders.image`; none takes all. Parameters of objectives begin
            anew.
    """

    run: str
    checkpoint: Literal["best", "last"] = "best"
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.run:
            raise ConfigError("start.run is empty: name the directory of a run.")


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """A checkpoint that was found whole and fit to start from.

    Attributes:
        start: what named it.
        checkpoints: of that run.
        step: of the checkpoint.
        names: name of an array in the new state -> its name in the checkpoint.
    """

    start: Start
    checkpoints: Checkpoints
    step: int
    names: Mapping[str, str]

    def provenance(self) -> dict[str, Any]:
        """What `environment.json` says of it."""
        return {
            "run": self.start.run,
            "step": self.step,
            "manifest_sha256": self.checkpoints.manifest_sha256(self.step),
        }

    def give_to(self, state: TrainState) -> TrainState:
        """The fresh state with the arrays of the checkpoint, each read to where it is to lie.

        Raises:
            RunError: where the checkpoint cannot be read any more.
        """
        leaves = named_leaves(state)
        wanted = {
            there: jax.ShapeDtypeStruct(
                leaves[here].shape, leaves[here].dtype, sharding=leaves[here].sharding
            )
            for here, there in self.names.items()
        }
        read = self.checkpoints.read(self.step, wanted)
        for here, there in self.names.items():
            leaves[here] = jax.device_put(read[there], leaves[here].sharding)
        started = jax.tree.unflatten(jax.tree.structure(state), leaves.values())
        # There are optimizers whose state begins with a copy of the parameters.
        layout = jax.tree.map(lambda leaf: leaf.sharding, state.opt_state)
        init = jax.jit(started.program.optimizer.init, out_shardings=layout)
        return dataclasses.replace(started, opt_state=init(started.params))


def find_origin(start: Start, like: TrainState, run_dir: Path) -> Origin:
    """Looks for the checkpoint to start from; reads none of its arrays.

    Args:
        start: what names it.
        like: the fresh state, or its shapes.
        run_dir: the directory of the new run.

    Raises:
        ConfigError: for parts that the model does not have, or that differ in the two models.
        RunError: for a directory without run or checkpoint, or a damaged one.
    """
    _check_parts(start.parts, like)
    folder = Path(start.run)
    if folder.is_relative_to(OWN):
        folder = Path(os.path.normpath(run_dir / folder.relative_to(OWN)))
    if not (folder / "config.json").exists():
        raise RunError(
            f"start.run is {folder}, which is no run directory (it has no config.json): name "
            "one that `mmjax train` made."
        )
    RunDirectory(folder).config()  # refused where it is damaged, or of an older version
    checkpoints = Checkpoints(
        folder / "checkpoints", fix="make that run again, or name another one with start.run"
    )
    steps = checkpoints.steps()
    if not steps:
        raise RunError(
            f"start.run is {folder}, which has no checkpoint yet: run `mmjax train` with it "
            "first, or name another run."
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
    """Which arrays of a trained state a new one takes: its name here -> its name there.

    Args:
        arrays: name -> type and shape in the trained state, as by `look`.
        like: the new state, or its shapes.
        parts: of `Start`.
        source: what the trained state is, for the message.

    Raises:
        ConfigError: for parts that the new model does not have, or that differ in the two.
    """
    _check_parts(parts, like)
    leaves = named_leaves(like)
    here, there = _taken(leaves, parts), _taken(arrays, parts)
    ours = {key: look(leaves[name]) for key, name in here.items()}
    theirs = {key: arrays[name] for key, name in there.items()}
    differing = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if differing:
        key, more = differing[0], len(differing) - 1
        raise ConfigError(
            f"{source} is of another model ({' '.join(key)} is {theirs.get(key, 'absent')} in it "
            f"and {ours.get(key, 'absent')} here{f', and {more} more differ' if more else ''}): "
            "name in `parts` what both models have alike."
        )
    return {here[key]: there[key] for key in here}


def _taken(names: Iterable[str], parts: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """Of the names of a state's arrays those to take, by kind and dotted path."""
    taken = {}
    for name in names:
        top, _, rest = name.partition("/")
        if top not in _KINDS or not rest.startswith("model/"):
            continue
        path = rest.removeprefix("model/").replace("/", ".")
        if not parts or any(in_part(path, part) for part in parts):
            taken[_KINDS[top], path] = name
    return taken


def _check_parts(parts: tuple[str, ...], like: TrainState) -> None:
    """Refuses a part under which the model has no parameter."""
    paths = [path for kind, path in _taken(named_leaves(like), ()) if kind == "parameter"]
    for part in parts:
        if not any(in_part(path, part) for path in paths):
            depth = 2 if "." in part else 1
            there = dict.fromkeys(".".join(path.split(".")[:depth]) for path in paths)
            raise unknown_name("part of this model, for start.parts,", part, sorted(there))
