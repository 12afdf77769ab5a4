"""Runs evaluations on splits and collects their metrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmjax.errors import ConfigError
from mmjax.evaluation.evaluator import Evaluator, Lower, Neither
from mmjax.evaluation.predictor import Predictor


class Figures(NamedTuple):
    """The results of evaluations, each under `split/name`."""

    metrics: dict[str, float]
    details: dict[str, Any]  # tables, as nested lists
    directions: dict[str, str]  # `min` (lower is better) or `none`; metrics not here: `max`


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
                    raise ConfigError(
                        f"Two evaluations give a metric {name!r}: set `name` of one of them, which "
                        "becomes the prefix of its metrics, or remove one."
                    )
                if isinstance(value, np.ndarray):
                    found.details[key] = value.tolist()
                else:
                    found.metrics[key] = float(value)
                if isinstance(value, Lower):
                    found.directions[key] = "min"
                elif isinstance(value, Neither):
                    found.directions[key] = "none"
    return found
