"""Losses that a fusion gives beside its features."""

from dataclasses import dataclass

from mmjax.errors import unknown_name
from mmjax.objectives.objective import PureObjective
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss(PureObjective):
    """One of the named terms that the model's fusion returns (`Fused.terms`).

    Attributes:
        weight: factor of this term in the training loss.
        term: its name.
    """

    weight: float = 1.0
    term: str

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return self.term

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The term of one batch."""
        if self.term not in outputs.terms:
            raise unknown_name("auxiliary loss of the model's fusion", self.term, outputs.terms)
        return outputs.terms[self.term]
