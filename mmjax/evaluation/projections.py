"""Canonical projections of embeddings, as configs; always fitted on the training split."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mmjax.cca import GCCA, MCCA, KernelCCA, LinearCCA, Nystrom, RandomFourier
from mmjax.errors import ConfigError, check_sizes
from mmjax.evaluation.embeddings import check_embeddings, check_width, paired_embeddings
from mmjax.evaluation.evaluator import Task
from mmjax.evaluation.predictor import Predictor

Analysis = LinearCCA | MCCA | GCCA  # KernelCCA is a LinearCCA


@dataclasses.dataclass(frozen=True)
class FittedProjection:
    """A projection that was fitted.

    Attributes:
        views: the views that it was fitted on.
        analysis: the fitted analysis.
    """

    views: tuple[str, ...]
    analysis: Analysis

    def __call__(self, view: str, embeddings: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N k"]:
        """Projects the embeddings of one view; the others are not needed.

        Args:
            view: name of the view.
            embeddings: of that view.

        Returns:
            The projections, float64.
        """
        return self.analysis.transform_view(self.views.index(view), embeddings)


@dataclasses.dataclass(frozen=True)
class Projection(abc.ABC):
    """Base of the projections: two or more views, and the analysis that finds their directions.

    It is fitted on the embeddings of the training records that have all its views. Evaluations
    with equal projections share one fit.

    Attributes:
        views: the modalities.
        k: number of directions of each view.
        examples: at most so many training records, drawn at random, are used; 0 for all.
    """

    views: tuple[str, ...]
    k: int
    examples: int = dataclasses.field(default=0, kw_only=True)
    kind: ClassVar[str]  # prefix of metric names

    def __post_init__(self) -> None:
        check_sizes(self, "examples", least=0)

    @abc.abstractmethod
    def analysis(self) -> Analysis:
        """The analysis, not fitted yet.

        Raises:
            ConfigError: invalid values.
        """

    @property
    def name(self) -> str:
        """Prefix of metric names: the kind and the dimensions, such as `cca10`."""
        return f"{self.kind}{self.k}"

    def check(self, task: Task) -> None:
        """Checks before the training that the fit after it is possible.

        Raises:
            ConfigError: it is not; names the option and the fix.
        """
        if len(self.views) < 2 or len(set(self.views)) < len(self.views):
            raise ConfigError(
                f"{type(self).__name__}.views is {self.views}: set two or more views, each once."
            )
        self.analysis()
        self._check_k(check_embeddings(self.views, task))

    def fitted(self, predictor: Predictor) -> FittedProjection:
        """The projection fitted on `train`, once for each predictor."""

        def fit() -> FittedProjection:
            pairs = paired_embeddings(predictor, self.views, "train", self.examples)
            return FittedProjection(self.views, self.analysis().fit(*pairs))

        return predictor.once(self, fit)

    def _check_k(self, widths: Mapping[str, int]) -> None:
        for view in self.views:
            check_width(self.k, view, widths[view], "embedding")


@dataclasses.dataclass(frozen=True)
class CCA(Projection):
    """Linear CCA of two views, see `mmjax.cca.LinearCCA`.

    Attributes:
        views: the two modalities.
        k: number of canonical dimensions.
        ridge: added to the variances of the embeddings in the fit.
        examples: at most so many training records, drawn at random, are used; 0 for all.
    """

    views: tuple[str, str]
    k: int
    ridge: float = 1e-4
    kind: ClassVar[str] = "cca"

    def analysis(self) -> LinearCCA:
        """See `Projection.analysis`."""
        return LinearCCA(self.k, ridge=self.ridge)


@dataclasses.dataclass(frozen=True)
class KCCA(Projection):
    """Kernel CCA of two views by random features, see `mmjax.cca.KernelCCA`.

    Attributes:
        views: the two modalities.
        k: number of canonical dimensions.
        ridge: added to the variances of the kernel features in the fit.
        features: how the kernels are approximated.
        examples: at most so many training records, drawn at random, are used; 0 for all.
    """

    views: tuple[str, str]
    k: int
    ridge: float = 1e-3
    features: RandomFourier | Nystrom = RandomFourier()
    kind: ClassVar[str] = "kcca"

    def analysis(self) -> KernelCCA:
        """See `Projection.analysis`."""
        return KernelCCA(self.k, ridge=self.ridge, features=self.features)

    def _check_k(self, widths: Mapping[str, int]) -> None:
        if self.k > self.features.count:
            raise ConfigError(
                f"KCCA.k is {self.k}, more than the {self.features.count} features of its kernels: "
                "lower KCCA.k, or raise KCCA.features.count."
            )


@dataclasses.dataclass(frozen=True)
class MCCAProjection(Projection):
    """Multi-view CCA of two or more views, see `mmjax.cca.MCCA`.

    Attributes:
        views: the modalities.
        k: number of directions of each view.
        ridge: added to the variances of the embeddings in the fit.
        examples: at most so many training records, drawn at random, are used; 0 for all.
    """

    ridge: float = 1e-4
    kind: ClassVar[str] = "mcca"

    def analysis(self) -> MCCA:
        """See `Projection.analysis`."""
        return MCCA(self.k, ridge=self.ridge)


@dataclasses.dataclass(frozen=True)
class GCCAProjection(Projection):
    """Generalised CCA of two or more views, see `mmjax.cca.GCCA`.

    Attributes:
        views: the modalities.
        k: number of directions of each view.
        ridge: added to the variances of the embeddings in the fit.
        examples: at most so many training records, drawn at random, are used; 0 for all.
    """

    ridge: float = 1e-4
    kind: ClassVar[str] = "gcca"

    def analysis(self) -> GCCA:
        """See `Projection.analysis`."""
        return GCCA(self.k, ridge=self.ridge)
