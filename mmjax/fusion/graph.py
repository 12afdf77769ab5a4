"""Fusion by message passing between modalities or tokens, over edges with learned weights."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import check_sizes
from mmjax.fusion.fusion import Fusion
from mmjax.fusion.pooled import projected, projections
from mmjax.fusion.streams import Streams, joined
from mmjax.layers import Perceptron
from mmjax.structs import Features, Fused


@dataclasses.dataclass(frozen=True)
class GraphFusion(Fusion):
    """A complete graph whose nodes are the modalities, or all their tokens.

    In each round, every node v hears every node u that is there, itself included:

        a_uv = softmax over u of LeakyReLU(s . W h_u + t . W h_v)
        h_v <- h_v + MLP([h_v, sum_u a_uv W h_u])

    The weights of the edges and the sums are those of Velickovic et al., Graph Attention Networks,
    ICLR 2018, equations 1 to 4, with one head and the slope 0.2 of the paper; the update, with what
    the node was, is that of `GraphEncoder`. The fused vector is the mean of the nodes.

    Attributes:
        width: D of the nodes.
        rounds: rounds of message passing; the nodes see each other in each of them.
        tokens: whether each token is a node, with learned embeddings of its modality and place,
            instead of each modality's mean. Memory grows with the square of the number of nodes.
    """

    width: int = 64
    rounds: int = 2
    tokens: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "width", "rounds")

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "GraphFusionModule":
        """See `Fusion.build`."""
        return GraphFusionModule(self, features, dtype=dtype, rngs=rngs)


class GraphFusionModule(nnx.Module):
    """The module that `GraphFusion` builds."""

    def __init__(
        self,
        config: GraphFusion,
        features: Mapping[str, FeatureShape],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        width = config.width
        if config.tokens:
            self.streams = Streams(features, width, dtype=dtype, rngs=rngs)
        else:
            self.project = projections(features, width, dtype=dtype, rngs=rngs)
        self.rounds = nnx.List(
            [AttentionRound(width, dtype=dtype, rngs=rngs) for _ in range(config.rounds)]
        )
        self.tokens = config.tokens
        nodes = sum(shape.tokens for shape in features.values()) if self.tokens else len(features)
        self.features = FeatureShape(nodes, width)

    def __call__(
        self, features: Mapping[str, Features], *, train: bool, rngs: nnx.Rngs | None
    ) -> Fused:
        """Modality -> [B, T_m, D_m] to one token per node, [B, N, `width`]."""
        if self.tokens:
            streams = self.streams(features)
            nodes = joined({name: Features(streams[name], features[name].mask) for name in streams})
            h, there = jnp.where(nodes.mask[:, :, None], nodes.tokens, 0), nodes.mask
        else:
            h, there = projected(self.project, features)
        for each in self.rounds:
            h = each(h, there)
        return Fused(Features(jnp.where(there[:, :, None], h, 0), there))


class AttentionRound(nnx.Module):
    """One round: weighted sums over all nodes that are there, and the updated nodes."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.message = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.sent = nnx.Linear(width, 1, use_bias=False, dtype=dtype, rngs=rngs)
        self.heard = nnx.Linear(width, 1, use_bias=False, dtype=dtype, rngs=rngs)
        self.update = Perceptron((2 * width, width, width), dtype=dtype, rngs=rngs)

    def __call__(self, h: jax.Array, there: jax.Array) -> jax.Array:
        """Nodes [B, N, D] and which are there [B, N] to nodes [B, N, D]."""
        message = self.message(h)
        scores = self.heard(message) + self.sent(message)[:, None, :, 0]  # [B, v, u]
        scores = jax.nn.leaky_relu(scores.astype(jnp.float32), 0.2)
        weights = jax.nn.softmax(jnp.where(there[:, None], scores, -1e30), axis=-1)
        heard = jnp.where(there[:, None], weights, 0).astype(h.dtype) @ message
        return h + self.update(jnp.concatenate([h, heard], axis=-1), train=False, rngs=None)
