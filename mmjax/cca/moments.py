"""Means and covariances of several views in one pass over batches, exact in float64.

The covariance is kept as its triangular factor R, R'R = sum of w (x - mean)(x - mean)', and, unless
asked for, never squared: directions of a view can be told from rounding down to a relative size of
1e-15 instead of 1e-8, and correlations lose the condition number of a view instead of its square.
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

# Larger values are refused, and columns that deviate less are constants: between them no reciprocal
# overflows.
LARGEST, LEAST = 1e300, 1e-290
_EXPONENT = 1000  # of the units of columns, at most in size: their reciprocals are numbers too


class Moments:
    """Count, means and the factor of the covariance of views; batches and other moments join in.

        R := triangle of [R; sqrt(w) (batch - its mean); sqrt(n m / (n + m)) (its mean - mean)]

    n and m are the sums of weights so far and of the batch. Any order and any cut into batches give
    the same to rounding. Each column is kept in units of a power of two not below its largest
    value, so that no scale overflows. `jax.Array`s that lie sharded over devices are summed there,
    in float64 where the device has it (`sharded_moments`); all other arrays on the host.

    Args:
        widths: columns of each view.
        squared: whether to keep R'R itself, not its factor: one matrix product a batch instead of a
            QR factorisation, with the rounding of squares.

    Attributes:
        widths: columns of each view.
        squared: as given.
        rows: examples with a weight above 0.
        weight: sum of the weights of the examples.
        eps: rounding of the coarsest arithmetic that took part; that of float64, but for devices
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
        """Takes in a batch of examples.

        Args:
            views: [B, D_v] each; row i of every view is of the same example.
            weight: [B], not negative; a row of weight 0 is as if it were not there, even if it
                holds NaN. All 1 if None.
            names: what errors call the views.

        Returns:
            This object.

        Raises:
            ConfigError: (a ValueError) values or weights that are not finite, or shapes that do not
                fit each other or the batches before.
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
        """Takes in the examples of other moments, for instance those of another process.

        Args:
            other: moments of views of the same widths.

        Returns:
            This object.

        Raises:
            ConfigError: other widths, or one keeps squares and the other does not.
        """
        if other.widths != self.widths:
            raise ConfigError(
                f"moments of {_listed(other.widths)} columns do not fit these of "
                f"{_listed(self.widths)}: give both the same views"
            )
        if other.squared != self.squared:
            raise ConfigError("moments with and without `squared` do not fit: make both alike")
        self.eps = max(self.eps, other.eps)
        self._merge_rows(
            other.rows, other.weight, other._exponents, other._mean, other._scatter, True
        )
        return self

    @property
    def degrees(self) -> float:
        """What covariances are divided by: max(weight - 1, 1)."""
        return max(self.weight - 1, 1.0)

    @property
    def means(self) -> tuple[Float[np.ndarray, " D"], ...]:
        """The weighted means of the columns of each view."""
        return self._views(np.ldexp(self._mean, self._exponents))

    @property
    def factors(self) -> tuple[Float[np.ndarray, "M D"], ...]:
        """F_v for each view, M <= the sum of the widths, with F_v' F_w the covariance of v and w.

        They are to second moments what the centred views over sqrt(N - 1) are, with fewer rows.
        """
        factor = self._scatter
        if self.squared:
            squares, V = scipy.linalg.eigh(factor)
            factor = np.sqrt(np.maximum(squares, 0))[:, None] * V.T
        return self._views(np.ldexp(factor / np.sqrt(self.degrees), self._exponents))

    @property
    def noise(self) -> tuple[Float[np.ndarray, " D"], ...]:
        """The size of rounding errors in each column of each view: eps times its largest value.

        Those of factors from squares are larger: the root of eps times it.
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
        """Joins rows that the caller has checked and gives away."""
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
        rest = share @ block  # a second pass takes away what the sum of the first lost to rounding
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
    """A view as an array with two axes, or the sentence that it is none."""
    array = view if isinstance(view, jax.Array) else np.asarray(view)
    if array.ndim != 2:
        raise ConfigError(
            f"{name} has the shape {array.shape}, but must be [examples, columns]: flatten it"
        )
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise ConfigError(
            f"{name} holds values of the type {array.dtype}, but must hold real numbers: convert it"
        )
    if array.shape[1] == 0:
        raise ConfigError(f"{name} has no columns: give it at least one")
    return array


def check_rows(views: Sequence[np.ndarray | jax.Array], names: Sequence[str]) -> None:
    """Refuses views of different numbers of rows."""
    for view, name in zip(views, names, strict=True):
        if len(view) != len(views[0]):
            raise ConfigError(
                f"{names[0]} has {len(views[0])} rows and {name} {len(view)}: give both the same "
                "examples"
            )


def check_finite(view: np.ndarray, name: str, kept: np.ndarray | None = None) -> None:
    """Refuses NaN, infinities and values above 1e300 in the rows that count."""
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
    """Weights of rows in float64, or the sentence that they are none."""
    array = np.asarray(weight, np.float64)
    if array.shape != (rows,):
        raise ConfigError(
            f"weight has the shape {array.shape}, but the views have {rows} rows: give one weight "
            "a row"
        )
    if not ((array >= 0) & (array <= 1e100)).all():
        raise ConfigError("weight must lie between 0 and 1e100, but some of it does not")
    return array


def _triangle(factor: np.ndarray, block: np.ndarray) -> np.ndarray:
    """R, at most square, with R'R = factor'factor + block'block; `factor` is such an R."""
    width = factor.shape[1]
    if len(factor) < width:
        return np.asarray(np.linalg.qr(np.vstack([factor, block]), mode="r"))
    size = min(32, width)  # of the blocks of columns that LAPACK works in
    triangle, _, _, _ = scipy.linalg.lapack.dtpqrt(0, size, factor, block)
    return np.triu(triangle)


def _listed(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))
