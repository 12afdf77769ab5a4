"""The losses of autoencoders: reconstruction, and KL divergence of posterior and prior."""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.objectives.objective import Objective, rows_weight, weighted_mean, working_dtype
from mmjax.structs import Batch, Outputs

ROUNDING = 1e-6  # how far a value may be outside [0, 1], from interpolating or scaling images


class _OfReconstructions(Objective):
    """Base of the reconstruction losses: each is summed over its views."""

    views: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise ConfigError(f"views={self.views} must name each view to reconstruct once.")

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The loss of one batch, over the rows that have the view and a code to decode it from."""
        total = jnp.zeros((), jnp.float32)
        for view in self.views:
            if view not in outputs.reconstructions:
                raise unknown_name("reconstruction", view, outputs.reconstructions)
            decoded = outputs.reconstructions[view]
            rows = jnp.where(decoded.present & jnp.asarray(batch.present[view]), batch.weight, 0)
            total += self._loss(decoded.values, batch.inputs[view], rows)
        return total

    @abc.abstractmethod
    def _loss(self, decoded: ArrayLike, x: ArrayLike, weight: ArrayLike) -> jax.Array:
        """The loss of one view."""


@dataclass(frozen=True, kw_only=True)
class SquaredReconstruction(_OfReconstructions):
    """Squared distance of views and their reconstructions.

    Attributes:
        weight: factor of this term in the training loss; 1 / (2 sigma^2) for the likelihood of a
            Gaussian of the deviation sigma.
        views: the modalities, each with a decoder.
    """

    weight: float = 1.0
    views: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "squared_reconstruction"

    def _loss(self, decoded: ArrayLike, x: ArrayLike, weight: ArrayLike) -> jax.Array:
        return squared_reconstruction(decoded, x, weight=weight)


@dataclass(frozen=True, kw_only=True)
class BernoulliReconstruction(_OfReconstructions):
    """Minus the Bernoulli log likelihood of views in [0, 1], by the logits of their decoders.

    Attributes:
        weight: factor of this term in the training loss.
        views: the modalities, each with a decoder.
    """

    weight: float = 1.0
    views: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "bernoulli_reconstruction"

    def check_batch(self, batch: Batch) -> None:
        """Refuses views with values outside [0, 1], where the likelihood is 0."""
        for view in self.views:
            x = np.asarray(batch.inputs[view])[np.asarray(batch.present[view])]
            if x.size and (x.min() < -ROUNDING or x.max() > 1 + ROUNDING):
                raise DataError(
                    f"The modality {view!r} has values from {x.min():.6g} to {x.max():.6g}, and "
                    "BernoulliReconstruction is for values from 0 to 1: use SquaredReconstruction "
                    "for it, or scale it."
                )

    def _loss(self, decoded: ArrayLike, x: ArrayLike, weight: ArrayLike) -> jax.Array:
        return bernoulli_reconstruction(decoded, x, weight=weight)


@dataclass(frozen=True, kw_only=True)
class KLDivergence(Objective):
    """The divergence of all posteriors of a variational model from a standard normal prior.

    Attributes:
        weight: factor of this term in the training loss; 1 for the evidence lower bound.
    """

    weight: float = 1.0

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "kl_divergence"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The sum over the posteriors, of the rows that each is of."""
        if not outputs.posteriors:
            raise ConfigError(
                "KLDivergence needs a model with posteriors, such as VariationalCCA: use one, or "
                "leave this objective out."
            )
        total = jnp.zeros((), jnp.float32)
        for posterior in outputs.posteriors.values():
            rows = jnp.where(posterior.present, batch.weight, 0)
            total += kl_divergence(posterior.mean, posterior.log_variance, weight=rows)
        return total


def squared_reconstruction(
    decoded: ArrayLike, x: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """The squared distance, summed over the elements of an example, averaged over the examples.

        loss = 1/B sum_b ||x_b - decoded_b||^2

    Args:
        decoded: [B, ...].
        x: the input to reconstruct, of the same shape.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None.

    Returns:
        The loss, at least 0, in float32 (float64 for float64 arrays); 0 if all weights are 0. In
        float32 it is infinite for distances above about 1e19.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Wang, Arora, Livescu, Bilmes, On Deep Multi-View Representation Learning, ICML 2015, the
        second term of DCCAE.
    """
    decoded, x, rows = _pairs(decoded, x, weight)
    return weighted_mean(jnp.sum(jnp.square(x - decoded), axis=1), rows)


def bernoulli_reconstruction(
    logits: ArrayLike, x: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """Minus the log likelihood of values in [0, 1] under independent Bernoulli variables.

        loss = -1/B sum_b sum_i x log p + (1 - x) log(1 - p),   p = 1 / (1 + exp(-logit))

    Args:
        logits: [B, ...].
        x: between 0 and 1, of the same shape.
        weight: as in `squared_reconstruction`.

    Returns:
        The loss, at least 0, in float32 (float64 for float64 arrays); 0 if all weights are 0, and
        infinite if a value is outside [0, 1] by more than rounding, as its likelihood is 0.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Kingma, Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix C.1.
    """
    logits, x, rows = _pairs(logits, x, weight)
    # log(1 + exp(s)) - x s, without overflow.
    loss = weighted_mean(jnp.sum(jax.nn.softplus(logits) - x * logits, axis=1), rows)
    return jnp.where(jnp.all((x >= -ROUNDING) & (x <= 1 + ROUNDING)), loss, jnp.inf)


def kl_divergence(
    mean: ArrayLike, log_variance: ArrayLike, *, weight: ArrayLike | None = None
) -> Float[Array, ""]:
    """KL(N(mean, exp(log_variance)) || N(0, I)), averaged over the examples.

        loss = 1/(2 B) sum_b sum_k mean^2 + exp(log_variance) - 1 - log_variance

    Args:
        mean: [B, K].
        log_variance: [B, K].
        weight: as in `squared_reconstruction`.

    Returns:
        The divergence, at least 0, in float32 (float64 for float64 arrays); infinite for a log
        variance above 88 in float32.

    Raises:
        ConfigError: (a ValueError) shapes that differ.

    Reference:
        Kingma, Welling, Auto-Encoding Variational Bayes, ICLR 2014, appendix B.
    """
    mean, log_variance, rows = _pairs(mean, log_variance, weight)
    each = jnp.square(mean) + jnp.expm1(log_variance) - log_variance
    return weighted_mean(0.5 * jnp.sum(each, axis=1), rows)


def _pairs(
    first: ArrayLike, second: ArrayLike, weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Both as [B, N] in the working dtype, 0 in rows of weight 0; the row weights."""
    first, second = jnp.asarray(first), jnp.asarray(second)
    if first.shape != second.shape or first.ndim < 2:
        raise ConfigError(
            f"the arrays have the shapes {first.shape} and {second.shape}, which must be equal and "
            "start with the batch axis: give both the same examples"
        )
    dtype = working_dtype(first, second)
    rows = rows_weight(weight, len(first), dtype)

    def kept(array: jax.Array) -> jax.Array:
        return jnp.where(rows[:, None] > 0, array.reshape(len(array), -1).astype(dtype), 0)

    return kept(first), kept(second), rows
