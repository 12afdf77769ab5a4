"""Runs evaluations on splits and collects their metrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmjax.data.checks import with_known_targets
from mmjax.errors import ConfigError
from mmjax.evaluation.embeddings import shapes_of
from mmjax.evaluation.evaluator import Evaluator, Lower, Neither, StreamedEvaluator, Task
from mmjax.evaluation.predictor import Predictor
from mmjax.structs import Batch


class Figures(NamedTuple):
    """The results of evaluations, each under `split/name`."""

    metrics: dict[str, float]
    details: dict[str, Any]  # tables, as nested lists
    directions: dict[str, str]  # `min` (lower is better) or `none`; metrics not here: `max`


def check_names(task: Task) -> None:
    """Checks before the first step that streamed evaluations give metrics of different names.

    The names come from an evaluation of two examples of zeros.

    Raises:
        ConfigError: two give a metric of the same name.
    """
    batch = Batch.of(
        {}, np.arange(2), targets={name: item.blank(2) for name, item in task.data.targets.items()}
    )
    batch = with_known_targets(batch, task.data.targets, "the examples of zeros")
    taken: set[str] = set()
    for evaluator in task.evaluation:
        if not isinstance(evaluator, StreamedEvaluator):
            continue
        shapes = evaluator.reads.select(shapes_of(task))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        state = evaluator.state(zeros, batch, task.data)
        for name in evaluator.values(state, task.data):
            if name in taken:
                raise _same_name(name)
            taken.add(name)


def evaluate(
    evaluators: Sequence[Evaluator], predictor: Predictor, splits: Sequence[str]
) -> Figures:
    """Runs evaluations on splits, with one pass of the model over each.

    Raises:
        ConfigError: two evaluations give a metric of the same name.
    """
    found = Figures({}, {}, {})
    for split in splits:
        predictor.run(split, evaluators)
        for evaluator in evaluators:
            for name, value in evaluator(predictor, split).items():
                key = f"{split}/{name}"
                if key in found.metrics or key in found.details:
                    raise _same_name(name)
                if isinstance(value, np.ndarray):
                    found.details[key] = value.tolist()
                else:
                    found.metrics[key] = float(value)
                if isinstance(value, Lower):
                    found.directions[key] = "min"
                elif isinstance(value, Neither):
                    found.directions[key] = "none"
    return found


def _same_name(metric: str) -> ConfigError:
    return ConfigError(
        f"Two evaluations give a metric {metric!r}: set `name` of one of them, which becomes the "
        "prefix of its metrics, or remove one."
    )
