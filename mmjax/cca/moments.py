"""Means and covariances of several views in one pass over batches, exact in float64.

The scatter matrix R'R = sum of w (x - mean)(x - mean)' is kept as its triangular factor R, and
squared only on request. So directions of a view can be distinguished from rounding down to a
relative size of 1e-15 instead of 1e-8, and the error of correlations grows with the condition
number of a view instead of its square.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg.lapack
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.cca.sharded_moments import is_sharded, sharded_moments
from mmjax.errors import ConfigError

# Larger values are refused, and columns with a smaller deviation count as constant: between the two
# no reciprocal overflows.
LARGEST, LEAST = 1e300, 1e-290
_EXPONENT = 1000  # largest exponent of a column's unit, so that its reciprocal is finite


class Moments:
    """Count, means and covariance factor of several views, updated by batches or other moments.

        R := triangle of [R; sqrt(w) (batch - its mean); sqrt(n m / (n + m)) (its mean - mean)]

    n is the sum of weights before the batch and m that of the batch. The result does not depend on
    the order of the rows or on how they are cut into batches, except for rounding. Each column is
    kept in units of a power of two not below its largest value, so that no scale overflows.
    `jax.Array`s that are sharded over devices are summed there, in float64 where the device has it
    (`sharded_moments`); all other arrays on the host.

    Args:
        widths: columns of each view.
        squared: whether to keep the scatter matrix R'R itself instead of its factor: one matrix
            product a batch instead of a QR factorisation, at the rounding error of squares.

    Attributes:
        widths: columns of each view.
        squared: whether the scatter matrix is kept.
        rows: number of examples with a weight above 0.
        weight: sum of the weights of the examples.
        eps: machine epsilon of the coarsest arithmetic used: that of float64, except for devices
            without it.

    Example:
        >>> moments = Moments((64, 32))
        >>> for x, y in batches:
        ...     moments.update(x, y)

    Reference:
        Chan, Golub, LeVeque, Algorithms for Computing the Sample Variance, The American
        Statistician 1983 (the pairwise update); Golub and Van Loan, Matrix Computations (updates of
        a QR factorisation).
    """

    def __init__(self, widths: Sequence[int], *, squared: bool = False) -> None:
        self.widths = tuple(widths)
        self.squared = squared
        self.rows = 0
        self.weight = 0.0
        self.eps = float(np.finfo(np.float64).eps)
        width = sum(self.widths)
        self._exponents = np.full(width, -_EXPONENT)
        self._mean = np.zeros(width)
        # R; or the scatter matrix R'R itself, where `squared`
        self._scatter = np.zeros((width if squared else 0, width))

    @classmethod
    def of(
        cls,
        *views: ArrayLike | jax.Array,
        weight: ArrayLike | jax.Array | None = None,
        squared: bool = False,
    ) -> "Moments":
        """The moments of one batch: `Moments(widths).update(*views, weight=weight)`."""
        widths = [as_view(view, f"view {i}").shape[1] for i, view in enumerate(views)]
        return cls(widths, squared=squared).update(*views, weight=weight)

    def update(
        self,
        *views: ArrayLike | jax.Array,
        weight: ArrayLike | jax.Array | None = None,
        names: Sequence[str] | None = None,
    ) -> "Moments":
        """Adds a batch of examples.

        Args:
            views: [B, D_v] each; row i of every view is of the same example.
            weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1 if
                None.
            names: names of the views in error messages.

        Returns:
            This object.

        Raises:
            ConfigError: (a ValueError) values or weights that are not finite, or shapes that do not
                match each other or the earlier batches.
        """
        names = names or [f"view {i}" for i in range(len(views))]
        arrays = [as_view(view, name) for view, name in zip(views, names, strict=True)]
        widths = tuple(array.shape[1] for array in arrays)
        if widths != self.widths:
            raise ConfigError(
                f"a batch has {_listed(widths)} columns, but {_listed(self.widths)} are expected: "
                "give every batch the same columns"
            )
        check_rows(arrays, names)
        if weight is not None:
            weight = checked_weight(weight, len(arrays[0]))
        if all(isinstance(view, jax.Array) and is_sharded(view) for view in views):
            part = sharded_moments(views, weight)  # type: ignore[arg-type]
            for bad, name in zip(part.bad, names, strict=True):
                if bad:
                    raise _not_finite(name, bad, "")
            for each, name in zip(self._views(part.exponents), names, strict=True):
                if each.max() > _EXPONENT:
                    raise _too_large(name)
            self.eps = max(self.eps, part.eps)
            exponents = np.maximum(part.exponents, -_EXPONENT)
            self._merge_rows(part.rows, part.weight, exponents, part.mean, part.factor)
            return self
        hosted = [np.asarray(array) for array in arrays]
        kept = None if weight is None else weight > 0
        for array, name in zip(hosted, names, strict=True):
            check_finite(array, name, kept)
        length = max(2048 if self.squared else 256, 2**21 // max(sum(widths), 1))  # 16 MB or more
        for start in range(0, len(hosted[0]), length):
            rows = slice(start, start + length)
            block = np.concatenate([a[rows].astype(np.float64) for a in hosted], axis=1)
            self._add_rows(block, np.ones(len(block)) if weight is None else weight[rows])
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Adds the examples of other moments, for instance those of another process.

        Args:
            other: moments of views of the same widths.

        Returns:
            This object.

        Raises:
            ConfigError: the widths differ, or only one of the two is `squared`.
        """
        if other.widths != self.widths:
            raise ConfigError(
                f"moments of {_listed(other.widths)} columns cannot be merged with moments of "
                f"{_listed(self.widths)}: give both the same views"
            )
        if other.squared != self.squared:
            raise ConfigError(
                "moments with and without `squared` cannot be merged: make both with the same value"
            )
        self.eps = max(self.eps, other.eps)
        self._merge_rows(
            other.rows, other.weight, other._exponents, other._mean, other._scatter, True
        )
        return self

    @property
    def degrees(self) -> float:
        """The degrees of freedom that covariances are divided by: max(weight - 1, 1)."""
        return max(self.weight - 1, 1.0)

    @property
    def means(self) -> tuple[Float[np.ndarray, " D"], ...]:
        """The weighted means of the columns of each view."""
        return self._views(np.ldexp(self._mean, self._exponents))

    @property
    def factors(self) -> tuple[Float[np.ndarray, "M D"], ...]:
        """F_v for each view, M <= the sum of the widths, with F_v' F_w the covariance of v and w.

        They have the same second moments as the centred views over sqrt(N - 1), in fewer rows.
        """
        factor = self._scatter
        if self.squared:
            squares, V = scipy.linalg.eigh(factor)
            factor = np.sqrt(np.maximum(squares, 0))[:, None] * V.T
        return self._views(np.ldexp(factor / np.sqrt(self.degrees), self._exponents))

    @property
    def noise(self) -> tuple[Float[np.ndarray, " D"], ...]:
        """The rounding error of each column of each view: eps times its largest value.

        With `squared` it is larger: the square root of eps times the largest value.
        """
        eps = np.sqrt(self.eps) if self.squared else self.eps
        return self._views(np.ldexp(np.full(len(self._mean), eps), self._exponents))

    def covariance(self) -> Float[np.ndarray, "D D"]:
        """The covariance of the columns of all views, side by side."""
        if self.squared:
            square = np.ldexp(self._scatter / self.degrees, self._exponents)
            return np.ldexp(square.T, self._exponents)
        factor = np.concatenate(self.factors, axis=1)
        return factor.T @ factor

    def _views(self, array: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.split(array, np.cumsum(self.widths)[:-1], axis=-1))

    def _add_rows(self, block: np.ndarray, weight: np.ndarray) -> None:
        """Adds rows that are already checked; overwrites `block`."""
        kept = weight > 0
        if not kept.all():
            block, weight = block[kept], weight[kept]
        if len(block) == 0:
            return
        largest = np.abs(block).max(axis=0, initial=0.0)
        exponents = np.where(largest > 0, np.frexp(largest)[1], -_EXPONENT)
        exponents = np.clip(exponents, -_EXPONENT, _EXPONENT)
        block *= np.ldexp(1.0, -exponents)
        total = float(weight.sum())
        share = weight / total
        mean = share @ block
        block -= mean
        rest = share @ block  # a second pass removes the rounding error of the first mean
        block -= rest
        block *= np.sqrt(weight)[:, None]
        self._merge_rows(len(block), total, exponents, mean + rest, block)

    def _merge_rows(
        self,
        rows: int,
        weight: float,
        exponents: np.ndarray,
        mean: np.ndarray,
        block: np.ndarray,
        is_scatter: bool = False,
    ) -> None:
        """Adds centred rows times the roots of their weights, or their factor or scatter matrix.

        A factor is itself such rows; with `squared`, `is_scatter` tells a scatter matrix from rows.
        """
        if weight == 0:
            return
        common = np.maximum(self._exponents, exponents)
        ours, theirs = self._exponents - common, exponents - common
        if ours.any():
            self._mean = np.ldexp(self._mean, ours)
            self._scatter = np.ldexp(self._scatter, ours)
            if self.squared:
                self._scatter = np.ldexp(self._scatter.T, ours)
        if theirs.any():
            mean, block = np.ldexp(mean, theirs), np.ldexp(block, theirs)
            if self.squared and is_scatter:
                block = np.ldexp(block.T, theirs)
        total = self.weight + weight
        step = mean - self._mean
        mean_shift = np.sqrt(self.weight * (weight / total)) * step
        if self.squared:
            self._scatter += block if is_scatter else block.T @ block
            self._scatter += np.outer(mean_shift, mean_shift)
        else:
            self._scatter = _triangle(self._scatter, np.vstack([block, mean_shift]))
        self._mean = self._mean + step * (weight / total)
        self._exponents, self.weight, self.rows = common, total, self.rows + rows


