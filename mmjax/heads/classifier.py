"""Head for one of C classes."""

import dataclasses
from typing import ClassVar

from mmjax.heads.head import PooledHead
from mmjax.structs import Target


@dataclasses.dataclass(frozen=True)
class Classifier(PooledHead):
    """Multilayer perceptron from the mean fused token to the logits [B, C] of a class.

    Attributes:
        hidden: widths of the hidden layers; empty for a linear classifier.
        dropout: rate before each layer, in [0, 1).
    """

    kinds: ClassVar[tuple[str, ...]] = ("class",)

    def shape(self, target: Target) -> tuple[int, ...]:
        """See `PooledHead.shape`."""
        return (target.classes,)
