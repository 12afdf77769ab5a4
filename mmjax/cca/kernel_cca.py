"""Kernel canonical correlation analysis by random features, in one pass over the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from mmjax.cca.kernel_features import FeatureMap, Nystrom, RandomFourier
from mmjax.cca.linear_cca import LinearCCA
from mmjax.cca.moments import Moments, check_finite, check_rows, checked_weight
from mmjax.cca.view_estimator import ROWS, Solution
from mmjax.cca.whitening import orientation
from mmjax.errors import ConfigError

_SAMPLE = 10_000  # at most so many rows of a batch give the bandwidths and landmarks
_LEAST_RIDGE = 1e-8  # for a total variance of 1 a view; then squares lose at most 8 digits
_FEATURES = RandomFourier()


class KernelCCA(LinearCCA):
    """CCA of two views with Gaussian kernels: linear CCA of features that approximate the kernels.

    With features that give the kernels exactly, and K_v the centred kernel matrices, it is

        maximise corr(Kx alpha, Ky beta),   alpha'(Kx^2 + (N - 1) ridge Kx) alpha = 1,

    and the same constraint on beta. Its methods are those of `LinearCCA`. With a ridge of 1e-8 or
    more the fit uses covariances and their Cholesky factors, which thousands of features need.
    Memory does not grow with the number of rows. Bandwidths, where none is given, and landmarks
    come from the rows given to `prepare`, or else from the first batch of each fit. So the fit does
    not depend on the order of batches after `prepare`; without it, this holds only for
    `RandomFourier` with a bandwidth. Features are computed on the host.

    Args:
        k: number of pairs of directions.
        ridge: added to the variance of every feature; these variances sum to at most 1 a view.
            Without a ridge, kernels overfit any data.
        features: how the kernels are approximated.

    Attributes:
        mean_: the means of the features of x and y.
        weights_: the directions, in the features.
        correlations_: Pearson correlations of the projections of the data of the fit, [k].
        maps_: the feature maps of x and y.
        moments_: the `Moments` of the features.

    Example:
        >>> KernelCCA(k=2, features=Nystrom(300)).fit(x_train, y_train).score(x_test, y_test)

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Bach and Jordan, Kernel Independent Component Analysis, JMLR 2002 (kernel CCA); Lopez-Paz,
        Sra, Smola, Ghahramani, Schölkopf, Randomized Nonlinear Component Analysis, ICML 2014.
    """

    maps_: tuple[FeatureMap, ...]

    def __init__(
        self,
        k: int,
        ridge: float | int = 1e-3,
        features: RandomFourier | Nystrom = _FEATURES,
    ) -> None:
        super().__init__(k, ridge)
        self.features = features
        self._prepared = False

    def prepare(self, x: ArrayLike, y: ArrayLike) -> "KernelCCA":
        """Chooses bandwidths and landmarks from a sample, and discards all examples seen before.

        Args:
            x: rows of the first view [N, D1].
            y: rows of the second view [N, D2].

        Returns:
            This object, for `partial_fit`.

        Raises:
            ConfigError: values that are not finite, or no rows.
        """
        self._prepared = False
        self._reset()
        self._make_maps(self._checked((x, y)))
        self._prepared = True
        return self

    def fit_moments(self, moments: Moments) -> "KernelCCA":
        """Fits to moments of features, for instance merged over processes with equal feature maps.

        Args:
            moments: of the features of x and y.

        Returns:
            This object.

        Raises:
            ConfigError: `prepare` was not called, or as `fit`.
        """
        if not self._prepared:
            raise ConfigError("moments of features need the feature maps: call prepare first")
        return super().fit_moments(moments)

    def _reset(self) -> None:
        super()._reset()
        if not self._prepared:
            self.__dict__.pop("maps_", None)

    def _make_maps(self, sample: Sequence[np.ndarray]) -> None:
        if len(sample[0]) == 0:
            raise ConfigError("there are no examples to choose bandwidths and landmarks from")
        self.maps_ = tuple(self.features.prepare(view, i) for i, view in enumerate(sample))
        self._input_columns = tuple(view.shape[1] for view in sample)

    def _accumulate(
        self, views: Sequence[Any], weight: ArrayLike | None, names: Sequence[str]
    ) -> None:
        check_rows(views, names)
        rows = len(views[0])
        weights = np.ones(rows) if weight is None else checked_weight(weight, rows)
        arrays = [np.asarray(view) for view in views]
        for array, name in zip(arrays, names, strict=True):
            check_finite(array, name, weights > 0)
        counted = np.flatnonzero(weights)
        if not hasattr(self, "maps_"):
            if len(counted) > _SAMPLE:
                rng = np.random.default_rng(self.features.seed)
                sample = np.sort(rng.permutation(counted)[:_SAMPLE])
            else:
                sample = counted
            self._make_maps([array[sample].astype(np.float64) for array in arrays])
        self._check_columns(arrays)
        for start in range(0, max(len(counted), 1), ROWS):
            some = counted[start : start + ROWS]
            features = [
                self._features(view, array[some].astype(np.float64))
                for view, array in enumerate(arrays)
            ]
            super()._accumulate(features, weights[some], names)

    def _no_moments(self, widths: tuple[int, ...]) -> Moments:
        # With a smaller ridge the factor is needed: squares would hide directions in rounding.
        return Moments(widths, squared=self.ridge >= _LEAST_RIDGE)

    def _solve(self, moments: Moments) -> Solution:
        """By Cholesky factors of the covariances for squared moments; else as `LinearCCA`."""
        if not moments.squared:
            return super()._solve(moments)
        C = moments.covariance()
        first = moments.widths[0]
        C11, C12, C22 = C[:first, :first], C[:first, first:], C[first:, first:]
        lower1, lower2 = (
            scipy.linalg.cholesky(square + self.ridge * np.eye(len(square)), lower=True)
            for square in (C11, C22)
        )
        half = scipy.linalg.solve_triangular(lower1, C12, lower=True)
        T = scipy.linalg.solve_triangular(lower2, half.T, lower=True).T
        U, _, Vt = scipy.linalg.svd(T, full_matrices=False)
        a = scipy.linalg.solve_triangular(lower1, U[:, : self.k], lower=True, trans=1)
        b = scipy.linalg.solve_triangular(lower2, Vt[: self.k].T, lower=True, trans=1)
        a, b = (
            _of_variance_1(weights, square, moments.eps) for weights, square in ((a, C11), (b, C22))
        )
        sign = orientation((a, b))
        correlations = np.clip(np.sum(a * (C12 @ b), axis=0), -1, 1)
        return Solution((a * sign, b * sign), correlations, {})

    def _columns(self) -> tuple[int, ...]:
        return self._input_columns

    def _features(self, view: int, x: np.ndarray) -> np.ndarray:
        return self.maps_[view](x)


def _of_variance_1(weights: np.ndarray, covariance: np.ndarray, eps: float) -> np.ndarray:
    """Directions [D, k] scaled such that projections of the data have variance 1, or 0.

    A direction is 0 where its variance is within the rounding of the sums of squares, which grows
    with the squared length of the direction: features of low rank have fewer than k directions.
    """
    variance = np.sum(weights * (covariance @ weights), axis=0)
    rounding = len(covariance) * eps * np.trace(covariance) * np.sum(np.square(weights), axis=0)
    varies = variance > np.maximum(rounding, 1e-14)  # 1e-14: as in `unit_directions`
    return weights * np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
