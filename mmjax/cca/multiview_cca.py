"""Canonical correlation analysis of two or more views: MCCA and GCCA."""

from collections.abc import Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.cca.correlations import cosines, mean_pairwise
from mmjax.cca.moments import Moments
from mmjax.cca.view_estimator import (
    Estimator,
    Solution,
    ViewEstimator,
    checked_projection,
)
from mmjax.cca.whitening import (
    Whitened,
    orientation,
    unit_directions,
    whiten,
)


class _MultiviewCCA(ViewEstimator):
    """What `MCCA` and `GCCA` share: any number of views, mean pairwise correlations."""

    def __init__(self, k: int, ridge: float | int = 1e-4) -> None:
        super().__init__(k, ridge)

    def fit(self: Estimator, *views: ArrayLike, weight: ArrayLike | None = None) -> Estimator:
        """Fits the directions.

        Args:
            views: two or more, [N, D_v] each; row i of every view is of the same example.
            weight: [N], not negative; a row of weight 0 is ignored. All 1 if None.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, `k` above the columns of the narrowest view,
                N < 2, or fewer examples than columns and no ridge.
        """
        return self._fit(views, weight)

    def partial_fit(
        self: Estimator, *views: ArrayLike, weight: ArrayLike | None = None
    ) -> Estimator:
        """Adds one batch; the directions are computed when they are next read.

        Args:
            views: [B, D_v] each.
            weight: [B], as in `fit`.

        Returns:
            This object.

        Raises:
            ConfigError: values that are not finite, or other columns than in earlier batches.
        """
        self._add_batch(views, weight)
        return self

    def transform(self, *views: ArrayLike) -> tuple[Float[np.ndarray, "N k"], ...]:
        """Projects all views.

        Args:
            views: [N, D_v] each.

        Returns:
            The projections, [N, k] each.

        Raises:
            ConfigError: values that are not finite, or other columns than those of the fit.
            RuntimeError: nothing was fitted yet.
        """
        return self._transform(views)

    def transform_view(self, view: int, x: ArrayLike) -> Float[np.ndarray, "N k"]:
        """Projects one view, where the others are missing.

        Args:
            view: which of the views of the fit, from 0.
            x: its rows [N, D_v].

        Returns:
            The projections [N, k], the same as from `transform`.

        Raises:
            ConfigError: no such view, or as `transform`.
            RuntimeError: nothing was fitted yet.
        """
        return self._transform_view(view, x)

    def correlations(self, *views: ArrayLike) -> Float[np.ndarray, " k"]:
        """Pearson correlations of the projections of this data, averaged over the pairs of views.

        Args:
            views: [N, D_v] each.

        Returns:
            [k], each between -1 and 1; a pair counts as 0 where a projection is constant.

        Raises:
            ConfigError: as `transform`.
        """
        return mean_pairwise(self.transform(*views))

    def score(self, *views: ArrayLike) -> float:
        """Total correlation of this data: the sum of `correlations`, at most k.

        Args:
            views: [N, D_v] each.

        Returns:
            The sum.

        Raises:
            ConfigError: as `transform`.
        """
        return float(self.correlations(*views).sum())

    @property
    def eigenvalues_(self) -> np.ndarray:
        """The eigenvalue of each direction, [k]; 0 where there are fewer than k directions."""
        return self._ensure_solved()._result().extra["eigenvalues"]

    def _whitened(self, moments: Moments) -> list[Whitened]:
        both = zip(moments.factors, moments.noise, strict=True)
        return [whiten(factor, noise, self.ridge) for factor, noise in both]

    def _scaled_and_signed(
        self, views: Sequence[Whitened], directions: Sequence[np.ndarray], eigenvalues: np.ndarray
    ) -> Solution:
        """Drops directions with negative correlation; scales and signs the others."""
        raw = [view.factor @ d for view, d in zip(views, directions, strict=True)]
        within = sum(np.square(z).sum(axis=0) for z in raw)
        # Twice the sum of the covariances of all pairs of views.
        between_views = np.square(sum(raw)).sum(axis=0) - within
        # The tolerance is rounding at a correlation of 0. Negative ones mirror positive ones that
        # were found: then there are fewer than k directions with a positive correlation.
        kept = between_views > -1e-10 * within
        pairs = [
            unit_directions(view, d[:, kept], self.k)
            for view, d in zip(views, directions, strict=True)
        ]
        sign = orientation([a for a, _ in pairs])
        projections = [z for _, z in pairs]
        count = len(views)
        correlations = np.mean(
            [cosines(projections[i], projections[j]) for j in range(count) for i in range(j)],
            axis=0,
        )
        values = np.zeros(self.k)
        values[: kept.sum()] = eigenvalues[kept]
        weights = tuple(a * sign for a, _ in pairs)
        return Solution(weights, correlations, {"eigenvalues": values, "kept": kept, "sign": sign})


