"""What losses over views share: checks, centred views, gradients by the envelope theorem.

By the envelope theorem, the gradient of an optimum over directions (eigenvectors, the factors of a
tensor) is that of the objective at these directions, taken as constant: their own change has only a
second-order effect. So each loss computes its directions under `stop_gradient` and differentiates
an expression in which they are constant. No decomposition is differentiated, and nothing is divided
by a difference of eigenvalues. Where the k-th and the next eigenvalue are equal, the loss is not
differentiable, and the gradient is one of its subgradients.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from mmjax.errors import ConfigError
from mmjax.objectives.batch_covariance import covariance, ridged_cholesky, scaled_and_centred
from mmjax.objectives.objective import rows_weight, working_dtype


class BatchViews(NamedTuple):
    """The views of a batch, divided by their scales, minus their weighted means."""

    centred: tuple[jax.Array, ...]  # [B, D_v] each, over their scales; differentiable
    means: tuple[jax.Array, ...]  # [1, D_v] each, of the views over their scales
    scales: tuple[jax.Array, ...]  # [] each, max(1, max|h|): no square overflows
    weight: jax.Array  # [B]
    degrees: jax.Array  # [], degrees of freedom: max(sum(weight) - 1, 1)

    @property
    def covariance_weight(self) -> jax.Array:
        """The weight of each row in a covariance, [B, 1]."""
        return (self.weight / self.degrees)[:, None]

    @property
    def unscaled(self) -> tuple[jax.Array, ...]:
        """The centred views in their own units, [B, D_v] each."""
        return tuple(x * scale for x, scale in zip(self.centred, self.scales, strict=True))

    def covariance(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The covariance [D1, D2] of centred columns."""
        return covariance(first, second, self.weight, self.degrees)

    def cholesky(self, view: int, ridge: jax.Array) -> jax.Array:
        """The constant (stop-gradient) Cholesky factor [D, D] of a view's ridged covariance."""
        x = lax.stop_gradient(self.centred[view])
        scale = self.scales[view]
        return ridged_cholesky(self.covariance(x, x), self.means[view], ridge / scale / scale)


def batch_views(
    views: Sequence[ArrayLike], weight: ArrayLike | None, *, one_scale: bool = False
) -> BatchViews:
    """Checks the views and centres them.

    Args:
        views: two or more, [B, D_v] each.
        weight: [B]; all 1 if None. Rows of weight 0 are ignored.
        one_scale: whether all views are divided by the same scale.

    Raises:
        ConfigError: fewer than two views, or shapes that do not match.
    """
    arrays = [jnp.asarray(view) for view in views]
    shapes = ", ".join(str(h.shape) for h in arrays)
    if len(arrays) < 2:
        raise ConfigError(
            f"this loss compares views, but was given {len(arrays)}: give two or more"
        )
    if any(h.ndim != 2 or 0 in h.shape for h in arrays):
        raise ConfigError(
            f"all views must have the shape [batch, width], but they have {shapes}: flatten or "
            "pool them first"
        )
    if len({len(h) for h in arrays}) > 1:
        raise ConfigError(f"the views have the shapes {shapes}: give all of them the same examples")
    dtype = working_dtype(*arrays)
    rows = rows_weight(weight, len(arrays[0]), dtype)
    kept = [jnp.where(rows[:, None] > 0, h.astype(dtype), 0) for h in arrays]
    common = jnp.ones((), dtype)
    if one_scale:
        for h in kept:
            common = jnp.maximum(common, lax.stop_gradient(jnp.max(jnp.abs(h))))
    share = (rows / jnp.maximum(jnp.sum(rows), jnp.finfo(dtype).tiny))[:, None]
    centred, means, scales = [], [], []
    for h in kept:
        x, mean, scale = scaled_and_centred(lax.stop_gradient(h) / common, rows)
        differentiable = h / (common * scale)
        differentiable = differentiable - jnp.sum(share * differentiable, axis=0, keepdims=True)
        # The value is that of x, which is centred twice; the gradient is the same.
        centred.append(x + (differentiable - lax.stop_gradient(differentiable)))
        means.append(mean)
        scales.append(common * scale)
    degrees = jnp.maximum(jnp.sum(rows) - 1, 1)
    return BatchViews(tuple(centred), tuple(means), tuple(scales), rows, degrees)


def standardised(batch: BatchViews, view: int) -> jax.Array:
    """Columns of mean 0 whose weighted squares sum to 1; zeros where a column is constant."""
    x, info = batch.centred[view], jnp.finfo(batch.weight.dtype)
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=0, keepdims=True))
    # Below this, a column is constant up to rounding, or its inverse, the gradient, overflows.
    noise = jnp.maximum(4 * info.eps * jnp.abs(batch.means[view]), info.tiny / info.eps)
    seen = ~(largest <= noise)  # so that NaN stays NaN
    x = jnp.where(seen, x / jnp.where(seen, largest, 1), 0)
    square = jnp.sum(batch.weight[:, None] * jnp.square(x), axis=0, keepdims=True)
    return x * lax.rsqrt(jnp.where(square > 0, square, 1))


def with_gradient_of(value: jax.Array, surrogate: jax.Array) -> jax.Array:
    """The value of the first argument with the gradient of the second."""
    return lax.stop_gradient(value) + (surrogate - lax.stop_gradient(surrogate))


def unwhiten(lower: jax.Array, directions: jax.Array) -> jax.Array:
    """Directions [D, K] in whitened coordinates, mapped to the coordinates of the view: L^-T U."""
    return solve_triangular(lower, directions, lower=True, trans=1)


def not_nan(loss: jax.Array) -> jax.Array:
    """The loss, or infinity where it is NaN: by an overflow, or by a NaN in the views."""
    return jnp.where(jnp.isnan(loss), jnp.inf, loss)


def check_rows(views: Sequence[ArrayLike]) -> None:
    """Refuses a batch too small for the covariance of its widest view.

    Raises:
        ConfigError: it has fewer rows than dimensions, or one row.
    """
    rows, widest = len(jnp.asarray(views[0])), max(jnp.shape(view)[1] for view in views)
    if rows < max(widest, 2):
        raise ConfigError(
            f"a batch of {rows} examples cannot give the covariance of {widest} dimensions: use "
            f"batch_size >= {widest + 1} or fewer output dimensions"
        )


def checked_k(k: int | None, views: Sequence[ArrayLike]) -> int:
    """The number of directions: k, or the width of the narrowest view if None.

    Raises:
        ConfigError: `k` is not a whole number from 1 to that width.
    """
    narrowest = min(jnp.shape(view)[1] for view in views)
    if k is None:
        return narrowest
    if not isinstance(k, Integral) or not 1 <= k <= narrowest:
        raise ConfigError(
            f"k={k}, but the narrowest view has {narrowest} dimensions: choose k from 1 to "
            f"{narrowest}, a whole number"
        )
    return k


def check_one_width(views: Sequence[ArrayLike]) -> None:
    """Refuses views of different widths.

    Raises:
        ConfigError: two widths differ.
    """
    widths = [jnp.shape(view)[1] for view in views]
    if len(set(widths)) > 1:
        raise ConfigError(
            f"the views have the widths {', '.join(map(str, widths))}, which must be equal: "
            "project all to one width"
        )


def check_not_negative(**settings: float | int) -> None:
    """Refuses settings below zero, and NaN.

    Raises:
        ConfigError: names the first such setting.
    """
    for name, setting in settings.items():
        if isinstance(setting, int | float) and not setting >= 0:
            raise ConfigError(f"{name}={setting} must not be negative")
