"""A model for fusion: encoders, a fusion and a head for each target."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import Encoder, FeatureShape
from mmjax.errors import ConfigError, unknown_name
from mmjax.fusion import Concat, Fusion
from mmjax.heads import Head, default_head
from mmjax.models.modality_dropout import ModalityDropout, dropped
from mmjax.models.model import (
    Model,
    build_encoders,
    embeddings_of,
    encode,
    encoder_paths,
    in_use,
)
from mmjax.models.stand_in import NoStandIn, StandIn
from mmjax.structs import Batch, Features, Fused, Modality, Outputs, Prediction, Target


@dataclasses.dataclass(frozen=True)
class FusionModel(Model):
    """Encodes each modality, fuses them, and predicts targets from the result.

    Attributes:
        encoders: modality -> encoder.
        fusion: how the modalities are fused.
        heads: target -> head; if empty, each target of the data set gets the head of its kind.
        modalities: the modalities to use, among those with an encoder; if empty, all.
        frozen: modalities whose encoders are frozen (not trained). These run in evaluation mode,
            without dropout and with the running statistics, and their parameters stay constant.
        dropout: hides modalities of some training examples from the fusion.
        stand_in: what the fusion gets for an absent modality.
        unimodal: whether each modality also has heads of its own, on its encoder's features, for
            the losses of `Unimodal` and the rules of `mmjax.training.Balance`.
    """

    encoders: Mapping[str, Encoder]
    fusion: Fusion = Concat()
    heads: Mapping[str, Head] = dataclasses.field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    dropout: ModalityDropout = ModalityDropout()
    stand_in: StandIn = NoStandIn()
    unimodal: bool = False

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
    ) -> "FusionModelModule":
        """See `Model.build`."""
        return FusionModelModule(self, modalities, targets, dtype=dtype, rngs=rngs)


class FusionModelModule(nnx.Module):
    """The module that `FusionModel` builds."""

    def __init__(
        self,
        config: FusionModel,
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
        self.fusion = config.fusion.build(shapes, dtype=dtype, rngs=rngs)
        self.heads = build_heads(
            config.heads, self.fusion.features, targets, dtype=dtype, rngs=rngs
        )
        self.rates = config.dropout.of(shapes)
        self.stand_in = config.stand_in.build(shapes, rngs=rngs)
        self.unimodal = nnx.Dict(
            {
                name: build_heads(config.heads, shapes[name], targets, dtype=dtype, rngs=rngs)
                for name in (sorted(shapes) if config.unimodal else ())
            }
        )

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Embeds every modality, fuses them, and predicts each target that has a head."""
        features, seen, fused = self._fused(batch, train=train, rngs=rngs)
        embeddings, present = embeddings_of(features)
        of_one = {
            name: predictions_of(heads, features[name], batch, train=train, rngs=rngs)
            for name, heads in sorted(self.unimodal.items())
        }
        return Outputs(
            embeddings=embeddings,
            present=present,
            features=features,
            fused=fused.features,
            streams=fused.streams,
            predictions=predictions_of(self.heads, fused.features, batch, train=train, rngs=rngs),
            terms=fused.terms,
            unimodal=of_one,
            shares=fused.shares,
            statistics=statistics_of(seen, fused.shares, batch),
        )

    def generate(self, batch: Batch) -> dict[str, Prediction]:
        """Target -> generated ids [B, L] and their mask, of the heads that generate tokens."""
        fused = self._fused(batch, train=False, rngs=None)[2].features
        heads = {name: head for name, head in self.heads.items() if hasattr(head, "generate")}
        return {name: head.generate(fused) for name, head in heads.items()}

    def _fused(
        self, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> tuple[dict[str, Features], dict[str, Features], Fused]:
        """The features of the encoders, those that the fusion may see, and what it makes of them.

        The second are without the stand-ins, so that they tell what is missing.
        """
        features = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        seen = features
        if train and rngs is not None and any(self.rates.values()):
            seen = dropped(features, self.rates, rngs)
        given = self.stand_in(seen, train=train) if self.stand_in else seen
        return features, seen, self.fusion(given, train=train, rngs=rngs)


def statistics_of(
    seen: Mapping[str, Features], weights: Mapping[str, jax.Array], batch: Batch
) -> dict[str, jax.Array]:
    """Scalars to log: how often each modality was missing, and its mean share where it was there.

    Args:
        seen: modality -> features, as the fusion has them.
        weights: modality -> its share of each example [B]; may be empty.
        batch: the examples; those of weight 0 do not count.
    """
    rows = jnp.asarray(batch.weight) > 0
    values = {}
    if len(seen) > 1:
        for name, each in sorted(seen.items()):
            values[f"missing/{name}"] = jnp.mean(~each.present, where=rows)
    for name, weight in sorted(weights.items()):
        there = rows & seen[name].present
        total = jnp.sum(weight.astype(jnp.float32), where=there)
        values[f"share/{name}"] = total / jnp.maximum(there.sum(), 1)
    return values


def build_heads(
    heads: Mapping[str, Head],
    features: FeatureShape,
    targets: Mapping[str, Target],
    *,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> nnx.Dict:
    """Builds the heads on features of one shape; without any, each target has that of its kind.

    Raises:
        ConfigError: a head for no target of the data set, or of another kind.
    """
    for name in heads:
        if name not in targets:
            raise unknown_name("target, for a head,", name, targets)
    heads = heads or {name: default_head(name, targets[name]) for name in targets}
    return nnx.Dict(
        {
            name: _head(name, heads[name], features, targets[name], dtype, rngs)
            for name in sorted(heads)
        }
    )


def predictions_of(
    heads: nnx.Dict,
    features: Features,
    batch: Batch,
    *,
    train: bool,
    rngs: nnx.Rngs | None,
) -> dict[str, Prediction]:
    """Target -> what its head makes of the features, where it can do without what is not given."""
    predictions = {}
    for name, head in sorted(heads.items()):
        given = batch.targets.get(name)
        prediction = head(
            features, None if given is None else jnp.asarray(given), train=train, rngs=rngs
        )
        if prediction is not None:
            predictions[name] = prediction
    return predictions


def _head(
    name: str,
    head: Head,
    features: FeatureShape,
    target: Target,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> Any:
    """The module of a head; an error names its target."""
    try:
        return head.build(features, target, dtype=dtype, rngs=rngs)
    except ConfigError as error:
        raise ConfigError(f"The head of {name!r}: {error}") from error
