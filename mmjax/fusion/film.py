"""Fusion by feature-wise linear modulation."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class FiLM(Fusion):
    """One modality scales and shifts the features of the others.

        z = mean over the others m that are present of (1 + G c) * (W_m x_m) + H c

    with the features c of the modality `by`; biases are left out here. Where it is absent, the
    others are left as they are; where all others are, z = H c.

    Attributes:
        by: the modality that scales and shifts, such as a question.
        width: D of z.

    Reference:
        Perez et al. 2018, FiLM: Visual Reasoning with a General Conditioning Layer, equation 2, on
        pooled features, with gamma = 1 + G c as in its section 7.2.
    """

    by: str
    width: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "FiLMModule":
        """See `Fusion.build`.

        Raises:
            ConfigError: there is no modality `by`, or no other one.
        """
        if self.by not in features:
            raise unknown_name("modality, for FiLM.by,", self.by, features)
        if len(features) == 1:
            raise ConfigError(f"FiLM has no modality besides {self.by!r} to modulate: add one.")
        return FiLMModule(self, features, dtype=dtype, rngs=rngs)


class FiLMModule(nnx.Module):
    """The module that `FiLM` builds."""

    def __init__(
        self,
        config: FiLM,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.by = config.by
        others = {name: shape for name, shape in features.items() if name != config.by}
        self.project = projections(others, config.width, dtype=dtype, rngs=rngs)
        inner = features[config.by].width
        self.scale_and_shift = nnx.Linear(inner, 2 * config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        others = {name: feature for name, feature in features.items() if name != self.by}
        tokens, there = projected(self.project, others)
        count = jnp.maximum(there.sum(axis=1, keepdims=True), 1)
        content = tokens.sum(axis=1) / count.astype(tokens.dtype)
        given = features[self.by].present
        changes = self.scale_and_shift(features[self.by].pooled)
        scale, shift = jnp.split(jnp.where(given[:, None], changes, 0), 2, axis=1)
        fused = (1 + scale) * content + shift
        return Fused(Features.of_vector(fused, there.any(axis=1) | given))
