"""The embeddings that an evaluation measures, and what is refused before the training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.errors import ConfigError, unknown_name
from mmjax.evaluation.evaluator import Task
from mmjax.evaluation.predictor import Predictor
from mmjax.models import abstract_generated, abstract_outputs
from mmjax.structs import Outputs


def paired_embeddings(
    predictor: Predictor, views: tuple[str, ...], split: str, examples: int = 0, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """The embeddings [N, D_v] of the records of a split that have all the views.

    Args:
        predictor: what the model gives.
        views: names of the embeddings.
        split: name of the split.
        examples: records, drawn at random, that are looked at at most; 0 for all.
        seed: of that draw.
    """
    predictions = predictor(split, examples, seed)
    rows = np.logical_and.reduce([predictions.present[view] for view in views])
    return tuple(predictions.embeddings[view][rows] for view in views)


def check_views(views: tuple[str, ...], task: Task) -> None:
    """Refuses views that the experiment's data set does not have."""
    for view in views:
        if view not in task.data.modalities:
            raise unknown_name("view", view, task.data.modalities)


def check_embeddings(views: tuple[str, ...], task: Task) -> dict[str, int]:
    """Refuses views that the data set or the model does not have; the width of each embedding."""
    check_views(views, task)
    widths = embedding_widths(task)
    for view in views:
        if view not in widths:
            raise unknown_name("embedding of the model", view, widths)
    return widths


def check_prediction(target: str, kinds: tuple[str, ...], task: Task) -> None:
    """Refuses a target that is not of these kinds, or that the model does not predict."""
    check_target(target, task, kinds)
    predicted = shapes_of(task).predictions
    if target not in predicted:
        raise unknown_name("head of the model for the target", target, predicted)


def check_generated(target: str, task: Task) -> None:
    """Refuses a target that is not of tokens, or that the model does not write."""
    check_target(target, task, ("tokens",))
    written = shapes_of(task).generated
    if target not in written:
        raise unknown_name("head of the model that writes the target", target, written)


def check_target(target: str, task: Task, kinds: tuple[str, ...] = ("class",)) -> None:
    """Refuses a target that the experiment's data set does not have, or of other kinds."""
    if target not in task.data.targets:
        raise unknown_name("target", target, task.data.targets)
    kind = task.data.targets[target].kind
    if kind not in kinds:
        raise ConfigError(
            f"The target {target!r} is of the kind {kind!r}, and this evaluation is for "
            f"{' or '.join(map(repr, kinds))}: name another target."
        )


def check_width(k: int, view: str, width: int, what: str) -> None:
    """Refuses a fit of more dimensions than a view has.

    Args:
        k: dimensions of the fit.
        view: name of the view.
        width: its columns.
        what: what has these columns ("embedding").
    """
    if k > width:
        raise ConfigError(
            f"evaluation k={k} is more than the {width} dimensions of the {what} {view!r}: choose "
            f"k from 1 to {width}."
        )


def embedding_widths(task: Task) -> dict[str, int]:
    """Modality -> width of its embedding, for those that the model encodes; from shapes alone."""
    return {name: leaf.shape[-1] for name, leaf in shapes_of(task).embeddings.items()}


def shapes_of(task: Task) -> Outputs:
    """The shapes of what the model of an experiment returns and writes; nothing is computed.

    Raises:
        ConfigError: where model and data set do not fit.
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


_SHAPES: list[tuple[Any, Outputs]] = []  # of the last task: each of its evaluations asks
