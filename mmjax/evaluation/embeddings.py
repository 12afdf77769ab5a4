"""The embeddings that an evaluation measures, and what is refused before the training."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.errors import ConfigError, unknown_name
from mmjax.models import embedding_widths as widths_of
from mmjax.training.experiment import Experiment
from mmjax.training.predictions import Predictor


def together(predictor: Predictor, views: tuple[str, ...], split: str) -> tuple[np.ndarray, ...]:
    """The embeddings [N, D_v] of the records of a split that have all the views."""
    predictions = predictor(split)
    rows = np.logical_and.reduce([predictions.present[view] for view in views])
    return tuple(predictions.embeddings[view][rows] for view in views)


def check_views(views: tuple[str, ...], experiment: Experiment) -> None:
    """Refuses views that the experiment's data set does not have."""
    for view in views:
        if view not in experiment.data.modalities:
            raise unknown_name("view", view, experiment.data.modalities)


def check_embeddings(views: tuple[str, ...], experiment: Experiment) -> dict[str, int]:
    """Refuses views that the data set or the model does not have; the width of each embedding."""
    check_views(views, experiment)
    widths = embedding_widths(experiment)
    for view in views:
        if view not in widths:
            raise unknown_name("embedding of the model", view, widths)
    return widths


def check_width(k: int, view: str, width: int, what: str) -> None:
    """Refuses a fit of more dimensions than a view has.

    Args:
        k: dimensions of the fit.
        view: name of the view.
        width: its columns.
        what: what has these columns ("embedding").
    """
    if k > width:
        raise ConfigError(
            f"evaluation k={k} is more than the {width} dimensions of the {what} {view!r}: choose "
            f"k from 1 to {width}."
        )


def embedding_widths(experiment: Experiment) -> dict[str, int]:
    """Modality -> width of its embedding, for those that the model encodes; from shapes alone."""
    modalities, targets = experiment.data.modalities, experiment.data.targets
    widths: dict[str, int] = {}

    def build() -> None:
        rngs = nnx.Rngs(0)
        module = experiment.model.build(modalities, targets, dtype=jnp.dtype("float32"), rngs=rngs)
        widths.update(widths_of(module, modalities))

    jax.eval_shape(build)
    return widths
