"""A model for fusion at decision level: a head for each modality, and their combination."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import Encoder
from mmjax.fusion import AveragedHeads, Decision
from mmjax.heads import Head, default_head
from mmjax.models.fusion_model import build_heads, predictions_of, statistics_of
from mmjax.models.modality_dropout import ModalityDropout, dropped
from mmjax.models.model import (
    Model,
    build_encoders,
    embeddings_of,
    encode,
    encoder_paths,
    in_use,
)
from mmjax.structs import Batch, Modality, Outputs, Prediction, Target


@dataclasses.dataclass(frozen=True)
class LateFusionModel(Model):
    """Encodes each modality, predicts the targets from each alone, and combines the predictions.

    The predictions of each modality are in `Outputs.unimodal`, for the losses of `Unimodal`. An
    example without any modality gets logits, or numbers, of 0.

    Attributes:
        encoders: modality -> encoder.
        decision: how the predictions are combined, for each target with parameters of its own.
        heads: target -> head, one of this kind for each modality; if empty, each target of the data
            set gets the head of its kind.
        modalities: the modalities to use, among those with an encoder; if empty, all.
        frozen: modalities whose encoders are frozen, as in `FusionModel`.
        dropout: hides modalities of some training examples from the decision.
    """

    encoders: Mapping[str, Encoder]
    decision: Decision = AveragedHeads()
    heads: Mapping[str, Head] = dataclasses.field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    dropout: ModalityDropout = ModalityDropout()

    @property
    def frozen_paths(self) -> tuple[tuple[str, ...], ...]:
        """See `Model.frozen_paths`."""
        return encoder_paths(self.frozen)

    def build(
        self,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Target],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> "LateFusionModelModule":
        """See `Model.build`."""
        return LateFusionModelModule(self, modalities, targets, dtype=dtype, rngs=rngs)


class LateFusionModelModule(nnx.Module):
    """The module that `LateFusionModel` builds."""

    def __init__(
        self,
        config: LateFusionModel,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Target],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.encoders = build_encoders(
            in_use(config.encoders, config.modalities),
            modalities,
            dtype=dtype,
            rngs=rngs,
            frozen=config.frozen,
        )
        self.frozen = config.frozen
        shapes = {name: encoder.features for name, encoder in self.encoders.items()}
        heads = config.heads or {name: default_head(name, targets[name]) for name in targets}
        self.unimodal = nnx.Dict(
            {
                name: build_heads(heads, shapes[name], targets, dtype=dtype, rngs=rngs)
                for name in sorted(shapes)
            }
        )
        for name in heads:
            config.decision.check_target(name, targets[name])
        self.kinds = {name: targets[name].kind for name in sorted(heads)}
        self.decisions = nnx.Dict(
            {name: config.decision.build(shapes, dtype=dtype, rngs=rngs) for name in self.kinds}
        )
        self.rates = config.dropout.of(shapes)

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Embeds every modality, predicts from each, and combines what they predict."""
        features = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        seen = features
        if train and rngs is not None and any(self.rates.values()):
            seen = dropped(features, self.rates, rngs)
        unimodal = {
            name: predictions_of(heads, features[name], batch, train=train, rngs=rngs)
            for name, heads in sorted(self.unimodal.items())
        }
        predictions, shares = {}, []
        for target, kind in self.kinds.items():
            values = jnp.stack([unimodal[name][target].values for name in sorted(unimodal)], axis=1)
            combined, weights = self.decisions[target](values, seen, kind)
            predictions[target] = Prediction(combined)
            shares.append(weights)
        mean = jnp.mean(jnp.stack(shares), axis=0)
        weights = {name: mean[:, place] for place, name in enumerate(sorted(seen))}
        embeddings, present = embeddings_of(features)
        return Outputs(
            embeddings=embeddings,
            present=present,
            features=features,
            predictions=predictions,
            unimodal=unimodal,
            shares=weights,
            statistics=statistics_of(seen, weights, batch),
        )
