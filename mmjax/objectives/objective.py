"""What an experiment may list under `objectives`, and how an objective finds its rows and views."""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from mmjax.errors import ConfigError, unknown_name, without_head
from mmjax.structs import Batch, Outputs, Prediction, Term


class ObjectiveModule(Protocol):
    """What `Objective.build` returns (an `nnx.Module`).

    It lives beside the model: its `nnx.Param`s are trained, and its other variables (running
    statistics) are kept from step to step, saved and restored like those of the model.
    """

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """The loss of one batch, not yet multiplied by the objective's weight.

        Args:
            outputs: what the model returned.
            batch: the batch that it was given.
            train: whether running statistics are to take in this batch.
            rngs: holds a `dropout` stream while training, else None.
        """
        ...


class Objective(abc.ABC):
    """Base of the objectives: one term of the loss, `weight` times what its module gives."""

    weight: float  # the factor of this term in the training loss

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The key of this term among the metrics."""

    @abc.abstractmethod
    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> Any:
        """Makes the `ObjectiveModule`.

        Args:
            outputs: shapes of what the model returns.
            rngs: initialises the parameters.

        Raises:
            ConfigError: where the model does not return what this objective reads.
        """

    @property
    def targets_read(self) -> Mapping[str, tuple[str, ...]]:
        """Targets that the loss compares with -> the kinds that they may be of; most read none."""
        return {}

    @property
    def counted_targets(self) -> tuple[str, ...]:
        """Names of the targets whose classes have to be counted for `of_data`; most need none."""
        return ()

    @property
    def paired_views(self) -> tuple[str, ...]:
        """Views that an example must all have for the loss to count it; empty for most losses."""
        return ()

    def check_batch(self, batch: Batch) -> None:  # noqa: B027
        """Refuses examples that have no loss, before the first step; most take any.

        Args:
            batch: some transformed examples, as arrays of NumPy.

        Raises:
            DataError: for inputs of which the loss says nothing.
        """

    def of_data(self, counts: Mapping[str, np.ndarray]) -> "Objective":
        """This objective with what it takes from the training data filled in.

        Args:
            counts: each of `counted_targets` -> [C] examples of each class in the training split.
        """
        return self


class PureObjective(Objective):
    """Base of the objectives that are a function of one batch, without parameters or state."""

    @abc.abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The loss of one batch, not yet multiplied by `weight`."""

    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> "PureObjectiveModule":
        """See `Objective.build`."""
        return PureObjectiveModule(self)


class PairedObjective(PureObjective):
    """Base of the pure objectives over the examples that have all of some views."""

    views: tuple[str, ...]

    @property
    def paired_views(self) -> tuple[str, ...]:
        """See `Objective.paired_views`."""
        return self.views


class CovarianceObjective(PairedObjective):
    """Base of those that invert covariances of a batch, and so need more examples than dimensions.

    They log the number of examples that had all views, as `pairs`.
    """


class PureObjectiveModule(nnx.Module):
    """The module of a `PureObjective`."""

    def __init__(self, config: PureObjective) -> None:
        self.config = config

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """See `ObjectiveModule.__call__`."""
        return self.config(outputs, batch)


