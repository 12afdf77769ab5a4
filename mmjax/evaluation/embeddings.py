"""The embeddings that evaluations measure, and checks of evaluations before the training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.errors import ConfigError, unknown_name, without_head
from mmjax.evaluation.evaluator import Task
from mmjax.evaluation.predictor import Predictor
from mmjax.models import abstract_generated, abstract_outputs
from mmjax.structs import Outputs


def paired_embeddings(
    predictor: Predictor, views: tuple[str, ...], split: str, examples: int = 0, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """The embeddings [N, D_v] of the records of a split that have all the views.

    Args:
        predictor: gives the outputs of the model.
        views: names of the embeddings.
        split: name of the split.
        examples: at most so many records, drawn at random, are used; 0 for all.
        seed: seed of that draw.
    """
    predictions = predictor(split, examples, seed)
    rows = np.logical_and.reduce([predictions.present[view] for view in views])
    return tuple(predictions.embeddings[view][rows] for view in views)


def check_views(views: tuple[str, ...], task: Task) -> None:
    """Checks that the data set has the views."""
    for view in views:
        if view not in task.data.modalities:
            raise unknown_name("view", view, task.data.modalities)


def check_embeddings(views: tuple[str, ...], task: Task) -> dict[str, int]:
    """Checks that data set and model have the views; returns the width of each embedding."""
    check_views(views, task)
    widths = embedding_widths(task)
    for view in views:
        if view not in widths:
            raise unknown_name("embedding of the model", view, widths)
    return widths


def check_prediction(target: str, kinds: tuple[str, ...], task: Task) -> None:
    """Checks that a target is of one of these kinds and that the model predicts it."""
    check_target(target, task, kinds)
    predicted = shapes_of(task).predictions
    if target not in predicted:
        raise without_head(target, predicted)


def check_generated(target: str, task: Task) -> None:
    """Checks that a target is of the kind `tokens` and that the model generates it."""
    check_target(target, task, ("tokens",))
    written = shapes_of(task).generated
    if target not in written:
        raise without_head(target, written, "that generates")


def check_target(target: str, task: Task, kinds: tuple[str, ...] = ("class",)) -> None:
    """Checks that the data set has a target and that it is of one of these kinds."""
    if target not in task.data.targets:
        raise unknown_name("target", target, task.data.targets)
    kind = task.data.targets[target].kind
    if kind not in kinds:
        raise ConfigError(
            f"The target {target!r} is of the kind {kind!r}, but this evaluation needs one of the "
            f"kind {' or '.join(map(repr, kinds))}: choose another target."
        )


def check_width(k: int, view: str, width: int, what: str) -> None:
    """Checks that a fit has no more dimensions than a view.

    Args:
        k: dimensions of the fit.
        view: name of the view.
        width: number of columns of the view.
        what: what has these columns ("embedding"), for the message.
    """
    if k > width:
        raise ConfigError(
            f"evaluation k={k} is more than the {width} dimensions of the {what} {view!r}: choose "
            f"k from 1 to {width}."
        )


def embedding_widths(task: Task) -> dict[str, int]:
    """Modality -> width of its embedding, for those that the model encodes; without computing."""
    return {name: leaf.shape[-1] for name, leaf in shapes_of(task).embeddings.items()}


def shapes_of(task: Task) -> Outputs:
    """The shapes of the outputs and generated tokens of a model; nothing is computed.

    Raises:
        ConfigError: model and data set do not fit together.
    """
    key = task.model, task.data.modalities, task.data.targets
    if not _SHAPES or _SHAPES[-1][0] != key:
        found: list[Outputs] = []

        def build() -> None:
            model, modalities, targets = key
            module = model.build(modalities, targets, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
            outputs = abstract_outputs(module, modalities, targets)
            written = abstract_generated(module, modalities, targets)
            found.append(dataclasses.replace(outputs, generated=written))

        jax.eval_shape(build)
        _SHAPES[:] = [(key, found[0])]
    return _SHAPES[-1][1]


_SHAPES: list[tuple[Any, Outputs]] = []  # cache for the last task, which its evaluations use
