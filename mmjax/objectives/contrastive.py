"""Contrastive losses: each example must identify its partner in the other view of the batch."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.batch_covariance import on_every_device
from mmjax.objectives.objective import (
    PairedObjective,
    check_pair,
    check_two_views,
    paired_views,
    working_dtype,
)
from mmjax.structs import Batch, Outputs, Term

MOST_SCALE = 100.0  # that a learned InfoNCE multiplies cosines by, as CLIP does


@dataclass(frozen=True, kw_only=True)
class InfoNCE(PairedObjective):
    """Symmetric InfoNCE between two views, the loss of CLIP, at a fixed or learned temperature.

    A learned one is logged beside the loss, as `info_nce/temperature`.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        temperature: what cosine similarities are divided by; small is sharp. With `learned`, where
            it starts; called without its module, the objective has this one.
        learned: whether the temperature is a parameter too, as in CLIP. It stays at 0.01 or more.
    """

    weight: float = 1.0
    views: tuple[str, str]
    temperature: float = 0.07
    learned: bool = False

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_temperature(self.temperature)
        if self.learned and self.temperature < 1 / MOST_SCALE:
            raise ConfigError(
                f"temperature={self.temperature} is below {1 / MOST_SCALE}, the least that a "
                "learned one may become: start higher, or set learned=False"
            )

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "info_nce"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The InfoNCE loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        return Term.of_batch(info_nce(z1, z2, temperature=self.temperature, weight=weight))

    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> Any:
        """See `Objective.build`."""
        return LearnedInfoNCE(self) if self.learned else super().build(outputs, rngs=rngs)


class LearnedInfoNCE(nnx.Module):
    """The module of an `InfoNCE` that learns its temperature.

        1 / temperature = exp(min(log_scale, log 100))

    The gradient at the bound is written by hand, for reverse mode alone (`at_most`).

    Reference:
        Radford et al., CLIP, ICML 2021, section 2.5 (the parameter and its bound).
    """

    def __init__(self, config: InfoNCE) -> None:
        self.views = config.views
        self.log_scale = nnx.Param(jnp.float32(-math.log(config.temperature)))

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """See `ObjectiveModule.__call__`."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        temperature = jnp.exp(-at_most(self.log_scale[...], math.log(MOST_SCALE)))
        loss = info_nce(z1, z2, temperature=temperature, weight=weight)
        return Term.of_batch(loss, temperature=lax.stop_gradient(temperature))


@dataclass(frozen=True, kw_only=True)
class SigmoidContrastive(PairedObjective):
    """Pairwise sigmoid loss between two views, the loss of SigLIP; scale and bias fixed or learned.

    Learned ones are logged beside the loss, as `sigmoid_contrastive/temperature` and `.../bias`.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        temperature: what cosine similarities are multiplied by; large is sharp. With `learned`,
            where it starts; called without its module, the objective has this one. So has `bias`.
        bias: added to every logit; negative, as most pairs of a batch do not match.
        learned: whether temperature and bias are parameters too, as in SigLIP.
    """

    weight: float = 1.0
    views: tuple[str, str]
    temperature: float = 10.0
    bias: float = -10.0
    learned: bool = False

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_temperature(self.temperature)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "sigmoid_contrastive"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The sigmoid loss of one batch."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        loss = sigmoid_contrastive(
            z1, z2, temperature=self.temperature, bias=self.bias, weight=weight
        )
        return Term.of_batch(loss)

    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> Any:
        """See `Objective.build`."""
        if self.learned:
            return LearnedSigmoidContrastive(self)
        return super().build(outputs, rngs=rngs)


