"""Linear canonical correlation analysis in closed form, float64, in one pass over the data."""

from typing import overload

import numpy as np
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.cca.correlations import cosines, pearson
from mmjax.cca.moments import Moments
from mmjax.cca.view_estimator import Estimator, Solution, ViewEstimator
from mmjax.cca.whitening import (
    Whitened,
    orientation,
    unit_directions,
    whiten,
)


class LinearCCA(ViewEstimator):
    """Finds the k pairs of directions of two views whose projections are most correlated.

        maximise corr(x a_i, y b_i), projections uncorrelated with those of the pairs before, by
        T = Wx' Cxy Wy = U D V',   Wv' (Cvv + ridge I) Wv = I,   A = Wx U,   B = Wy V

    No covariance is formed: the same matrices come from triangular factors of the views
    (`Moments`), so that without a ridge the error of a correlation is rounding times the condition
    number of a view, not times its square.

    The reported correlations are Pearson correlations of the projections of the given data, so
    held-out data needs no second fit. Each direction is scaled such that its projection has
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
        moments_: the `Moments` of the data of the fit.

    Example:
        >>> cca = LinearCCA(k=10).fit(x_train, y_train)
        >>> cca.score(x_test, y_test)  # total correlation captured, at most 10
        >>> LinearCCA(k=10).fit_stream(batches)  # the same from (x, y) batches, none kept

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Hotelling, Relations between two sets of variates, Biometrika 1936; Björck and Golub,
        Numerical methods for computing angles between linear subspaces, Mathematics of Computation
        1973 (by orthogonal factors); De Bie and De Moor, On the Regularization of Canonical
        Correlation Analysis, 2003 (the ridge).
    """

    _view_names = ("x", "y")

    def __init__(self, k: int, ridge: float | int = 1e-4) -> None:
        super().__init__(k, ridge)

    def fit(
        self: Estimator, x: ArrayLike, y: ArrayLike, *, weight: ArrayLike | None = None
    ) -> Estimator:
        """Fits the directions.

        Args:
            x: first view [N, D1].
            y: second view [N, D2], row i of the same example as row i of `x`.
            weight: [N], not negative; a row of weight 0 is ignored. All 1 if None.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, `k` above min(D1, D2), N < 2, or fewer
                examples than columns and no ridge.
        """
        return self._fit((x, y), weight)

    def partial_fit(
        self: Estimator, x: ArrayLike, y: ArrayLike, *, weight: ArrayLike | None = None
    ) -> Estimator:
        """Adds one batch; the directions are computed when they are next read.

        Args:
            x: first view [B, D1].
            y: second view [B, D2].
            weight: [B], as in `fit`.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, or other columns than in earlier batches.
        """
        self._add_batch((x, y), weight)
        return self

    @overload
    def transform(self, x: ArrayLike) -> np.ndarray: ...
    @overload
    def transform(self, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]: ...
    def transform(
        self, x: ArrayLike, y: ArrayLike | None = None
    ) -> Float[np.ndarray, "N k"] | tuple[Float[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
        """Projects both views, or the first alone, as a pipeline of scikit-learn does.

        Args:
            x: first view [N, D1].
            y: second view [N, D2], or None.

        Returns:
            The projections, [N, k] each; without `y` those of `x`.

        Raises:
            ConfigError: values that are not finite, or other columns than those of the fit.
            RuntimeError: nothing was fitted yet.
        """
        if y is None:
            return self._transform_view(0, x)
        zx, zy = self._transform((x, y))
        return zx, zy

    def transform_view(self, view: int, x: ArrayLike) -> Float[np.ndarray, "N k"]:
        """Projects one view, where the other is missing.

        Args:
            view: 0 for the first view of the fit, 1 for the second.
            x: its rows [N, D1] or [N, D2].

        Returns:
            The projections [N, k], the same as from `transform`.

        Raises:
            ConfigError: no such view, or as `transform`.
            RuntimeError: nothing was fitted yet.
        """
        return self._transform_view(view, x)

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
        return pearson(*self.transform(x, y))

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

    def _solve(self, moments: Moments) -> Solution:
        both = zip(moments.factors, moments.noise, strict=True)
        weights, correlations = canonical_pair(
            *(whiten(factor, noise, self.ridge) for factor, noise in both), k=self.k
        )
        return Solution(weights, correlations, {})


def canonical_pair(
    x: Whitened, y: Whitened, *, k: int
) -> tuple[tuple[np.ndarray, ...], Float[np.ndarray, " k"]]:
    """The canonical directions of two whitened views.

    Args:
        x: the first view.
        y: the second view.
        k: how many pairs; where there are fewer, the rest are 0.

    Returns:
        The weights, [D1, k] and [D2, k], and the correlations [k], largest first without a ridge.
    """
    U, _, Vt = scipy.linalg.svd(x.factor.T @ y.factor, full_matrices=False)
    a, zx = unit_directions(x, U[:, :k], k)
    b, zy = unit_directions(y, Vt[:k].T, k)
    sign = orientation((a, b))
    return (a * sign, b * sign), cosines(zx, zy)