def paired_views(
    outputs: Outputs, batch: Batch, views: tuple[str, str]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Looks up the embeddings of two views and the rows of the batch that hold both.

    Args:
        outputs: what the model returned.
        batch: the batch that it was given.
        views: the names of the two embeddings.

    Returns:
        The embeddings [B, D1] and [B, D2], and the weight [B] of every row in float32: that of the
        batch where both views are present, else 0.

    Raises:
        ConfigError: the model returns no embedding of that name.
    """
    (first, second), weight = common_rows(outputs, batch, views)
    return first, second, weight


def common_rows(
    outputs: Outputs, batch: Batch, views: Sequence[str]
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """As `paired_views`, of any number of views.

    Args:
        outputs: what the model returned.
        batch: the batch that it was given.
        views: the names of the embeddings.

    Returns:
        The embeddings, [B, D_v] each, and the weight [B] of every row in float32: that of the batch
        where all of these views are present, else 0.

    Raises:
        ConfigError: the model returns no embedding of that name.
    """
    embeddings = tuple(jnp.asarray(embedding_of(outputs, view)) for view in views)
    weight = jnp.asarray(batch.weight, jnp.float32)
    for view in views:
        weight = jnp.where(jnp.asarray(outputs.present[view]), weight, 0)
    return embeddings, weight


def pairs_of(weight: jax.Array) -> jax.Array:
    """The number of rows of a batch that count, by their weight [B]; a scalar to log."""
    return jnp.sum(weight > 0).astype(jnp.float32)


def embedding_of(outputs: Outputs, view: str) -> Any:
    """Looks up the embedding [B, D] of a view.

    Raises:
        ConfigError: the model returns no embedding of that name.
    """
    if view not in outputs.embeddings:
        raise unknown_name("embedding", view, outputs.embeddings)
    return outputs.embeddings[view]


def prediction_of(outputs: Outputs, target: str) -> Prediction:
    """Looks up what the model predicts of a target.

    Raises:
        ConfigError: the model predicts no target of that name.
    """
    if target not in outputs.predictions:
        raise without_head(target, outputs.predictions)
    return outputs.predictions[target]


def target_of(batch: Batch, target: str) -> tuple[jax.Array, jax.Array]:
    """Looks up a target and the weight of what is known of it.

    Args:
        batch: a batch.
        target: name of the target.

    Returns:
        The values [B, ...], and in float32 [B], or [B, ...] where parts of a target may be known,
        the weight of the row where the target is known, else 0.

    Raises:
        ConfigError: the batch has no such target.
    """
    if target not in batch.targets:
        raise unknown_name("target", target, batch.targets)
    weight = jnp.asarray(batch.weight, jnp.float32)
    if target in batch.target_masks:
        known = jnp.asarray(batch.target_masks[target])
        weight = jnp.where(known, weight.reshape(-1, *[1] * (known.ndim - 1)), 0)
    return jnp.asarray(batch.targets[target]), weight


def label_of(batch: Batch, target: str) -> tuple[jax.Array, jax.Array]:
    """Looks up a target with one integer label for each example, and where it is known.

    Returns:
        The labels [B], and the weight of each row where its label is known, else 0, [B].

    Raises:
        ConfigError: the batch has no such target, or it is not one integer for each example.
    """
    label, weight = target_of(batch, target)
    if label.ndim != 1 or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ConfigError(
            f"target '{target}' has shape {label.shape} and type {label.dtype.name}, but this "
            "objective needs one integer label an example: name another target"
        )
    return label, weight


def working_dtype(*arrays: jax.Array) -> jnp.dtype:
    """The type to compute in: float64 if an array has it, else float32."""
    return jnp.dtype("float64" if any(a.dtype == "float64" for a in arrays) else "float32")


def rows_weight(weight: ArrayLike | None, rows: int, dtype: jnp.dtype) -> jax.Array:
    """The weights of so many rows, [B]; all 1 if None. No gradient flows to them.

    Raises:
        ConfigError: they are not one a row.
    """
    each = jnp.ones(rows, dtype) if weight is None else jnp.asarray(weight, dtype)
    if each.shape != (rows,):
        raise ConfigError(
            f"weight has the shape {each.shape}, but the views have {rows} rows: give one weight "
            "a row"
        )
    return jax.lax.stop_gradient(each)


def weighted_mean(each: jax.Array, weight: jax.Array) -> jax.Array:
    """The mean of numbers with weights of their shape, not negative; 0 where all weights are."""
    total = jnp.sum(weight)
    return jnp.sum(weight * each) / jnp.where(total > 0, total, 1)


def check_pair(first: jax.Array, second: jax.Array) -> None:
    """Refuses two views that are not [B, D] and [B, D].

    Raises:
        ConfigError: a view is not a matrix, or the two shapes differ.
    """
    if first.ndim != 2 or second.ndim != 2:
        raise ConfigError(
            f"both views must have the shape [batch, width], but they have {first.shape} and "
            f"{second.shape}: flatten or pool them first"
        )
    if first.shape != second.shape:
        raise ConfigError(
            f"the views have the shapes {first.shape} and {second.shape}, which must be equal: "
            "project both to one width and give both the same examples"
        )


def check_two_views(views: Sequence[str]) -> None:
    """Refuses what is not the names of two views."""
    if len(views) != 2:
        raise ConfigError(f"views={tuple(views)} names {len(views)} of them: name two views")
    check_distinct_views(views)


def check_distinct_views(views: Sequence[str]) -> None:
    """Refuses fewer than two views, and a view that is named twice."""
    if len(views) < 2:
        raise ConfigError(f"views={tuple(views)} names {len(views)} of them: name two or more")
    if len(set(views)) < len(views):
        raise ConfigError(f"views={tuple(views)} names one view twice: name each view once")