class LearnedSigmoidContrastive(nnx.Module):
    """The module of a `SigmoidContrastive` that learns log(temperature) and the bias.

    Reference:
        Zhai, Mustafa, Kolesnikov, Beyer, SigLIP, ICCV 2023, algorithm 1.
    """

    def __init__(self, config: SigmoidContrastive) -> None:
        self.views = config.views
        self.log_temperature = nnx.Param(jnp.float32(math.log(config.temperature)))
        self.bias = nnx.Param(jnp.float32(config.bias))

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """See `ObjectiveModule.__call__`."""
        z1, z2, weight = paired_views(outputs, batch, self.views)
        scalars = {"temperature": jnp.exp(self.log_temperature[...]), "bias": self.bias[...]}
        loss = sigmoid_contrastive(z1, z2, **scalars, weight=weight)
        return Term.of_batch(loss, **lax.stop_gradient(scalars))


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
            negative either, even if it holds NaN. All 1 if None.

    Returns:
        The loss, in float32 (float64 for float64 views). A zero vector has cosine 0 and gradient 0;
        NaN or infinity in a row that counts gives NaN.

    Raises:
        ConfigError: (a ValueError) shapes that differ, or a temperature that is not positive.

    Reference:
        van den Oord, Li, Vinyals, Contrastive Predictive Coding, 2018, eq. 4; Radford et al.,
        CLIP, ICML 2021, figure 3 (the symmetric form).
    """
    _check_temperature(temperature)
    cosine, rows = _cosines(jnp.asarray(z1), jnp.asarray(z2), weight)
    logits = cosine / jnp.asarray(temperature, cosine.dtype)
    counted, own = rows > 0, jnp.eye(len(rows), dtype=bool)
    # The diagonal is kept, so that the loss of a row of weight 0 is finite before it is dropped.
    kept = (counted[:, None] & on_every_device(counted)[None, :]) | own
    matching = jnp.sum(jnp.where(own, logits, 0), axis=1)
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
    with temperature = exp(t'), starting at temperature 10 and bias -10: so does
    `SigmoidContrastive(learned=True)`.

    Args:
        z1: first view [B, D]; need not be normalised.
        z2: second view [B, D], row i the partner of row i of `z1`.
        temperature: positive scalar that multiplies the similarities; may be learned.
        bias: scalar added to every logit; may be learned.
        weight: [B], not negative: pair (i, j) weighs w_i w_j, and B becomes the sum of the weights.
            All 1 if None. A row of weight 0 may hold NaN.

    Returns:
        The loss, in float32 (float64 for float64 views). A zero vector has cosine 0 and gradient 0;
        NaN or infinity in a row that counts gives NaN.

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
    pair = rows[:, None] * on_every_device(rows)[None, :]
    return -jnp.sum(pair * jax.nn.log_sigmoid(sign * logits)) / _total(rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def at_most(x: jax.Array, most: float) -> jax.Array:
    """min(x, most), with a gradient by which descent can lower x from the bound, but not raise it.

    Where x is `most` or more, a negative gradient is replaced by 0; every other gradient passes.
    Reverse mode alone: JAX refuses `jax.jvp` and `jax.jacfwd` of it.
    """
    return jnp.minimum(x, jnp.asarray(most, x.dtype))


def _at_most_forward(x: jax.Array, most: float) -> tuple[jax.Array, jax.Array]:
    return at_most(x, most), x


def _at_most_backward(most: float, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where((x >= jnp.asarray(most, x.dtype)) & (gradient < 0), 0, gradient),)


at_most.defvjp(_at_most_forward, _at_most_backward)


def _cosines(
    z1: jax.Array, z2: jax.Array, weight: ArrayLike | None
) -> tuple[Float[Array, "B B"], Float[Array, " B"]]:
    """All cosines between two views, with rows of weight 0 set to zero; the row weights."""
    check_pair(z1, z2)
    dtype = working_dtype(z1, z2)
    rows = jnp.ones(len(z1), dtype) if weight is None else jnp.asarray(weight, dtype)
    counted = rows[:, None] > 0
    n1 = _normalised(jnp.where(counted, z1.astype(dtype), 0))
    n2 = on_every_device(_normalised(jnp.where(counted, z2.astype(dtype), 0)))
    return jnp.einsum("id,jd->ij", n1, n2, precision=lax.Precision.HIGHEST), rows


def _normalised(z: Float[Array, "B D"]) -> Float[Array, "B D"]:
    """Rows of unit length, zero where the row is zero; no square overflows or underflows."""
    # The result does not depend on the row's scale, so the scale is constant (stop-gradient).
    largest = lax.stop_gradient(jnp.max(jnp.abs(z), axis=1, keepdims=True))
    # tiny / eps: the gradient, one over the length, must be finite.
    # Not `largest > ...`, so that NaN stays NaN.
    seen = ~(largest <= jnp.finfo(z.dtype).tiny / jnp.finfo(z.dtype).eps)
    z = jnp.where(seen, z / jnp.where(seen, largest, 1), 0)
    square = jnp.sum(jnp.square(z), axis=1, keepdims=True)
    return z * lax.rsqrt(jnp.where(seen, square, 1))


def _total(rows: jax.Array) -> jax.Array:
    total = jnp.sum(rows)
    return jnp.where(total > 0, total, 1)


def _check_temperature(temperature: ArrayLike) -> None:
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ConfigError(f"temperature={temperature} must be positive")
