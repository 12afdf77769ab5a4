"""Checkpoints: written completely or not at all, and verified when read.

A checkpoint is a folder named after its step. It holds the files of Orbax, and a manifest with the
SHA-256 of every file. It is written under a temporary name and then renamed, so that a killed run
or a full disk leaves the earlier checkpoints unchanged.
"""

import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from mmjax.errors import RunError
from mmjax.training.durable import move_durably
from mmjax.training.step import TrainState

MANIFEST = "manifest.json"
_DRAFT = "saving-"  # prefix of folders that are being written or deleted

# Orbax logs a traceback from every thread that fails; the `RunError` reports it once.
logging.getLogger("absl").addFilter(lambda record: "_SignalingThread" not in record.getMessage())


class CheckpointGone(RunError):
    """A checkpoint was deleted while it was read, as a training does with its older ones."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the folder that holds them; created when the first one is saved.
        fix: what the user can do about a damaged checkpoint, for the error message. By default:
            delete it and continue the run.
    """

    def __init__(self, folder: Path, fix: str = "") -> None:
        self.folder = folder
        self._fix = fix

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))

    def facts(self, step: int) -> dict[str, Any]:
        """The JSON values that were saved with the arrays of a checkpoint."""
        return self._manifest(step)["facts"]

    def arrays(self, step: int) -> dict[str, str]:
        """Name -> `dtype_and_shape` of every array of a checkpoint."""
        return self._manifest(step)["arrays"]

    def best(self) -> int | None:
        """The step with the best `monitor` value, the first of equals; None if none has one.

        The highest is best, or the lowest where `better` is "min".
        """
        all_facts = {step: self.facts(step) for step in self.steps()}
        monitored = {step: facts for step, facts in all_facts.items() if "monitor" in facts}
        if not monitored:
            return None
        sign = -1 if any(facts.get("better") == "min" for facts in monitored.values()) else 1
        return max(monitored, key=lambda step: sign * monitored[step]["monitor"])

    def manifest_sha256(self, step: int) -> str:
        """The SHA-256 of a checkpoint's manifest, which in turn has that of every file."""
        return _sha256(self.folder / str(step) / MANIFEST)

    def save(self, state: TrainState, data: Any, facts: dict[str, Any]) -> None:
        """Saves a state, the data iterator's position and JSON facts under the state's step.

        Raises:
            RunError: it cannot be written, or the parameters are not finite; the earlier
                checkpoints stay.
        """
        step = int(state.step)
        target = self.folder / str(step)
        if target.exists():
            return
        if not _all_finite((state.params, state.variables)):
            raise RunError(
                f"The parameters after {step} steps are not finite and were not saved "
                f"({self._last_good()}): lower optimizer.learning_rate or set optimizer.clip_norm."
            )
        draft = self.folder / f"{_DRAFT}{step}"
        flat = named_leaves(state)
        threads = set(threading.enumerate())
        try:
            self._sweep()
            self.folder.mkdir(parents=True, exist_ok=True)
            with _without_wildcards(self.folder) as folder:
                ocp.save_checkpointables(
                    folder / draft.name, {"state": flat, "data": data}, overwrite=True
                )
            manifest = {
                "step": step,
                "facts": facts,
                "files": {path: _sha256(draft / path) for path in _files(draft)},
                "arrays": {name: dtype_and_shape(leaf) for name, leaf in flat.items()},
            }
            with open(draft / MANIFEST, "w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            move_durably(draft, target)
        except Exception as error:  # Orbax and TensorStore raise many kinds
            for thread in set(threading.enumerate()) - threads:
                # Threads of Orbax. The first error was raised; their own `join` would raise again.
                threading.Thread.join(thread, timeout=1)
            self._sweep()
            raise RunError(
                f"The checkpoint of step {step} cannot be written to {self.folder} "
                f"({_reason(error)}; {self._last_good()}): free disk space there and run the same "
                "command again."
            ) from error

    def keep(self, steps: Iterable[int]) -> None:
        """Deletes all checkpoints except those of the given steps."""
        for step in set(self.steps()) - set(steps):
            # Renamed first, so that a partly deleted folder does not count as a checkpoint.
            os.replace(self.folder / str(step), self.folder / f"{_DRAFT}{step}")
        self._sweep()

    def restore(self, step: int, like: TrainState, data: Any = None) -> TrainState:
        """Reads a checkpoint.

        Args:
            step: one of `steps()`.
            like: a state of the same experiment, or its shapes, with the sharding to restore to.
            data: a data iterator that is set to the saved position, or None to leave it out.

        Raises:
            RunError: the checkpoint is damaged or belongs to another model.
        """
        self.verify(step)
        flat = named_leaves(like)
        self._check_model(step, flat)
        shapes = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in flat.items()
        }
        wanted = {"state": shapes} | ({} if data is None else {"data": data})
        loaded = self._load(step, wanted)["state"]
        # Orbax restores a PRNG key with a sharding of rank 1: give every leaf that of `like`.
        leaves = [jax.device_put(loaded[name], leaf.sharding) for name, leaf in flat.items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def read(self, step: int, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """Reads only the given arrays of a checkpoint; see `arrays` and `verify`.

        Args:
            step: one of `steps()`.
            wanted: name -> shape, dtype and sharding; shape and dtype as saved.

        Raises:
            RunError: the checkpoint cannot be read.
        """
        context = ocp.Context()
        context.pytree.loading.partial_load = True
        with context:
            return self._load(step, {"state": dict(wanted)})["state"]

    def verify(self, step: int) -> None:
        """Raises a RunError for a checkpoint with a missing or a changed file."""
        folder = self.folder / str(step)
        for path, digest in self._manifest(step)["files"].items():
            if not (folder / path).is_file():
                raise self._damaged(step, f"its file {path} is missing")
            try:
                found = _sha256(folder / path)
            except FileNotFoundError as error:
                raise self._damaged(step, f"its file {path} is missing") from error
            except OSError as error:
                raise _unreadable(folder / path, error) from error
            if found != digest:
                raise self._damaged(step, f"its file {path} has changed since it was written")

    def _load(self, step: int, wanted: dict[str, Any]) -> dict[str, Any]:
        folder = self.folder / str(step)
        try:
            with _without_wildcards(folder) as readable:
                return ocp.load_checkpointables(readable, wanted)
        except Exception as error:  # Orbax and TensorStore raise many kinds
            self.verify(step)  # the files may have been deleted since they were verified
            raise RunError(
                f"The checkpoint {folder} does not fit this experiment's model ({_reason(error)}): "
                "use the experiment and the version of mmjax that made it."
            ) from error

    def _manifest(self, step: int) -> dict[str, Any]:
        path = self.folder / str(step) / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise self._damaged(step, f"{MANIFEST} is missing") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        except ValueError as error:
            raise self._damaged(step, f"{MANIFEST} cannot be read") from error
        parts = ("facts", "files", "arrays")
        if not isinstance(manifest, dict) or not all(
            isinstance(manifest.get(part), dict) for part in parts
        ):
            raise self._damaged(step, f"{MANIFEST} does not have all of {', '.join(parts)}")
        return manifest

    def _check_model(self, step: int, flat: dict[str, Any]) -> None:
        """Raises a RunError if the arrays differ in name, dtype or shape from the checkpoint's."""
        saved, expected = self.arrays(step), {name: dtype_and_shape(flat[name]) for name in flat}
        differing = [name for name in expected | saved if expected.get(name) != saved.get(name)]
        if differing:
            name, more = differing[0], len(differing) - 1
            raise RunError(
                f"The checkpoint {self.folder / str(step)} is of another model ({name} is "
                f"{saved.get(name, 'absent')} in the checkpoint and "
                f"{expected.get(name, 'absent')} in this model"
                f"{f', and {more} more arrays differ' if more else ''}): use the experiment and "
                "the version of mmjax that made it."
            )

    def _last_good(self) -> str:
        good = self.steps()
        if not good:
            return "no earlier checkpoint exists"
        return f"the last good checkpoint is {self.folder / str(good[-1])}"

    def _sweep(self) -> None:
        """Deletes folders that were only partly written or partly deleted."""
        for draft in self.folder.glob(f"{_DRAFT}*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _damaged(self, step: int, what: str) -> RunError:
        if not (self.folder / str(step)).exists():
            return CheckpointGone(
                f"The checkpoint {self.folder / str(step)} was deleted meanwhile, by a training "
                "that keeps only its last ones: run the same command again."
            )
        others = [other for other in self.steps() if other != step]
        then = f"to continue from step {others[-1]}" if others else "to start from the beginning"
        fix = self._fix or f"delete that folder and run the same command again {then}"
        return RunError(f"The checkpoint {self.folder / str(step)} is damaged ({what}): {fix}.")


def _unreadable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"The file {path} cannot be read ({error.strerror}): get permission to read it."
    )


@contextmanager
def _without_wildcards(folder: Path) -> Iterator[Path]:
    """An absolute path of a folder that a glob pattern can begin with.

    Orbax (etils 1.15) looks for files by patterns that begin with the path, unescaped, so that it
    finds nothing below a folder such as `[2026]`.
    """
    folder = folder.absolute()
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mmjax-") as place:
        link = Path(place) / "folder"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def named_leaves(state: TrainState) -> dict[str, Any]:
    """The leaves of a state by their names in checkpoints, such as `params/head/bias`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.asarray(True), *finite]).all()


def dtype_and_shape(leaf: Any) -> str:
    """The dtype and shape of an array in the form of the manifest, such as `float32[3, 4]`."""
    return f"{leaf.dtype}{list(leaf.shape)}"


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException | None) -> str:
    """The message of the operating system if an error in the chain has one; else the error."""
    first, text = error, str(error)
    while error:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            return os.strerror(int(code[1])).lower()
        error = error.__cause__ or error.__context__
    return " ".join(f"{type(first).__name__}: {text}".split())[:200]
