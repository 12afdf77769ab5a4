"""Held-out correlation: the correlation of aligned views on data that was not used in the fit."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from mmjax.cca import LinearCCA
from mmjax.cca.correlations import pearson
from mmjax.data import eval_batches
from mmjax.errors import ConfigError, check_sizes
from mmjax.evaluation.embeddings import check_views, check_width, paired_embeddings
from mmjax.evaluation.evaluator import Evaluator, Neither, Reads, Task, Value
from mmjax.evaluation.features import check_metrics
from mmjax.evaluation.predictor import Predictor
from mmjax.evaluation.projections import CCA, Projection
from mmjax.structs import unit_floats


@dataclasses.dataclass(frozen=True)
class HeldOutCorrelation(Evaluator):
    """Total canonical correlation of embeddings, with projections fitted on the training split.

    The sum over k dimensions of the Pearson correlation of the projected views, averaged over the
    pairs of views if there are more than two; at most k. Gives `total_correlation` and the table
    `correlations` [k]; with a `name`, `{name}_total_correlation` and so on.

    With `permutations`, also gives `total_correlation_floor`: the result of the same fit on
    unrelated embeddings. In each permutation the pairing of the training rows is shuffled before
    the fit, and that of the split before its total correlation is measured; the floor is the mean
    over the permutations. On the split `train`, the measured rows are those of the fit: there the
    floor is far from 0 unless k is much smaller than the number of examples.

    Attributes:
        views: the two modalities of a linear CCA.
        k: number of its canonical dimensions.
        ridge: added to the variances of the embeddings in its fit.
        permutations: number of permutations for the floor, each with its own fit; 0 for no floor.
        seed: seed of the permutations.
        projection: another projection, instead of `views`, `k` and `ridge`.
        name: prefix of the metric names; empty for none.
        examples: at most so many training records, drawn at random, are used for the fit; 0 for
            all.
    """

    views: tuple[str, ...] = ()
    k: int = 0
    ridge: float = 1e-4
    permutations: int = 0
    seed: int = 0
    projection: Projection | None = None
    name: str = ""
    examples: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "permutations", "seed", "examples", least=0)

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(embeddings=self._projection.views)

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        if self.projection is None and len(self.views) != 2:
            raise ConfigError(
                f"HeldOutCorrelation.views is {self.views}: set two views and `k`, or set a "
                "`projection`."
            )
        own = self.views or self.k or self.ridge != type(self).ridge or self.examples
        if self.projection and own:
            raise ConfigError(
                "HeldOutCorrelation has a `projection`, which defines views, k, ridge and "
                "examples: remove its own `views`, `k`, `ridge` and `examples`."
            )
        self._projection.check(task)
        check_metrics([e.metric for e in task.evaluation if isinstance(e, HeldOutCorrelation)])

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        projection = self._projection
        held_out = paired_embeddings(predictor, projection.views, split)
        fitted = projection.fitted(predictor).analysis
        prefix = self.metric.removesuffix("total_correlation")
        values = _figures(fitted.correlations(*held_out), prefix)
        if self.permutations:
            train = paired_embeddings(predictor, projection.views, "train", projection.examples)
            rng = np.random.default_rng(self.seed)
            floors = []
            for _ in range(self.permutations):
                fit_on = _unpaired(train, rng)
                measured = fit_on if split == "train" else _unpaired(held_out, rng)
                floors.append(projection.analysis().fit(*fit_on).score(*measured))
            values[f"{prefix}total_correlation_floor"] = Neither(np.mean(floors))
        return values

    @property
    def metric(self) -> str:
        """The name of the summary metric."""
        return f"{self.name}_total_correlation" if self.name else "total_correlation"

    @property
    def _projection(self) -> Projection:
        if self.projection:
            return self.projection
        first, second = self.views
        return CCA((first, second), self.k, self.ridge, examples=self.examples)


@dataclasses.dataclass(frozen=True)
class RawCorrelation(Evaluator):
    """Linear CCA on the raw views: the baseline for `HeldOutCorrelation`.

    Gives `linear_cca_total_correlation` and the table `linear_cca_correlations` [k]; with a `name`,
    `{name}_total_correlation` and so on. It does not depend on the model, so it is measured only at
    the end of a run.

    Attributes:
        views: the two modalities; their inputs are flattened.
        k: number of canonical dimensions.
        ridge: added to the variances of the views in the fit.
        name: prefix of the metric names.
    """

    views: tuple[str, str]
    k: int
    ridge: float = 1e-4
    name: str = "linear_cca"
    at_end_only: ClassVar[bool] = True

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads()

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_views(self.views, task)
        modalities = task.data.modalities
        for view in self.views:
            if modalities[view].parts:
                raise ConfigError(
                    f"The view {view!r} of RawCorrelation has several parts, but linear CCA needs "
                    "a single array: choose another view."
                )
        widths = {name: modality.size for name, modality in modalities.items()}
        LinearCCA(self.k, ridge=self.ridge)
        others = [e for e in task.evaluation if isinstance(e, RawCorrelation)]
        check_metrics([f"{e.name}_total_correlation" for e in others])
        for view in self.views:
            check_width(self.k, view, widths[view], "view")

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""

        def both(part: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            source, name = predictor.source(part), predictor.data.name
            for batch in eval_batches(source, batch_size=1024, name=name):
                rows = np.logical_and(*(batch.present[view] for view in self.views))
                rows &= batch.weight > 0
                first, second = (
                    unit_floats(batch.inputs[view]).reshape(len(rows), -1)[rows]
                    for view in self.views
                )
                yield first, second

        cca = LinearCCA(self.k, ridge=self.ridge).fit_stream(both("train"))
        projections = zip(*(cca.transform(*views) for views in both(split)), strict=True)
        return _figures(pearson(*map(np.concatenate, projections)), f"{self.name}_")


def _unpaired(views: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The views with the rows of all except the first in random order."""
    return [views[0], *(view[rng.permutation(len(view))] for view in views[1:])]


def _figures(correlations: np.ndarray, prefix: str) -> dict[str, Value]:
    return {
        f"{prefix}total_correlation": float(correlations.sum()),
        f"{prefix}correlations": correlations,
    }