def as_view(view: ArrayLike | jax.Array, name: str) -> np.ndarray | jax.Array:
    """A view as an array [N, D] of real numbers; raises a ConfigError if it is not one."""
    array = view if isinstance(view, jax.Array) else np.asarray(view)
    if array.ndim != 2:
        raise ConfigError(
            f"{name} has the shape {array.shape}, but must be [examples, columns]: flatten it"
        )
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise ConfigError(
            f"{name} has the dtype {array.dtype}, but must hold real numbers: convert it"
        )
    if array.shape[1] == 0:
        raise ConfigError(f"{name} has no columns: give it at least one")
    return array


def check_rows(views: Sequence[np.ndarray | jax.Array], names: Sequence[str]) -> None:
    """Refuses views of different numbers of rows."""
    for view, name in zip(views, names, strict=True):
        if len(view) != len(views[0]):
            raise ConfigError(
                f"{names[0]} has {len(views[0])} rows and {name} has {len(view)}: give both the "
                "same examples"
            )


def check_finite(view: np.ndarray, name: str, kept: np.ndarray | None = None) -> None:
    """Refuses NaN, infinities and values above 1e300 in the rows where `kept` is true."""
    if view.dtype.kind in "iub":
        return
    bad = ~np.isfinite(view)
    bad = bad if kept is None else bad & kept[:, None]
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise _not_finite(name, int(bad.sum()), f", the first at row {row}, column {column}")
    if view.dtype.itemsize >= 8:
        large = np.abs(view) > LARGEST
        if large[... if kept is None else kept].any():
            raise _too_large(name)