class MCCA(_MultiviewCCA):
    """Multi-view CCA: directions of V views with the largest sum of covariances between views.

        maximise sum_{v != w} a_v' C_vw a_w,   sum_v a_v' (C_vv + ridge I) a_v = 1,

    a generalised eigenproblem, whose eigenvectors are the directions. With two views the
    eigenvalues are the canonical correlations, and the directions those of `LinearCCA`. Without a
    ridge the directions are those of `GCCA`.

    Each view's directions are scaled and signed as those of `LinearCCA`. If fewer than k have a
    positive correlation, the weights of the others are 0.

    Args:
        k: number of directions of each view.
        ridge: added to every variance, in the units of the columns squared.

    Attributes:
        mean_: the means of the columns of each view, [D_v].
        weights_: the directions of each view, [D_v, k].
        correlations_: Pearson correlations of the projections of the data of the fit, averaged over
            the pairs of views, [k].
        eigenvalues_: the sums of covariances at the maximum, [k], at most V - 1.
        moments_: the `Moments` of the data of the fit.

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Kettenring, Canonical analysis of several sets of variables, Biometrika 1971; Nielsen,
        Multiset canonical correlations analysis and multispectral, truly multitemporal remote
        sensing data, IEEE Transactions on Image Processing 2002 (this constraint).
    """

    def _solve(self, moments: Moments) -> Solution:
        views = self._whitened(moments)
        ends = np.cumsum([0] + [view.factor.shape[1] for view in views])
        P = np.concatenate([view.factor for view in views], axis=1)
        between = P.T @ P
        blocks = [slice(*ends[i : i + 2]) for i in range(len(views))]
        for block in blocks:
            between[block, block] = 0
        eigenvalues, E = scipy.linalg.eigh(between)
        top = E[:, ::-1][:, : self.k]
        return self._scaled_and_signed(
            views, [top[block] for block in blocks], eigenvalues[::-1][: self.k]
        )


class GCCA(_MultiviewCCA):
    """Generalised CCA (MAXVAR): a shared variable that every view can predict, and its predictors.

        minimise sum_v ||G - X_v A_v||^2 + (N - 1) ridge ||A_v||^2,   G'G / (N - 1) = I

    G holds the leading eigenvectors of sum_v X_v (X_v'X_v + (N - 1) ridge I)^-1 X_v', each view
    centred. With two views and no ridge the eigenvalues are 1 + the canonical correlations, and the
    directions those of `LinearCCA`.

    Each view's directions are scaled and signed as those of `LinearCCA`. If fewer than k have a
    positive correlation, the weights of the others are 0.

    Args:
        k: number of directions of each view.
        ridge: added to every variance, in the units of the columns squared.

    Attributes:
        mean_: the means of the columns of each view, [D_v].
        weights_: the directions of each view, [D_v, k].
        correlations_: Pearson correlations of the projections of the data of the fit, averaged over
            the pairs of views, [k].
        eigenvalues_: how much of each shared variable the V views explain, summed, [k], at most V.
        moments_: the `Moments` of the data of the fit.

    Raises:
        ConfigError: (a ValueError) `k` below 1 or a negative ridge.

    Reference:
        Carroll, Generalization of canonical correlation analysis to three or more sets of
        variables, Proceedings of the APA 1968; Kettenring 1971 (MAXVAR); Tenenhaus and Tenenhaus,
        Regularized Generalized Canonical Correlation Analysis, Psychometrika 2011.
    """

    def shared(self, *views: ArrayLike) -> Float[np.ndarray, "N k"]:
        """The shared variables of these examples: G on the data of the fit, variance 1 there.

        Args:
            views: [N, D_v] each.

        Returns:
            [N, k]; 0 where there are fewer than k.

        Raises:
            ConfigError: as `transform`.
        """
        predictors = self._ensure_solved()._result().extra["predictors"]
        with np.errstate(over="ignore", invalid="ignore"):
            total = sum(x @ a for x, a in zip(self._centred(views), predictors, strict=True))
        return checked_projection(np.asarray(total))

    def _solve(self, moments: Moments) -> Solution:
        views = self._whitened(moments)
        P = np.concatenate([view.factor for view in views], axis=1)
        _, S, Vt = scipy.linalg.svd(P, full_matrices=False)
        S = S[: self.k]
        # As in `unit_directions`: below 1e-7 the ridge dominates the direction, or it is rounding.
        top = Vt[: self.k].T * (S > 1e-7)
        directions = np.split(top, np.cumsum([view.factor.shape[1] for view in views])[:-1])
        solution = self._scaled_and_signed(views, directions, np.square(S))
        # With G = P V / S, the left singular vectors, the regressions on the views, P_v' G = V_v S,
        # sum to G times S^2.
        kept, sign = solution.extra["kept"], solution.extra["sign"]
        missing = ((0, 0), (0, self.k - kept.sum()))
        predictors = [
            sign * np.pad(view.weights @ (d[:, kept] / S[kept]), missing)
            for view, d in zip(views, directions, strict=True)
        ]
        return solution._replace(extra={**solution.extra, "predictors": predictors})
