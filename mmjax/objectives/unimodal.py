"""The loss of each modality's own heads: unimodal auxiliary losses."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mmjax.errors import ConfigError, unknown_name
from mmjax.objectives.objective import PureObjective
from mmjax.structs import Batch, Outputs, Term


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unimodal(PureObjective):
    """An objective on the predictions from each modality alone, over the examples that have it.

        sum_m w_m L_m

    It needs `FusionModel(unimodal=True)` or a `LateFusionModel`. The loss of each modality is
    logged. With weights from `mmjax.evaluation.blending_weights`, it is gradient blending (Wang,
    Tran and Feiszli, What Makes Training Multi-Modal Classification Networks Hard?, CVPR 2020,
    equation 3), where the weight of the joint loss is that of its own objective.

    Attributes:
        weight: factor of this term in the training loss.
        objective: a function of one batch, such as `CrossEntropy()`; its own weight is not used.
        weights: modality -> w_m, at least 0; modalities that are not named have 0. If empty, all
            have 1.
    """

    weight: float = 1.0
    objective: PureObjective
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ConfigError(
                    f"The weight of {name!r} in Unimodal is {weight}: choose it at least 0."
                )

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "unimodal"

    @property
    def targets_read(self) -> Mapping[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return self.objective.targets_read

    @property
    def counted_targets(self) -> tuple[str, ...]:
        """See `Objective.counted_targets`."""
        return self.objective.counted_targets

    def of_data(self, counts: Mapping[str, np.ndarray]) -> "Unimodal":
        """See `Objective.of_data`."""
        objective = self.objective.of_data(counts)
        return dataclasses.replace(self, objective=objective)  # type: ignore[arg-type]

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The weighted sum over the modalities, and the loss of each."""
        if not outputs.unimodal:
            raise ConfigError(
                "The model has no heads of one modality, which Unimodal reads: choose "
                "FusionModel(unimodal=True) or a LateFusionModel."
            )
        for name in self.weights:
            if name not in outputs.unimodal:
                raise unknown_name("modality, for Unimodal.weights,", name, outputs.unimodal)
        total, each = jnp.zeros(()), {}
        for name, predictions in sorted(outputs.unimodal.items()):
            there = jnp.where(outputs.present[name], batch.weight, 0)
            term = self.objective(
                dataclasses.replace(outputs, predictions=predictions),
                dataclasses.replace(batch, weight=there),
            )
            each[name] = term.mean
            total += (self.weights.get(name, 0.0) if self.weights else 1.0) * term.mean
        return Term.of_batch(total, **each)
