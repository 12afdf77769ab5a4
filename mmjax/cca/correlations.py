"""Correlations of pairs of columns, without overflow, and 0 where a column is constant."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmjax.errors import ConfigError


def column_norms(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """The Euclidean norms of columns; no square overflows."""
    largest = np.abs(x).max(axis=0, initial=0.0)
    unit = np.where(largest > 0, largest, 1)
    return unit * np.linalg.norm(x / unit, axis=0)


def cosines(zx: Float[np.ndarray, "N k"], zy: Float[np.ndarray, "N k"]) -> np.ndarray:
    """The cosine of each pair of columns, [k], clipped to [-1, 1]; 0 where a column is zero."""
    norms = column_norms(zx), column_norms(zy)
    zx, zy = (z / np.where(norm > 0, norm, 1) for z, norm in zip((zx, zy), norms, strict=True))
    cosine = (zx * zy).sum(axis=0)
    # Only rounding goes above 1.
    if not (np.abs(cosine) < 1 + 1e-9).all():
        raise AssertionError(f"a correlation of {cosine} is more than rounding above 1")
    return np.clip(cosine, -1, 1)


def pearson(zx: Float[np.ndarray, "N k"], zy: Float[np.ndarray, "N k"]) -> np.ndarray:
    """Pearson's correlation of each pair of columns, [k]; 0 where a column is constant."""
    if len(zx) == 0:
        raise ConfigError("there are no examples to correlate: give at least one")
    centred = []
    for z in (zx, zy):
        largest = np.abs(z).max(axis=0)
        z = z / np.where(largest > 0, largest, 1)
        z = z - z.mean(axis=0)
        # Up to 1e-10 of the largest entry, the deviation of a constant projection is rounding.
        centred.append(np.where(np.linalg.norm(z, axis=0) > 1e-10 * np.sqrt(len(z)), z, 0))
    return cosines(*centred)


def mean_pairwise(projections: Sequence[np.ndarray]) -> np.ndarray:
    """Pearson's correlations averaged over all pairs of views, [k]."""
    pairs = [(i, j) for j in range(len(projections)) for i in range(j)]
    return np.mean([pearson(projections[i], projections[j]) for i, j in pairs], axis=0)
