"""Head for multiple labels, any of C."""

import dataclasses
from typing import ClassVar

from mmjax.heads.head import PooledHead
from mmjax.structs import Target


@dataclasses.dataclass(frozen=True)
class MultiLabel(PooledHead):
    """Multilayer perceptron from the mean fused token to the logits [B, C] of the labels.

    Attributes:
        hidden: widths of the hidden layers; empty for linear classifiers.
        dropout: rate before each layer, in [0, 1).
    """

    kinds: ClassVar[tuple[str, ...]] = ("labels",)

    def shape(self, target: Target) -> tuple[int, ...]:
        """See `PooledHead.shape`."""
        return (target.classes,)
