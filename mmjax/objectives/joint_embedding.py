"""Joint embedding: a small distance of positive pairs and, with a margin, a large one of negatives.

Without a margin the loss has its minimum, zero, when all embeddings are zero: trained encoders
collapse to that, and faster with a larger regularization. Use a margin, or a second objective (a
classifier, a reconstruction), wherever the encoders are trained.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.batch_covariance import on_every_device
from mmjax.objectives.batch_views import with_gradient_of
from mmjax.objectives.objective import (
    PairedObjective,
    check_pair,
    check_two_views,
    label_of,
    paired_views,
    weighted_mean,
    working_dtype,
)
from mmjax.structs import Batch, Outputs, Term

LARGEST = 2**22  # differences that are computed at once: 16 MiB of float32


@dataclass(frozen=True, kw_only=True)
class JointEmbedding(PairedObjective):
    """Mean squared distance of positive pairs, with a penalty on the norms of the embeddings.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings, of equal width.
        target: name of a label; examples with equal labels are positive pairs. If not given, only
            the two views of one example are.
        regularization: factor of the mean squared norms of the embeddings.
        margin: negative pairs closer than this distance are penalised; if not given, no pair is,
            and without another objective the embeddings collapse to zero.
    """

    weight: float = 1.0
    views: tuple[str, str]
    target: str | None = None
    regularization: float = 1e-3
    margin: float | None = None

    def __post_init__(self) -> None:
        check_two_views(self.views)
        _check_numbers(self.regularization, self.margin)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "joint_embedding"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The joint embedding loss of one batch."""
        f, g, weight = paired_views(outputs, batch, self.views)
        if self.target is None:
            same = jnp.eye(len(f), dtype=bool)
        else:
            label, known = label_of(batch, self.target)
            same = label[:, None] == on_every_device(label)[None, :]
            weight = jnp.where(known > 0, weight, 0)
        loss = joint_embedding(
            f,
            g,
            same.astype(jnp.float32),
            regularization=self.regularization,
            margin=self.margin,
            weight=weight,
        )
        return Term.of_batch(loss)

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {} if self.target is None else {self.target: ("class",)}


def joint_embedding(
    f: ArrayLike,
    g: ArrayLike,
    s: ArrayLike,
    *,
    regularization: float | int,
    margin: float | int | None = None,
    weight: ArrayLike | None = None,
) -> Float[Array, ""]:
    """Mean squared distance of positive pairs, a penalty on the norms, and an optional margin term.

        loss = sum_ij s_ij ||f_i - g_j||^2 / sum_ij s_ij
             + regularization (sum_i ||f_i||^2 + sum_j ||g_j||^2) / B
             + sum_{s_ij = 0} max(0, margin - ||f_i - g_j||)^2 / #{s_ij = 0}      (with a margin)

    Every term is a mean, so that the loss and the meaning of `regularization` do not depend on the
    size of the batch. The plain sum, sum_ij s_ij ||f_i - g_j||^2 + r (sum_i ||f_i||^2 + sum_j
    ||g_j||^2), is sum_ij s_ij times this loss with regularization = r B / sum_ij s_ij. With s the
    identity that is B times this loss with the same regularization.

    Without a margin, zero embeddings have loss zero: only another objective prevents a collapse.

    Args:
        f: first view [B, D].
        g: second view [B, D].
        s: [B, B], not negative: the similarity of f_i and g_j.
        regularization: factor of the mean squared norms.
        margin: distance from which a pair with s_ij = 0 has no loss; None for no such term.
        weight: [B], not negative: pair (i, j) weighs w_i w_j in the means over pairs, row i weighs
            w_i in the mean norms. All 1 if None.

    Returns:
        The loss, in float32 (float64 for float64 views). At distance zero, where the margin term
        is not differentiable, its gradient is zero.

    Raises:
        ConfigError: (a ValueError) shapes that do not match, a negative regularization, or a margin
            that is not positive.

    Reference:
        Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR
        2006, eq. 4 (the margin).
    """
    f, g, s = jnp.asarray(f), jnp.asarray(g), jnp.asarray(s)
    check_pair(f, g)
    if s.shape != (len(f), len(f)):
        raise ConfigError(
            f"the similarity has the shape {s.shape}, but {len(f)} examples need "
            f"({len(f)}, {len(f)}): give one number for every pair"
        )
    _check_numbers(regularization, margin)
    dtype = working_dtype(f, g)
    rows = jnp.ones(len(f), dtype) if weight is None else jnp.asarray(weight, dtype)
    counted = rows > 0
    f = jnp.where(counted[:, None], f.astype(dtype), 0)
    g = jnp.where(counted[:, None], g.astype(dtype), 0)
    pair = rows[:, None] * on_every_device(rows)[None, :]
    s = jnp.where(pair > 0, s.astype(dtype), 0)

    square = _squared_distances(f, g, rows)
    loss = weighted_mean(square, pair * s)
    norms = jnp.sum(jnp.square(f), axis=1) + jnp.sum(jnp.square(g), axis=1)
    loss = loss + regularization * weighted_mean(norms, rows)
    if margin is not None:
        distinct = square > 0
        distance = jnp.where(distinct, jnp.sqrt(jnp.where(distinct, square, 1)), 0)
        shortfall = jax.nn.relu(margin - distance)
        loss = loss + weighted_mean(jnp.square(shortfall), jnp.where(s == 0, pair, 0))
    return loss


def _squared_distances(f: jax.Array, g: jax.Array, rows: jax.Array) -> Float[Array, "B B"]:
    """||f_i - g_j||^2: the value from differences, the gradient from products of matrices.

    The value of ||f_i||^2 + ||g_j||^2 - 2 f_i.g_j would lose small distances by cancellation, and
    with them the gradient that parts near-equal negatives. Its own gradient loses nothing like it.
    """
    fixed, others = lax.stop_gradient((f, on_every_device(g)))
    # As many g_j at once as fit `LARGEST`.
    square = lax.map(
        lambda g_j: jnp.sum(jnp.square(fixed - g_j[None, :]), axis=1),
        others,
        batch_size=max(LARGEST // max(f.size, 1), 1),
    ).T
    # About a common centre, for less rounding.
    share = (rows / jnp.maximum(2 * jnp.sum(rows), jnp.finfo(rows.dtype).tiny))[:, None]
    centre = lax.stop_gradient(jnp.sum(share * (f + g), axis=0, keepdims=True))
    f, g = f - centre, on_every_device(g - centre)
    products = (
        jnp.sum(jnp.square(f), axis=1)[:, None]
        + jnp.sum(jnp.square(g), axis=1)[None, :]
        - 2 * jnp.einsum("id,jd->ij", f, g, precision=lax.Precision.HIGHEST)
    )
    return with_gradient_of(square, products)


def _check_numbers(regularization: float | int, margin: float | int | None) -> None:
    if isinstance(regularization, int | float) and not regularization >= 0:
        raise ConfigError(f"regularization={regularization} must not be negative")
    if isinstance(margin, int | float) and not margin > 0:
        raise ConfigError(f"margin={margin} must be positive; leave it out for no margin")
