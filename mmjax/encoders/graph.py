"""Graphs: message passing between nodes with features."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers import Perceptron
from mmjax.structs import Features, Modality

_PARTS = ("nodes", "edges", "node_mask", "edge_mask")


@dataclasses.dataclass(frozen=True)
class GraphEncoder(Encoder):
    """Rounds of message passing; one token per node.

        m_v = sum over edges from u to v of relu(A h_u + B h_v + c)
        h_v <- h_v + MLP([h_v, m_v])

    starting from a linear layer on the node's features. With `undirected`, messages pass along
    every edge in both directions. The modality has these parts; the masks are optional (by default,
    all nodes and edges are valid):

        "nodes": Modality("sequence", (N, F))
        "edges": Modality("sequence", (E, 2), "int32", vocabulary=N), from node, to node
        "node_mask": Modality("vector", (N,), "bool")
        "edge_mask": Modality("vector", (E,), "bool")

    A masked node has no valid token, and neither sends nor receives messages; a masked edge carries
    no message. An edge to a node outside 0 to N - 1 is an error if it is among the first examples
    of a split; in later examples, it makes the tokens of its graph NaN, which stops training.

    Attributes:
        rounds: rounds of message passing: a token depends on nodes up to so many edges away; 0
            reads only the node itself.
        width: D of the tokens and of the messages.
        undirected: whether messages also pass against the direction of the edges.

    Reference:
        Gilmer, Schoenholz, Riley, Vinyals and Dahl, Neural Message Passing for Quantum Chemistry,
        ICML 2017, section 2.
    """

    rounds: int = 2
    width: int = 64
    undirected: bool = True
    kinds: ClassVar[tuple[str, ...]] = ("graph",)

    def __post_init__(self) -> None:
        check_sizes(self, "width")
        check_sizes(self, "rounds", least=0)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "MessagePassing":
        """See `Encoder.build`."""
        self.check_kind(modality)
        parts = modality.parts
        for name in parts:
            if name not in _PARTS:
                raise unknown_name("part that GraphEncoder reads, called", name, _PARTS)
        for name, axes in (("nodes", 2), ("edges", 2)):
            if name not in parts or len(parts[name].shape) != axes:
                raise ConfigError(
                    f"A graph needs the part `{name}` with two axes: declare nodes with the shape "
                    "(N, F) and edges with the shape (E, 2)."
                )
        nodes, edges = parts["nodes"].shape, parts["edges"].shape
        if edges[1] != 2 or parts["edges"].vocabulary != nodes[0]:
            raise ConfigError(
                f"The part `edges` of a graph of {nodes[0]} nodes is {parts['edges']}: declare "
                f"Modality('sequence', ({edges[0]}, 2), 'int32', vocabulary={nodes[0]})."
            )
        for name, count in (("node_mask", nodes[0]), ("edge_mask", edges[0])):
            if name in parts and parts[name].shape != (count,):
                raise ConfigError(
                    f"The part `{name}` of a graph has the shape {parts[name].shape}: declare it "
                    f"with the shape ({count},)."
                )
        return MessagePassing(self, *nodes, dtype=dtype, rngs=rngs)


class MessagePassing(nnx.Module):
    """The module that `GraphEncoder` builds."""

    def __init__(
        self, config: GraphEncoder, nodes: int, inputs: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.embed = nnx.Linear(inputs, config.width, dtype=dtype, rngs=rngs)
        self.rounds = nnx.List(
            [MessageRound(config.width, dtype=dtype, rngs=rngs) for _ in range(config.rounds)]
        )
        self.undirected = config.undirected
        self.features = FeatureShape(tokens=nodes, width=config.width)

    def __call__(
        self,
        x: Mapping[str, jax.Array],
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """A dict of the parts to one token per node."""
        nodes, edges = x["nodes"], x["edges"]
        valid = x.get("node_mask", jnp.ones(nodes.shape[:2], bool))
        valid = valid if mask is None else valid & mask
        real = x.get("edge_mask", jnp.ones(edges.shape[:2], bool))
        inside = ((edges >= 0) & (edges < nodes.shape[1])).all(axis=2)
        wrong = (real & ~inside & present[:, None]).any(axis=1)
        ends = jnp.where((real & inside)[:, :, None], edges, 0)
        source, target = ends[:, :, 0], ends[:, :, 1]
        if self.undirected:
            source, target = (
                jnp.concatenate(pair, axis=1) for pair in ((source, target), (target, source))
            )
            real, inside = jnp.tile(real, (1, 2)), jnp.tile(inside, (1, 2))
        both = jnp.take_along_axis(valid, source, 1) & jnp.take_along_axis(valid, target, 1)
        h = self.embed(jnp.where(valid[:, :, None], nodes, 0))
        for message_round in self.rounds:
            h = message_round(h, source, target, real & inside & both)
        return Features(jnp.where(wrong[:, None, None], jnp.nan, h), valid)


class MessageRound(nnx.Module):
    """One round: a message along every edge, their sums, and the updated nodes."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.from_source = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.from_target = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.update = Perceptron((2 * width, width, width), dtype=dtype, rngs=rngs)

    def __call__(
        self,
        h: Float[Array, "B N D"],
        source: Int[Array, "B E"],
        target: Int[Array, "B E"],
        carries: Bool[Array, "B E"],
    ) -> Float[Array, "B N D"]:
        """The updated nodes; there is a message only along edges with `carries`."""

        def sums(sent: jax.Array, received: jax.Array, *edges: jax.Array) -> jax.Array:
            source, target, carries = edges
            message = jax.nn.relu(sent[source] + received[target])
            message = jnp.where(carries[:, None], message, 0).astype(jnp.float32)
            return jax.ops.segment_sum(message, target, num_segments=len(sent))

        total = jax.vmap(sums)(self.from_source(h), self.from_target(h), source, target, carries)
        joined = jnp.concatenate([h, total.astype(h.dtype)], axis=-1)
        return h + self.update(joined, train=False, rngs=None)