def _not_finite(name: str, count: int, where: str) -> ConfigError:
    return ConfigError(
        f"{name} holds {count} values that are not finite{where}: remove or fill them"
    )


def _too_large(name: str) -> ConfigError:
    return ConfigError(f"{name} holds values above {LARGEST:g}: divide it by a constant")


def checked_weight(weight: ArrayLike | jax.Array, rows: int) -> np.ndarray:
    """Row weights in float64; raises a ConfigError if they are not valid."""
    array = np.asarray(weight, np.float64)
    if array.shape != (rows,):
        raise ConfigError(
            f"weight has the shape {array.shape}, but the views have {rows} rows: give one weight "
            "a row"
        )
    if not ((array >= 0) & (array <= 1e100)).all():
        raise ConfigError("weight holds values outside [0, 1e100]: clip or rescale them")
    return array


def _triangle(factor: np.ndarray, block: np.ndarray) -> np.ndarray:
    """R, at most square, with R'R = factor'factor + block'block; `factor` is such an R."""
    width = factor.shape[1]
    if len(factor) < width:
        return np.asarray(np.linalg.qr(np.vstack([factor, block]), mode="r"))
    size = min(32, width)  # LAPACK's block size, in columns
    triangle, _, _, _ = scipy.linalg.lapack.dtpqrt(0, size, factor, block)
    return np.triu(triangle)


def _listed(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))
