"""Fusion by gated multimodal units."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class GMU(Fusion):
    """Each modality has a gate that sees all of them.

        h_m = tanh(W_m x_m),    g_m = sigmoid(G_m [x_1, ..., x_M]),    h = sum_m g_m * h_m

    With two modalities the gates are tied: g_2 = 1 - g_1, in the order of the names. An absent
    modality adds nothing, and its part of the gates' input is 0. Unlike in the paper, the layers
    have biases.

    Attributes:
        width: D of h.

    Reference:
        Arevalo et al. 2017, Gated Multimodal Units for Information Fusion, section 3.1 and figure 2
        (a: any number of modalities, b: two).
    """

    width: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "GMUModule":
        """See `Fusion.build`."""
        return GMUModule(self, features, dtype=dtype, rngs=rngs)


class GMUModule(nnx.Module):
    """The module that `GMU` builds."""

    def __init__(
        self,
        config: GMU,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = projections(features, config.width, dtype=dtype, rngs=rngs)
        self.gates = 1 if len(features) == 2 else len(features)
        every = sum(shape.width for shape in features.values())
        self.gate = nnx.Linear(every, self.gates * config.width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(1, config.width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T, D_m] to one token of `width`."""
        tokens, there = projected(self.project, features)
        every = jnp.concatenate([features[name].pooled for name in sorted(features)], axis=-1)
        gates = jax.nn.sigmoid(self.gate(every)).reshape(len(tokens), self.gates, -1)
        if tokens.shape[1] == 2:
            gates = jnp.concatenate([gates, 1 - gates], axis=1)
        fused = (gates * jnp.where(there[:, :, None], jnp.tanh(tokens), 0)).sum(axis=1)
        shares = {name: gates[:, at].mean(axis=1) for at, name in enumerate(sorted(features))}
        return Fused(Features.of_vector(fused, there.any(axis=1)), shares=shares)
