"""Linear canonical correlation analysis in closed form, float64 on the host."""

import numpy as np
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.errors import ConfigError


class LinearCCA:
    """Finds the k pairs of directions of two views whose projections are most correlated.

        maximise corr(x a_i, y b_i), projections uncorrelated with those of the pairs before, by
        T = Wx' Cxy Wy = U D V',   Wv' (Cvv + ridge I) Wv = I,   A = Wx U,   B = Wy V

    The correlations that it reports are Pearson correlations of projections of the data at hand, so
    those of held-out data need no second fit. Each direction is scaled such that its projection has
    variance 1 on the data of the fit, and signed such that its largest entry for `x` is positive.
    Views may have any rank, even without a ridge: where a view does not vary (a constant or a
    repeated column leaves such directions), the weights and the correlation are 0.

    Args:
        k: number of pairs of directions.
        ridge: added to every variance, in the units of the columns squared.

    Attributes:
        mean_: the means of the columns of x and y, [D1] and [D2].
        weights_: the directions, [D1, k] and [D2, k].
        correlations_: Pearson correlations of the projections of the data of the fit, [k].

    Example:
        >>> cca = LinearCCA(k=10).fit(x_train, y_train)
        >>> cca.score(x_test, y_test)  # total correlation captured, at most 10

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Hotelling, Relations between two sets of variates, Biometrika 1936; De Bie and De Moor, On
        the Regularization of Canonical Correlation Analysis, 2003 (the ridge).
    """

    mean_: tuple[np.ndarray, np.ndarray]
    weights_: tuple[np.ndarray, np.ndarray]
    correlations_: np.ndarray

    def __init__(self, k: int, ridge: float | int = 1e-4) -> None:
        if k < 1:
            raise ConfigError(f"k={k} must be at least 1")
        if not ridge >= 0:
            raise ConfigError(f"ridge={ridge} must not be negative")
        self.k = k
        self.ridge = ridge

    def fit(self, x: ArrayLike, y: ArrayLike) -> "LinearCCA":
        """Fits the directions.

        Args:
            x: first view [N, D1].
            y: second view [N, D2], row i of the same example as row i of `x`.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, `k` above min(D1, D2), N < 2, or fewer
                examples than columns and no ridge.
        """
        X, Y = _checked(x, y)
        n, columns = len(X), (X.shape[1], Y.shape[1])
        if self.k > min(columns):
            raise ConfigError(
                f"k={self.k} is more than the {min(columns)} columns of the narrower view: choose "
                f"k from 1 to {min(columns)}"
            )
        if n < 2:
            raise ConfigError("a fit needs at least 2 examples")
        if n < max(columns) and self.ridge == 0:
            raise ConfigError(
                f"{n} examples cannot give the covariance of {max(columns)} columns: use more "
                "examples, fewer columns, or a ridge above 0"
            )
        self.mean_ = (_mean(X), _mean(Y))
        X, Y = X - self.mean_[0], Y - self.mean_[1]
        whiten_x = _whitening(X, self.mean_[0], self.ridge)
        whiten_y = _whitening(Y, self.mean_[1], self.ridge)
        T = whiten_x.T @ (X.T @ Y / (n - 1)) @ whiten_y
        U, _, Vt = scipy.linalg.svd(T, full_matrices=False)
        a, b = whiten_x @ U[:, : self.k], whiten_y @ Vt[: self.k].T
        sign = np.where(np.take_along_axis(a, np.abs(a).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
        self.weights_ = (_unit_variance(X, a * sign), _unit_variance(Y, b * sign))
        self.correlations_ = _pearson(X @ self.weights_[0], Y @ self.weights_[1])
        return self

    def transform(
        self, x: ArrayLike, y: ArrayLike
    ) -> tuple[Float[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
        """Projects both views.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].

        Returns:
            The projections, [N, k] each.

        Raises:
            ConfigError: values that are not finite, or other columns than those of the fit.
            RuntimeError: nothing was fitted yet.
        """
        if not hasattr(self, "weights_"):
            raise RuntimeError("this LinearCCA has no directions yet: call fit first")
        X, Y = _checked(x, y)
        fitted, given = tuple(len(w) for w in self.weights_), (X.shape[1], Y.shape[1])
        if given != fitted:
            raise ConfigError(
                f"the views have {given[0]} and {given[1]} columns, but {fitted[0]} and "
                f"{fitted[1]} were fitted: give the same columns"
            )
        (mean_x, mean_y), (a, b) = self.mean_, self.weights_
        return (X - mean_x) @ a, (Y - mean_y) @ b

    def correlations(self, x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, " k"]:
        """Pearson correlations of the k pairs of projections of this data, without a new fit.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].

        Returns:
            [k], each between -1 and 1; 0 where a projection does not vary.

        Raises:
            ConfigError: as `transform`.
        """
        return _pearson(*self.transform(x, y))

    def score(self, x: ArrayLike, y: ArrayLike) -> float:
        """Total correlation of this data: the sum of `correlations`, at most k.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].

        Returns:
            The sum.

        Raises:
            ConfigError: as `transform`.
        """
        return float(self.correlations(x, y).sum())


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    views = {"x": np.asarray(x, np.float64), "y": np.asarray(y, np.float64)}
    for name, view in views.items():
        if view.ndim != 2:
            raise ConfigError(
                f"{name} has the shape {view.shape}, but must be [examples, columns]: flatten it"
            )
        bad = ~np.isfinite(view)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ConfigError(
                f"{name} holds {int(bad.sum())} values that are not finite, the first at row "
                f"{row}, column {column}: remove or fill them"
            )
    if len(views["x"]) != len(views["y"]):
        raise ConfigError(
            f"x has {len(views['x'])} rows and y {len(views['y'])}: give both the same examples"
        )
    return views["x"], views["y"]


def _mean(x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " D"]:
    """The means of the columns, in two passes: the second mends the rounding of the first."""
    mean = x.mean(axis=0)
    return mean + (x - mean).mean(axis=0)


def _whitening(x: Float[np.ndarray, "N D"], mean: np.ndarray, ridge: float | int) -> np.ndarray:
    """W [D, D] with W' (C + ridge I) W = I for a centred view, 0 in directions without variance."""
    C = x.T @ x / (len(x) - 1)
    eps, variance = np.finfo(C.dtype).eps, np.diagonal(C)
    # Below this a variance is what rounding the mean left of a constant column.
    varies = variance > np.square(16 * eps * mean)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance + ridge, 1)), 0)
    # Columns of unit size first: whether a direction is rounding does not hang on their units.
    eigenvalues, V = scipy.linalg.eigh(scale[:, None] * (C + ridge * np.eye(len(C))) * scale)
    kept = eigenvalues > 16 * len(C) * eps
    return scale[:, None] * V * np.where(kept, 1 / np.sqrt(np.where(kept, eigenvalues, 1)), 0)


def _unit_variance(x: Float[np.ndarray, "N D"], a: Float[np.ndarray, "D k"]) -> np.ndarray:
    """Directions scaled to variance 1 on this view; 0 where the view does not vary along them."""
    deviation = (x @ a).std(axis=0, ddof=1)
    # By construction a'(C + R)a = 1, and a'Ca is the data's share of that: a deviation below 1e-7
    # is rounding, or a ridge that swamps the direction.
    varies = deviation > 1e-7
    return a * np.where(varies, 1 / np.where(varies, deviation, 1), 0)


def _pearson(zx: Float[np.ndarray, "N k"], zy: Float[np.ndarray, "N k"]) -> np.ndarray:
    if len(zx) == 0:
        raise ConfigError("there are no examples to correlate")
    largest = np.abs(zx).max(axis=0), np.abs(zy).max(axis=0)
    zx, zy = zx - zx.mean(axis=0), zy - zy.mean(axis=0)
    norm_x, norm_y = np.linalg.norm(zx, axis=0), np.linalg.norm(zy, axis=0)
    # 1e-10 of the largest entry is what rounding leaves of a constant projection.
    noise = 1e-10 * np.sqrt(len(zx))
    varies = (norm_x > noise * largest[0]) & (norm_y > noise * largest[1])
    scale = np.where(varies, norm_x * norm_y, 1)
    return np.clip(np.where(varies, (zx * zy).sum(axis=0) / scale, 0), -1, 1)
