"""Canonical correlation of two views given a third."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.cca.correlations import pearson
from mmjax.cca.linear_cca import canonical_pair
from mmjax.cca.moments import Moments
from mmjax.cca.view_estimator import Estimator, Solution, ViewEstimator, checked_projection
from mmjax.cca.whitening import whiten
from mmjax.errors import ConfigError


class PartialCCA(ViewEstimator):
    """Linear CCA of the residuals of x and y after linear regression on z.

        Cxy.z = Cxy - Cxz Czz^+ Czy,   likewise Cxx.z and Cyy.z;   linear CCA of these

    The Schur complements come from the triangular factors of the views, not from a difference of
    covariances, so that small residuals keep their precision. `z` may have any rank; where x or y
    is a linear function of z, the residual is 0, and so are the weights and the correlation.

    Args:
        k: number of pairs of directions.
        ridge: added to every residual variance, in the units of the columns squared; the regression
            on z has no ridge.

    Attributes:
        mean_: the means of the columns of x, y and z.
        weights_: the directions, [D1, k] and [D2, k], scaled and signed as those of `LinearCCA`.
        regression_: the coefficients of x and of y on z, [D3, D1] and [D3, D2]; not unique if z is
            not of full rank.
        correlations_: Pearson correlations of the projected residuals of the data of the fit, [k].
        moments_: the `Moments` of the data of the fit.

    Example:
        >>> PartialCCA(k=2).fit(x_train, y_train, z_train).score(x_test, y_test, z_test)

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Rao, Partial canonical correlations, Trabajos de Estadistica y de Investigacion Operativa
        1969.
    """

    _view_names = ("x", "y", "z")

    def __init__(self, k: int, ridge: float | int = 1e-4) -> None:
        super().__init__(k, ridge)

    def fit(
        self: Estimator,
        x: ArrayLike,
        y: ArrayLike,
        z: ArrayLike,
        *,
        weight: ArrayLike | None = None,
    ) -> Estimator:
        """Fits the regressions on z and the directions.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].
            z: conditioning view [N, D3]; row i of all three is of the same example.
            weight: [N], not negative; a row of weight 0 is ignored. All 1 if None.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, `k` above min(D1, D2), N < 2, or no ridge and
                fewer than max(D1, D2) + D3 examples.
        """
        return self._fit((x, y, z), weight)

    def partial_fit(
        self: Estimator,
        x: ArrayLike,
        y: ArrayLike,
        z: ArrayLike,
        *,
        weight: ArrayLike | None = None,
    ) -> Estimator:
        """Adds one batch; the directions are computed when they are next read.

        Args:
            x: first view [B, D1].
            y: second view [B, D2].
            z: conditioning view [B, D3].
            weight: [B], as in `fit`.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, or other columns than in earlier batches.
        """
        self._add_batch((x, y, z), weight)
        return self

    def transform(
        self, x: ArrayLike, y: ArrayLike, z: ArrayLike
    ) -> tuple[Float[np.ndarray, "N k"], Float[np.ndarray, "N k"]]:
        """Projects the residuals of both views, by the regressions of the fit.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].
            z: conditioning view [N, D3].

        Returns:
            The projections, [N, k] each.

        Raises:
            ConfigError: values that are not finite, or other columns than those of the fit.
            RuntimeError: nothing was fitted yet.
        """
        a, b = self.weights_
        extra = self._result().extra
        X, Y, Z = self._centred((x, y, z))
        with np.errstate(over="ignore", invalid="ignore"):
            W = Z @ extra["z_weights"]
            to_x, to_y = extra["coefficients"]
            zx, zy = (X - W @ to_x) @ a, (Y - W @ to_y) @ b
        return checked_projection(zx), checked_projection(zy)

    def correlations(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Float[np.ndarray, " k"]:
        """Pearson correlations of the k pairs of projections of this data, without a new fit.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].
            z: conditioning view [N, D3].

        Returns:
            [k], each between -1 and 1; 0 where a projection does not vary.

        Raises:
            ConfigError: as `transform`.
        """
        return pearson(*self.transform(x, y, z))

    def score(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> float:
        """Total correlation of this data: the sum of `correlations`, at most k.

        Args:
            x: first view [N, D1].
            y: second view [N, D2].
            z: conditioning view [N, D3].

        Returns:
            The sum.

        Raises:
            ConfigError: as `transform`.
        """
        return float(self.correlations(x, y, z).sum())

    @property
    def regression_(self) -> tuple[np.ndarray, np.ndarray]:
        """The coefficients of x and of y on z, [D3, D1] and [D3, D2]."""
        extra = self._ensure_solved()._result().extra
        with np.errstate(over="ignore", invalid="ignore"):
            to_x, to_y = (extra["z_weights"] @ on_w for on_w in extra["coefficients"])
        if not (np.isfinite(to_x).all() and np.isfinite(to_y).all()):
            raise ConfigError("the coefficients on z overflow: bring the views to similar scales")
        return to_x, to_y

    def _correlated(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        return widths[:2]

    def _needed_rows(self, widths: tuple[int, ...]) -> int:
        return max(widths[:2]) + widths[2]

    def _solve(self, moments: Moments) -> Solution:
        *both, given = moments.factors
        *noises, noise_z = moments.noise
        z = whiten(given, noise_z, 0)
        noise_w = noise_z @ np.abs(z.weights)  # of the whitened z
        views, coefficients = [], []
        for factor, noise in zip(both, noises, strict=True):
            on_z = z.factor.T @ factor
            residual = factor - z.factor @ on_z
            # A second pass removes what rounding left of the first.
            correction = z.factor.T @ residual
            coefficients.append(on_z + correction)
            # A residual inherits the rounding error of the regression that is subtracted.
            noise_of_fit = (np.abs(z.factor).sum(axis=0) * moments.eps + noise_w) @ np.abs(on_z)
            views.append(whiten(residual - z.factor @ correction, noise + noise_of_fit, self.ridge))
        weights, correlations = canonical_pair(*views, k=self.k)
        extra = {"z_weights": z.weights, "coefficients": coefficients}
        return Solution(weights, correlations, extra)
