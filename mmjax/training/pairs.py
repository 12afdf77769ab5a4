"""How many examples have all the views that an objective compares, before the first step."""

import jax
import numpy as np

from mmjax.errors import DataError
from mmjax.objectives import Objective
from mmjax.objectives.objective import CovarianceObjective
from mmjax.training.setup import Setup
from mmjax.training.step import eval_step

FIRST, DRAWN = 64, 2048  # examples that are looked at; the second, only if the first lack a view
SEVERAL = 3  # pairs for each dimension, below which correlations of noise are large


def few_pairs(setup: Setup) -> list[str]:
    """Sentences on objectives whose batches will have few examples with all of their views.

    Raises:
        DataError: no example has all views of an objective, or too few in a batch to give the
            covariance that it inverts.
    """
    notes = []
    for objective in setup.experiment.objectives if setup.experiment.training.steps else ():
        share, seen = _share_of_pairs(setup, objective.paired_views)
        views, name = ", ".join(map(repr, objective.paired_views)), type(objective).__name__
        if not share:
            raise DataError(
                f"None of {seen} training examples has all of the views {views}, so {name} has "
                "nothing to learn from: give examples with all of them, or remove the objective."
            )
        if share == 1 or not isinstance(objective, CovarianceObjective):
            continue
        size = setup.experiment.training.batch_size
        pairs, widest = round(share * size), _widest(setup, objective)
        text = (
            f"Of the {size} examples of a batch about {pairs} have all of the views {views}, for "
            f"the covariance of {widest} dimensions in {name}"
        )
        needed = f"use batch_size >= {round(SEVERAL * widest / share)} or fewer output dimensions."
        if pairs <= widest:
            raise DataError(f"{text}, which needs more of them: {needed}")
        if pairs < SEVERAL * widest:
            notes.append(f"{text}, which finds large correlations in noise then: {needed}")
    return notes


def _share_of_pairs(setup: Setup, views: tuple[str, ...]) -> tuple[float, int]:
    """The share of examples that have all of the views after transforms, and of how many."""
    if not views:
        return 1.0, 0
    source = setup.source("train")
    rows = np.arange(min(FIRST, len(source)))
    for _ in range(2):
        batch, rng = source.take(rows), np.random.default_rng(0)
        for transform in setup.experiment.transforms:
            batch = transform(batch, rng)
        present = batch.present
        paired = np.ones(len(rows), bool)
        for view in views:
            paired &= present[view]
        if paired.all():
            break
        order = np.random.default_rng(0).permutation(len(source))
        rows = np.sort(order[:DRAWN])
    return float(paired.mean()), len(paired)


def _widest(setup: Setup, objective: Objective) -> int:
    """The largest width of the embeddings that the objective reads; nothing is computed."""
    examples = setup.source("train").take(np.arange(2))
    with jax.set_mesh(setup.mesh):
        embeddings = jax.eval_shape(eval_step, setup.abstract_state, examples).embeddings
    return max(embeddings[view].shape[-1] for view in objective.paired_views)
