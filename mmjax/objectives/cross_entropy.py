"""Softmax cross-entropy as a (sum, count) pair, and the objective of a classifier."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Shaped

from mmjax.errors import ConfigError
from mmjax.objectives.objective import Objective, label_of, working_dtype
from mmjax.structs import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Objective):
    """Softmax cross-entropy of the model's logits against one label an example.

    Attributes:
        weight: factor of this term in the training loss.
        target: name of the target that holds the label.
        label_smoothing: share of the probability that is spread evenly over all classes.
    """

    weight: float = 1.0
    target: str = "label"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self.label_smoothing)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "cross_entropy"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The mean cross-entropy over the rows of one batch."""
        if outputs.logits is None:
            raise ConfigError(
                "the cross-entropy needs logits, but the model has no classifier head: give it "
                "head=Classifier(...) or leave CrossEntropy out of the objectives"
            )
        total, count = cross_entropy(
            outputs.logits,
            label_of(batch, self.target),
            label_smoothing=self.label_smoothing,
            weight=batch.weight,
        )
        return total / jnp.where(count > 0, count, 1)


def cross_entropy(
    logits: Float[ArrayLike, "B C"],
    labels: Integer[ArrayLike, " B"],
    *,
    label_smoothing: float | int = 0.0,
    weight: Shaped[ArrayLike, " B"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Softmax cross-entropy, summed over the batch, and the weight of the rows summed over.

        sum_b w_b (-(1 - a) log p_b[label_b] - a/C sum_c log p_b[c]),    a = label_smoothing

    Sums and counts of several batches add up; the mean is their ratio.

    Args:
        logits: [B, C].
        labels: [B], each from 0 to C - 1. Any other gives NaN, unless its row has weight 0.
        label_smoothing: from 0 up to, but not including, 1.
        weight: [B], not negative; a row of weight 0 counts for nothing, whatever it holds. All 1
            if None.

    Returns:
        The sum and the total weight, two scalars in float32 (float64 for float64 logits).

    Raises:
        ConfigError: a label smoothing outside [0, 1).

    Reference:
        Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7 (smoothing).
    """
    _check_smoothing(label_smoothing)
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    dtype = working_dtype(logits)
    rows = jnp.ones(len(logits), dtype) if weight is None else jnp.asarray(weight, dtype)
    there = rows > 0
    # Emptied before the softmax: a NaN masked only afterwards would come back in the gradient.
    log_p = jax.nn.log_softmax(jnp.where(there[:, None], logits.astype(dtype), 0))
    classes = jnp.arange(logits.shape[1], dtype=labels.dtype)
    chosen = classes[None, :] == labels[:, None]
    loss = -(1 - label_smoothing) * jnp.sum(jnp.where(chosen, log_p, 0), axis=1)
    if label_smoothing > 0:
        loss = loss - label_smoothing * jnp.mean(log_p, axis=1)
    loss = jnp.where(chosen.any(axis=1), loss, jnp.nan)
    return jnp.sum(jnp.where(there, loss, 0) * rows), jnp.sum(rows)


def _check_smoothing(label_smoothing: float | int) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing={label_smoothing} must be at least 0 and below 1")
