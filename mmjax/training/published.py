"""What a run takes from published weights when it begins, and keeps of them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mmjax.data.preprocessing import Pictures, Texts
from mmjax.training.checkpoints import named_leaves
from mmjax.training.run_directory import RunDirectory
from mmjax.training.start import KINDS, with_leaves
from mmjax.training.step import TrainState, merged

FOLDER = "published"  # in a run directory: <path in the model>/tokenizer.json


def published_parts(state: TrainState) -> dict[tuple[str, ...], Any]:
    """Path in the model -> `published` of the module there, of all that have it.

    Args:
        state: the state, or its shapes.
    """
    model = merged(state, state.params).model
    return {
        tuple(map(str, path)): node.published
        for path, node in nnx.iter_graph(model)
        if hasattr(node, "published")
    }


def keep_published(directory: RunDirectory, parts: Mapping[tuple[str, ...], Any]) -> None:
    """Copies the tokenizers of published weights into a run directory, once.

    Raises:
        DataError: a tokenizer is missing or damaged.
        RunError: it cannot be written.
    """
    for path, origin in parts.items():
        kept, how = _kept(path), origin.encoder.preprocessing
        if isinstance(how, Texts) and not (directory.path / kept).exists():
            how.tokenizer  # noqa: B018 - refuses a damaged one
            directory.copy(Path(how.file), kept)


def readers_of(
    run_dir: Path, parts: Mapping[tuple[str, ...], Any]
) -> dict[str, Callable[[Any], np.ndarray]]:
    """Modality -> from raw pictures or texts to inputs, with the files that the run keeps."""
    readers: dict[str, Callable[[Any], np.ndarray]] = {}
    for path, origin in parts.items():
        how = origin.encoder.preprocessing
        if path[:-1] != ("encoders",):  # a part of another encoder, which reads other inputs
            continue
        if isinstance(how, Texts):
            readers[path[-1]] = dataclasses.replace(how, file=str(run_dir / _kept(path)))
        elif isinstance(how, Pictures) and how.size == origin.shape[:2]:
            readers[path[-1]] = how.fitted
    return readers


def _kept(path: tuple[str, ...]) -> str:
    return f"{FOLDER}/{'.'.join(path)}/tokenizer.json"


def load_published(state: TrainState) -> TrainState:
    """A fresh state with published weights in the encoders that start from them.

    Raises:
        DataError: weights are missing, damaged or do not fit.
    """
    parts = published_parts(state)
    if not parts:
        return state
    leaves = named_leaves(state)
    for path, origin in parts.items():
        for name, value in origin.values().items():
            inner = "/".join(("model", *path, *name.split(".")))
            at = next(f"{kind}/{inner}" for kind in KINDS if f"{kind}/{inner}" in leaves)
            leaves[at] = jax.device_put(value.astype(leaves[at].dtype), leaves[at].sharding)
    return with_leaves(state, leaves)
