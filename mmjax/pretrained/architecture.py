"""What a family of published weights is, and how its sizes are read from names and config.json."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mmjax.encoders.backbone import Backbone
from mmjax.errors import DataError
from mmjax.pretrained.names import Rule

Tensors = Mapping[str, np.ndarray]
Description = Mapping[str, Any]  # config.json


class Architecture(NamedTuple):
    """A family of published weights.

    Attributes:
        recognises: whether (the tensors, config.json) are of it.
        config: their encoder.
        rules: the table of names of that encoder.
    """

    recognises: Callable[[Tensors, Description], bool]
    config: Callable[[Tensors, Description, str], Backbone]
    rules: Callable[[Any], list[Rule]]


def needed(description: Description, key: str, where: str) -> Any:
    """What config.json says under a key, or DataError."""
    if key not in description:
        raise DataError(
            f"The weights in {where} need a config.json beside them that says {key!r}: copy it "
            "from where the weights were published."
        )
    return description[key]


def classes_of(tensors: Tensors, *names: str) -> int:
    """The rows of the classification layer, whatever its name; 0 if there is none."""
    return next((len(tensors[name]) for name in names if name in tensors), 0)


def count(tensors: Tensors, pattern: str) -> int:
    """1 + the largest number in the names that fit, 0 if none does."""
    found = (re.match(pattern, name) for name in tensors)
    return max((int(match[1]) + 1 for match in found if match), default=0)
