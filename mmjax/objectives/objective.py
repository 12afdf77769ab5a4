"""What an experiment may list under `objectives`, and how an objective finds its rows and views."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch, Outputs


class Objective(abc.ABC):
    """Base of the objectives: one term of the loss, `weight` times what the call returns."""

    weight: float  # the factor of this term in the training loss

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The key of this term among the metrics."""

    @abc.abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The scalar loss of one batch, not yet multiplied by `weight`."""

    def value_and_telemetry(
        self, outputs: Outputs, batch: Batch
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the call returns, and scalars to log beside it; most have none.

        A training step asks here, so that both come from one computation.
        """
        return self(outputs, batch), {}

    def memory(self, width_of: Callable[[str], int]) -> Any:
        """What this objective keeps from step to step, before the first; most keep nothing.

        Args:
            width_of: from the name of a view to D of its embedding.

        Returns:
            A tree of arrays, of the same shapes throughout a run; checkpoints hold it.
        """
        return ()

    def value_and_memory(
        self, outputs: Outputs, batch: Batch, memory: Any
    ) -> tuple[jax.Array, dict[str, jax.Array], Any]:
        """The loss and telemetry of a training step, and what is kept for the next.

        Args:
            outputs: what the model returned.
            batch: the batch that it was given.
            memory: what the step before kept; None before the first, and where one batch is asked
                about by itself.
        """
        return *self.value_and_telemetry(outputs, batch), ()

    @property
    def counted_targets(self) -> tuple[str, ...]:
        """Names of the targets whose classes have to be counted for `of_data`; most need none."""
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
    for view in views:
        if view not in outputs.embeddings:
            raise unknown_name("embedding", view, outputs.embeddings)
    weight = jnp.asarray(batch.weight, jnp.float32)
    for view in views:
        weight = jnp.where(jnp.asarray(outputs.present[view]), weight, 0)
    return tuple(jnp.asarray(outputs.embeddings[view]) for view in views), weight


def label_of(batch: Batch, target: str) -> jax.Array:
    """Looks up a target with one integer label an example, [B].

    Raises:
        ConfigError: the batch has no such target, or it is not one integer an example.
    """
    if target not in batch.targets:
        raise unknown_name("target", target, batch.targets)
    label = jnp.asarray(batch.targets[target])
    if label.ndim != 1 or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ConfigError(
            f"target '{target}' has shape {label.shape} and type {label.dtype.name}, but this "
            "objective needs one integer label an example: name another target"
        )
    return label


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
