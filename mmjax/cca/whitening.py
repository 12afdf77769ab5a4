"""Whitened views, and directions in them: the building blocks of the estimators."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from mmjax.cca.correlations import column_norms
from mmjax.cca.moments import LEAST


class Whitened(NamedTuple):
    """A view in coordinates in which its ridged covariance is the identity.

    Attributes:
        weights: W [D, R], W' (C + ridge I) W = I.
        factor: P = F W [M, R], with F'F = C. Without a ridge P'P = I.
    """

    weights: np.ndarray
    factor: np.ndarray


def whiten(
    factor: Float[np.ndarray, "M D"], noise: Float[np.ndarray, " D"], ridge: float | int
) -> Whitened:
    """Whitens a view on the directions in which it varies, by a singular value decomposition.

    Columns are scaled to unit size first, so that their units do not matter. A column counts as
    constant if its deviation is below 16 times its noise, and a direction counts as rounding if its
    singular value is below 16 times the sum of D eps and the noise along it.

    Args:
        factor: F with F'F = C, the covariance of the view.
        noise: the rounding errors of the columns, in their units.
        ridge: added to every variance.

    Returns:
        The whitened view, with R <= D directions.
    """
    deviation = column_norms(factor)
    varies = deviation > np.maximum(16 * noise, LEAST)
    size = np.hypot(deviation, np.sqrt(ridge))
    scale = np.where(varies, 1 / np.where(varies, size, 1), 0)
    similar_sizes = size.max() <= 1e4 * size.min()
    if ridge > 0 and similar_sizes and len(factor) < len(scale):
        # More columns than examples: the data has no variance along the other directions, which
        # are dropped.
        U, S, Vt = scipy.linalg.svd(factor * varies, full_matrices=False, check_finite=False)
        root = np.hypot(S, np.sqrt(ridge))
        return Whitened(Vt.T / root, U * (S / root))
    rows = factor * scale
    if ridge > 0:
        rows = np.vstack([rows, np.diag(np.sqrt(ridge) * scale)])
    U, S, Vt = scipy.linalg.svd(rows, full_matrices=False, check_finite=False)
    along = np.sqrt(np.square(Vt) @ np.square(noise * scale))
    least = 16 * (len(scale) * np.finfo(np.float64).eps + along)
    kept = least < S
    return Whitened(scale[:, None] * (Vt[kept].T / S[kept]), U[: len(factor), kept])


def unit_directions(
    view: Whitened, directions: Float[np.ndarray, "R found"], k: int
) -> tuple[Float[np.ndarray, "D k"], Float[np.ndarray, "M k"]]:
    """Weights whose projections have variance 1 on the data, and the projections of the factor.

    Args:
        view: the whitened view.
        directions: at most k, in whitened coordinates, of length 1 or less.
        k: how many to return; directions that are missing or have no variance are 0.

    Returns:
        Weights [D, k] and projections [M, k].
    """
    projections = view.factor @ directions
    deviation = np.linalg.norm(projections, axis=0)
    # The ridged variance is at most 1, and this is the data's share of it: a deviation below 1e-7
    # is rounding, or the ridge dominates the direction.
    varies = deviation > 1e-7
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    missing = ((0, 0), (0, k - directions.shape[1]))
    return (
        np.pad(view.weights @ (directions * scale), missing),
        np.pad(projections * scale, missing),
    )


def orientation(weights: Sequence[np.ndarray]) -> Float[np.ndarray, " k"]:
    """Signs that make the largest entry of each direction of the first view positive.

    Where the first view has weights 0, the next view decides.
    """
    sign = np.zeros(weights[0].shape[1])
    for a in weights:
        entry = np.take_along_axis(a, np.abs(a).argmax(0)[None], 0)[0]
        sign = np.where(sign == 0, np.sign(entry), sign)
    return np.where(sign == 0, 1.0, sign)
