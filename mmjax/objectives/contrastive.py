"""Contrastive losses: each example must identify its partner in the other view of the batch."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.objective import (
    Objective,
    check_pair,
    check_two_views,
    paired_views,
    working_dtype,
)
from mmjax.structs import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class InfoNCE(Objective):
    """Symmetric InfoNCE between two views, the loss of CLIP, at a fixed temperature.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        temperature: what cosine similarities are divided by; small is sharp.
    """

    weight: float = 1.0
    views: tuple[str, str]
    temperature: float = 0.07

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_temperature(self.temperature)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "info_nce"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The InfoNCE loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        return info_nce(z1, z2, temperature=self.temperature, weight=weight)


@dataclass(frozen=True, kw_only=True)
class SigmoidContrastive(Objective):
    """Pairwise sigmoid loss between two views, the loss of SigLIP, with fixed scale and bias.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        temperature: what cosine similarities are multiplied by; large is sharp.
        bias: added to every logit; negative, as most pairs of a batch do not match.
    """

    weight: float = 1.0
    views: tuple[str, str]
    temperature: float = 10.0
    bias: float = -10.0

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_temperature(self.temperature)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "sigmoid_contrastive"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The sigmoid loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        return sigmoid_contrastive(
            z1, z2, temperature=self.temperature, bias=self.bias, weight=weight
        )


def info_nce(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Symmetric InfoNCE on cosine similarities.

        l_ij = cos(z1_i, z2_j) / temperature
        loss = 1/2 mean_i (log sum_j exp l_ij - l_ii) + 1/2 mean_j (log sum_i exp l_ij - l_jj)

    Args:
        z1: first view [B, D]; need not be normalised.
        z2: second view [B, D], row i the partner of row i of `z1`.
        temperature: positive scalar that divides the similarities; may be learned.
        weight: [B], not negative: the weights of the two means. A row of weight 0 is not used as a
            negative either. All 1 if None.

    Returns:
        The loss, in float32 (float64 for float64 views). A zero vector has cosine 0 and gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ, or a temperature that is not positive.

    Reference:
        van den Oord, Li, Vinyals, Contrastive Predictive Coding, 2018, eq. 4; Radford et al.,
        CLIP, ICML 2021, figure 3 (the symmetric form).
    """
    _check_temperature(temperature)
    cosine, rows = _cosines(jnp.asarray(z1), jnp.asarray(z2), weight)
    logits = cosine / jnp.asarray(temperature, cosine.dtype)
    counted = rows > 0
    # The diagonal is kept, so that the loss of a row of weight 0 is finite before it is dropped.
    kept = (counted[:, None] & counted[None, :]) | jnp.eye(len(rows), dtype=bool)
    matching = jnp.diagonal(logits)
    logits = jnp.where(kept, logits, -jnp.inf)
    forward = jax.nn.logsumexp(logits, axis=1) - matching
    backward = jax.nn.logsumexp(logits, axis=0) - matching
    return jnp.sum(rows * (forward + backward)) / (2 * _total(rows))


def sigmoid_contrastive(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Pairwise sigmoid loss on cosine similarities: does text j belong to image i, yes or no?

        loss = -1/B sum_ij log sigmoid(y_ij (temperature cos(z1_i, z2_j) + bias)),
        y_ij = 1 if i = j, else -1

    As in the paper, the temperature multiplies (in `info_nce` it divides). The paper learns t'
    with temperature = exp(t'), starting at temperature 10 and bias -10.

    Args:
        z1: first view [B, D]; need not be normalised.
        z2: second view [B, D], row i the partner of row i of `z1`.
        temperature: positive scalar that multiplies the similarities; may be learned.
        bias: scalar added to every logit; may be learned.
        weight: [B], not negative: pair (i, j) weighs w_i w_j, and B becomes the sum of the weights.
            All 1 if None.

    Returns:
        The loss, in float32 (float64 for float64 views). A zero vector has cosine 0 and gradient 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ, or a temperature that is not positive.

    Reference:
        Zhai, Mustafa, Kolesnikov, Beyer, Sigmoid Loss for Language Image Pre-Training, ICCV 2023,
        section 3.2 and algorithm 1.
    """
    _check_temperature(temperature)
    cosine, rows = _cosines(jnp.asarray(z1), jnp.asarray(z2), weight)
    logits = cosine * jnp.asarray(temperature, cosine.dtype) + jnp.asarray(bias, cosine.dtype)
    sign = 2 * jnp.eye(len(rows), dtype=cosine.dtype) - 1
    pair = rows[:, None] * rows[None, :]
    return -jnp.sum(pair * jax.nn.log_sigmoid(sign * logits)) / _total(rows)


def _cosines(
    z1: jax.Array, z2: jax.Array, weight: ArrayLike | None
) -> tuple[Float[Array, "B B"], Float[Array, " B"]]:
    """All cosines between two views, with rows of weight 0 set to zero; the row weights."""
    check_pair(z1, z2)
    dtype = working_dtype(z1, z2)
    rows = jnp.ones(len(z1), dtype) if weight is None else jnp.asarray(weight, dtype)
    counted = rows[:, None] > 0
    n1 = _normalised(jnp.where(counted, z1.astype(dtype), 0))
    n2 = _normalised(jnp.where(counted, z2.astype(dtype), 0))
    return jnp.einsum("id,jd->ij", n1, n2, precision=lax.Precision.HIGHEST), rows


def _normalised(z: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of unit length, zero where the row is zero; no square overflows or underflows."""
    # The result does not depend on the row's scale, so the scale is constant (stop-gradient).
    largest = lax.stop_gradient(jnp.max(jnp.abs(z), axis=1, keepdims=True))
    # tiny / eps: the gradient, one over the length, must be finite.
    seen = largest > jnp.finfo(z.dtype).tiny / jnp.finfo(z.dtype).eps
    z = jnp.where(seen, z / jnp.where(seen, largest, 1), 0)
    square = jnp.sum(jnp.square(z), axis=1, keepdims=True)
    return z * lax.rsqrt(jnp.where(seen, square, 1))


def _total(rows: jax.Array) -> jax.Array:
    total = jnp.sum(rows)
    return jnp.where(total > 0, total, 1)


def _check_temperature(temperature: ArrayLike) -> None:
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ConfigError(f"temperature={temperature} must be positive")
