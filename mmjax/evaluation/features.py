"""The features that evaluations measure (embeddings or projections of them), and their checks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.evaluation.embeddings import check_embeddings
from mmjax.evaluation.evaluator import Reads, Task
from mmjax.evaluation.predictor import Predictor
from mmjax.evaluation.projections import Projection


def features_of(
    predictor: Predictor,
    views: tuple[str, ...],
    split: str,
    projection: Projection | None,
    target: str = "",
) -> tuple[Float[np.ndarray, "M D"], np.ndarray]:
    """The concatenated features of views: embeddings, or projections of them.

    Args:
        predictor: gives the outputs of the model.
        views: one or more; with a projection, some of its views.
        split: name of the split.
        projection: None takes the embeddings themselves.
        target: records without this target are left out; empty keeps all records.

    Returns:
        Features, float64, of the M records that have all these views and the target, and the mask
        of these records, [N] bool.

    Raises:
        DataError: no record of the split has all of them.
    """
    predictions = predictor(split)
    rows = np.logical_and.reduce([predictions.present[view] for view in views])
    if target:
        rows &= predictions.known(target)
    if not rows.any():
        named = "the view" if len(views) == 1 else "all the views"
        raise DataError(
            f"No record of the split {split!r} has {named} {', '.join(map(repr, views))}"
            f"{' and the target ' + repr(target) if target else ''}: evaluate another split, or "
            "remove the evaluation."
        )
    embeddings = {view: predictions.embeddings[view][rows] for view in views}
    if projection is None:
        parts = [embeddings[view].astype(np.float64) for view in views]
    else:
        fitted = projection.fitted(predictor)
        parts = [fitted(view, embeddings[view]) for view in views]
    return np.concatenate(parts, axis=1), rows


def labelled_features(
    predictor: Predictor,
    views: tuple[str, ...],
    split: str,
    projection: Projection | None,
    target: str,
) -> tuple[Float[np.ndarray, "M D"], np.ndarray]:
    """The features of `features_of`, and the labels [M] of the target."""
    features, rows = features_of(predictor, views, split, projection, target)
    return features, predictor(split).targets[target][rows]


def check_features(
    views: tuple[str, ...], projection: Projection | None, task: Task
) -> dict[str, int]:
    """Checks views and projection; returns the width of each view's features."""
    if not views or len(set(views)) < len(views):
        raise ConfigError(f"The views of an evaluation are {views}: set one or more, each once.")
    widths = check_embeddings(views, task)
    if projection is None:
        return {view: widths[view] for view in views}
    projection.check(task)
    for view in views:
        if view not in projection.views:
            raise unknown_name("view of the projection", view, projection.views)
    return dict.fromkeys(views, projection.k)


def as_views(view: str | tuple[str, ...]) -> tuple[str, ...]:
    """One view or several, as a tuple."""
    return (view,) if isinstance(view, str) else view


def name_of(views: tuple[str, ...], projection: Projection | None) -> str:
    """The prefix of metric names of views: `left`, `cca10_left`, `cca10_left+right`."""
    return f"{projection.name + '_' if projection else ''}{'+'.join(views)}"


def check_metrics(metrics: Sequence[str]) -> None:
    """Checks that no two evaluations give a metric of the same name.

    Args:
        metrics: the name of one metric of each evaluation of the same class.
    """
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise ConfigError(
                f"Two evaluations give a metric {metric!r}: set a different `name` for one of them."
            )


def reads_of(views: tuple[str, ...], projection: Projection | None, *targets: str) -> Reads:
    """The arrays from which the features of these views, or their projections, are computed."""
    of_projection = projection.views if projection else ()
    return Reads(embeddings=(*views, *of_projection), targets=tuple(filter(None, targets)))
