"""Squared error of predicted numbers."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.elementwise import known_elements
from mmjax.objectives.objective import PureObjective, prediction_of, target_of
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class SquaredError(PureObjective):
    """Mean squared error of predicted numbers, over those that are known.

    Attributes:
        weight: factor of this term in the training loss.
        target: name of a target of the kind `number`.
    """

    weight: float = 1.0
    target: str

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "squared_error"

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {self.target: ("number",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The squared error of one batch."""
        numbers, weight = target_of(batch, self.target)
        predicted = prediction_of(outputs, self.target).values
        return Term(*squared_error(predicted, numbers, weight=weight))


def squared_error(
    predicted: ArrayLike, numbers: ArrayLike, *, weight: ArrayLike | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The squared error, summed over the numbers of a batch, and the weight summed over.

        sum_i w_i (predicted_i - numbers_i)^2,   sum_i w_i,   i over examples and their numbers

    Sums and counts of several batches add up; the mean is their ratio.

    Args:
        predicted: [B, ...].
        numbers: of the same shape.
        weight: [B], or of more leading axes of that shape, not negative; what has the weight 0
            counts for nothing, even if it is NaN. All 1 if None.

    Returns:
        The sum and the total weight, two scalars in float32 (float64 for float64 predictions).

    Raises:
        ConfigError: (a ValueError) shapes that do not fit.
    """
    predicted, numbers, weights = known_elements(predicted, numbers, weight)
    return jnp.sum(weights * jnp.square(predicted - numbers)), jnp.sum(weights)
