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
from mmjax.models.model import Model, build_encoders, embeddings_of, encode, encoder_paths
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
    """

    encoders: Mapping[str, Encoder]
    fusion: Fusion = Concat()
    heads: Mapping[str, Head] = dataclasses.field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

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
        for name in config.modalities:
            if name not in config.encoders:
                raise unknown_name("encoder for the modality", name, config.encoders)
        for name in config.heads:
            if name not in targets:
                raise unknown_name("target, for a head,", name, targets)
        used = config.modalities or tuple(config.encoders)
        self.encoders = build_encoders(
            {name: config.encoders[name] for name in used},
            modalities,
            dtype=dtype,
            rngs=rngs,
            frozen=config.frozen,
        )
        self.frozen = config.frozen
        shapes = {name: encoder.features for name, encoder in self.encoders.items()}
        self.fusion = config.fusion.build(shapes, dtype=dtype, rngs=rngs)
        heads = config.heads or {name: default_head(name, targets[name]) for name in targets}
        self.heads = nnx.Dict(
            {
                name: _head(name, heads[name], self.fusion.features, targets[name], dtype, rngs)
                for name in sorted(heads)
            }
        )

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Embeds every modality, fuses them, and predicts each target that has a head."""
        features, fused = self._fused(batch, train=train, rngs=rngs)
        targets, predictions = jax.tree.map(jnp.asarray, dict(batch.targets)), {}
        for name, head in sorted(self.heads.items()):
            prediction = head(fused.features, targets.get(name), train=train, rngs=rngs)
            if prediction is not None:
                predictions[name] = prediction
        embeddings, present = embeddings_of(features)
        return Outputs(
            embeddings=embeddings,
            present=present,
            features=features,
            fused=fused.features,
            streams=fused.streams,
            predictions=predictions,
            terms=fused.terms,
        )

    def generate(self, batch: Batch) -> dict[str, Prediction]:
        """Target -> generated ids [B, L] and their mask, of the heads that generate tokens."""
        fused = self._fused(batch, train=False, rngs=None)[1].features
        heads = {name: head for name, head in self.heads.items() if hasattr(head, "generate")}
        return {name: head.generate(fused) for name, head in heads.items()}

    def _fused(
        self, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> tuple[dict[str, Features], Fused]:
        features = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        return features, self.fusion(features, train=train, rngs=rngs)


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
