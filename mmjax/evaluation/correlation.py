"""Held-out correlation: what an alignment is worth on data that it was not fitted on."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.data import eval_batches
from mmjax.errors import ConfigError, unknown_name
from mmjax.objectives import LinearCCA
from mmjax.structs import Batch, Outputs
from mmjax.training.experiment import Evaluator, Experiment, Value
from mmjax.training.predictions import Predictor


@dataclasses.dataclass(frozen=True)
class HeldOutCorrelation(Evaluator):
    """Total canonical correlation of two embeddings, with projections fitted on the training split.

    The sum over k dimensions of the Pearson correlation of the projected views; at most k. Gives
    `total_correlation` and the table `correlations` [k].

    Attributes:
        views: the two modalities.
        k: number of canonical dimensions.
        ridge: added to the variances of the embeddings in the fit.
    """

    views: tuple[str, str]
    k: int
    ridge: float = 1e-4

    def check(self, experiment: Experiment) -> None:
        """See `Evaluator.check`."""
        check_views(self.views, experiment)
        _check_fit(self.views, self.k, self.ridge, _embedding_widths(experiment), "embedding")

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        first, second = self.views

        def both(part: str) -> tuple[np.ndarray, np.ndarray]:
            predictions = predictor(part)
            rows = predictions.present[first] & predictions.present[second]
            return predictions.embeddings[first][rows], predictions.embeddings[second][rows]

        return _held_out(LinearCCA(self.k, ridge=self.ridge), both("train"), both(split), "")


@dataclasses.dataclass(frozen=True)
class RawCorrelation(Evaluator):
    """Linear CCA on the raw views: what `HeldOutCorrelation` should be compared with.

    Gives `linear_cca_total_correlation` and the table `linear_cca_correlations` [k]. It does not
    depend on the model, so it is measured at the end of a run only.

    Attributes:
        views: the two modalities; their inputs are flattened.
        k: number of canonical dimensions.
        ridge: added to the variances of the views in the fit.
    """

    views: tuple[str, str]
    k: int
    ridge: float = 1e-4
    at_end_only: ClassVar[bool] = True

    def check(self, experiment: Experiment) -> None:
        """See `Evaluator.check`."""
        check_views(self.views, experiment)
        modalities = experiment.data.modalities
        widths = {name: int(np.prod(modality.shape)) for name, modality in modalities.items()}
        _check_fit(self.views, self.k, self.ridge, widths, "view")

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""

        def both(part: str) -> tuple[np.ndarray, np.ndarray]:
            source, name = predictor.source(part), predictor.data.name
            views: tuple[list[np.ndarray], ...] = ([], [])
            for batch in eval_batches(source, batch_size=1024, name=name):
                rows = np.logical_and(*(batch.present[view] for view in self.views))
                rows &= batch.weight > 0
                for parts, view in zip(views, self.views, strict=True):
                    parts.append(batch.inputs[view].reshape(len(rows), -1)[rows])
            first, second = map(np.concatenate, views)
            return first, second

        cca = LinearCCA(self.k, ridge=self.ridge)
        return _held_out(cca, both("train"), both(split), "linear_cca_")


def _held_out(
    cca: LinearCCA,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
    prefix: str,
) -> dict[str, Value]:
    correlations = cca.fit(*train).correlations(*held_out)
    return {
        f"{prefix}total_correlation": float(correlations.sum()),
        f"{prefix}correlations": correlations,
    }


def check_views(views: tuple[str, str], experiment: Experiment) -> None:
    """Refuses views that the experiment's data set does not have."""
    for view in views:
        if view not in experiment.data.modalities:
            raise unknown_name("view", view, experiment.data.modalities)


def _check_fit(
    views: tuple[str, str], k: int, ridge: float, widths: Mapping[str, int], what: str
) -> None:
    """Refuses what `LinearCCA` would refuse after the training, for views of these widths."""
    LinearCCA(k, ridge=ridge)
    for view in views:
        if view not in widths:
            raise unknown_name(f"{what} of the model", view, widths)
        if k > widths[view]:
            raise ConfigError(
                f"evaluation k={k} is more than the {widths[view]} dimensions of the {what} "
                f"{view!r}: choose k from 1 to {widths[view]}."
            )


def _embedding_widths(experiment: Experiment) -> dict[str, int]:
    """Modality -> width of its embedding, for those that the model encodes; from shapes alone."""
    modalities, targets = experiment.data.modalities, experiment.data.targets
    dtypes = {name: np.int32 if m.kind == "text" else np.float32 for name, m in modalities.items()}
    inputs = {name: np.zeros((2, *m.shape), dtypes[name]) for name, m in modalities.items()}

    def outputs(batch: Batch) -> Outputs:
        rngs = nnx.Rngs(0)
        module = experiment.model.build(modalities, targets, dtype=jnp.dtype("float32"), rngs=rngs)
        return module(batch, train=False, rngs=None)

    embeddings = jax.eval_shape(outputs, Batch.of(inputs, np.arange(2))).embeddings
    return {name: embedding.shape[1] for name, embedding in embeddings.items()}
