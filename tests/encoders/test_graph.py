"""GraphEncoder: rounds by hand, how far a message goes, masks, and what is refused."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import ArraySource, Dataset
from mmjax.data.checks import check_examples
from mmjax.encoders import GraphEncoder
from mmjax.errors import ConfigError, DataError
from mmjax.models.model import encode
from mmjax.structs import Batch, Modality, Target

B, N, F, E, D = 2, 5, 3, 4, 4
PARTS = {
    "nodes": Modality("sequence", (N, F)),
    "edges": Modality("sequence", (E, 2), "int32", vocabulary=N),
    "node_mask": Modality("vector", (N,), "bool"),
    "edge_mask": Modality("vector", (E,), "bool"),
}
GRAPH = Modality("graph", parts=PARTS)
PATH = [[0, 1], [1, 2], [2, 3], [3, 4]]


def graphs():
    """A path over all nodes, and a graph of three nodes with two edges, one of them twice."""
    nodes = np.random.default_rng(0).standard_normal((B, N, F)).astype(np.float32)
    return {
        "nodes": nodes,
        "edges": np.int32([PATH, [[0, 1], [0, 1], [2, 1], [0, 0]]]),
        "node_mask": np.array([[1] * N, [1, 1, 1, 0, 0]], bool),
        "edge_mask": np.array([[1] * E, [1, 1, 1, 0]], bool),
    }


@functools.cache
def made(**options):
    return filled(
        lambda: GraphEncoder(width=D, **options).build(
            GRAPH, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
        )
    )


@functools.cache
def compiled(**options):
    """A jitted function of the parts and a cotangent [B, N]: features, gradient at the nodes."""
    graphdef, params, stats, _ = made(**options)

    @jax.jit
    def run(x, cotangent):
        def total(nodes):
            module = nnx.merge(graphdef, params, stats)
            found = module(x | {"nodes": nodes}, None, jnp.ones(B, bool), train=False, rngs=None)
            direction = jax.random.normal(jax.random.key(1), found.tokens.shape)
            used = jnp.where(cotangent[:, :, None] != 0, found.tokens * direction, 0)
            return used.sum(), found

        gradient, found = jax.grad(total, has_aux=True)(x["nodes"])
        return found, gradient

    def call(x, cotangent=None):
        everywhere = np.ones((B, N), np.float32)
        return jax.device_get(run(x, everywhere if cotangent is None else np.float32(cotangent)))

    return call


def by_hand(x, row, undirected):
    """The tokens of one graph in float64, edge by edge."""
    params = jax.tree.map(np.float64, made(rounds=2, undirected=undirected)[1])

    def linear(layer, value):
        return value @ layer["kernel"] + layer.get("bias", 0)

    h = linear(params["embed"], x["nodes"][row].astype(np.float64))
    for each in params["rounds"].values():
        total = np.zeros_like(h)
        for (a, b), real in zip(x["edges"][row], x["edge_mask"][row], strict=True):
            for u, v in [(a, b), (b, a)] if undirected else [(a, b)]:
                message = linear(each["from_source"], h[u]) + linear(each["from_target"], h[v])
                total[v] += real * np.maximum(message, 0)
        first, second = each["update"]["layers"].values()
        hidden = np.maximum(linear(first, np.concatenate([h, total], axis=1)), 0)
        h = h + linear(second, hidden)
    return h


@pytest.mark.parametrize("undirected", [True, False])
def test_tokens_are_those_of_the_formula(undirected):
    x = graphs()
    found, _ = compiled(rounds=2, undirected=undirected)(x)
    np.testing.assert_array_equal(found.mask, x["node_mask"])
    for row in range(B):
        there = x["node_mask"][row]
        expected = by_hand(x, row, undirected)[there]
        # 1e-5: float32 sums of a dozen terms.
        np.testing.assert_allclose(found.tokens[row][there], expected, rtol=1e-5, atol=1e-5)


def test_a_message_goes_one_edge_a_round_and_along_the_edge():
    for undirected, expected in [(True, [1, 1, 1, 1, 1]), (False, [1, 1, 1, 0, 0])]:
        cotangent = np.zeros((B, N))
        cotangent[0, 2] = 1
        gradient = compiled(rounds=2, undirected=undirected)(graphs(), cotangent)[1]
        assert (gradient[0] != 0).any(axis=1).tolist() == [bool(each) for each in expected]
        assert (gradient[1] == 0).all()  # the other graph
    cotangent[0] = [1, 0, 0, 0, 0]
    gradient = compiled(rounds=2, undirected=True)(graphs(), cotangent)[1]
    assert (gradient[0] != 0).any(axis=1).tolist() == [True, True, True, False, False]
    gradient = compiled(rounds=0)(graphs(), cotangent)[1]
    assert (gradient[0] != 0).any(axis=1).tolist() == [True, False, False, False, False]


def test_the_numbering_of_nodes_and_the_order_of_edges_do_not_matter():
    x, run = graphs(), compiled(rounds=2, undirected=True)
    order, places = np.array([3, 0, 4, 1, 2]), np.array([2, 0, 3, 1])
    moved = {
        "nodes": x["nodes"][:, order],
        "edges": np.argsort(order)[x["edges"]].astype(np.int32)[:, places],
        "node_mask": x["node_mask"][:, order],
        "edge_mask": x["edge_mask"][:, places],
    }
    there = moved["node_mask"]
    # 1e-5: the same float32 sums in another order.
    np.testing.assert_allclose(
        run(moved)[0].tokens[there], run(x)[0].tokens[:, order][there], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("filler", [0.0, 1e30, np.nan])
def test_what_is_masked_has_no_influence(filler):
    x, run = graphs(), compiled(rounds=2, undirected=True)
    there = x["node_mask"]
    x["edges"][1, 0] = [0, 3]  # a real edge to a node that is not there
    found, gradient = run(x, there)
    assert (gradient[~there] == 0).all()
    assert (gradient[there] != 0).any(axis=1).all()
    x["nodes"] = np.where(there[:, :, None], x["nodes"], np.float32(filler))
    x["edges"][1, 3] = [2, 1] if filler else [-1, 99]  # where the edge is masked
    again, gradient_again = run(x, there)
    np.testing.assert_array_equal(again.tokens[there], found.tokens[there])
    np.testing.assert_array_equal(gradient_again, gradient)


def test_a_graph_that_is_absent_has_no_influence():
    graphdef, params, stats, _ = made(rounds=2, undirected=True)
    x = graphs()

    def total(params, filler):
        encoders = nnx.Dict({"graph": nnx.merge(graphdef, params, stats)})
        nodes = jnp.asarray(x["nodes"]).at[1].set(filler)
        edges = x["edges"].copy()
        edges[1] = 99
        present = np.array([True, False])
        batch = Batch.of(
            {"graph": x | {"nodes": nodes, "edges": edges}},
            np.arange(B),
            present={"graph": present},
        )
        found = encode(encoders, batch, train=True, rngs=None)["graph"]
        return found.pooled.sum(), found

    run = jax.jit(jax.grad(total, has_aux=True))
    (gradient, found), (other, _) = (run(params, filler) for filler in (0.0, np.nan))
    assert found.present.tolist() == [True, False]
    jax.tree.map(np.testing.assert_array_equal, gradient, other)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


class Mine(Dataset):
    """One graph."""

    name = "mine"
    modalities: ClassVar = {"scene": GRAPH}
    targets: ClassVar = {"label": Target("class", 2)}

    def load(self, split, folder):
        raise NotImplementedError


@pytest.mark.parametrize("wrong", [N, -1])
@pytest.mark.parametrize("undirected", [True, False])
def test_an_edge_that_points_to_no_node_is_refused_and_never_dropped(wrong, undirected):
    x = graphs()
    x["edges"][1, 0, 1] = wrong
    source = ArraySource({"scene": x}, {"label": np.zeros(B, np.int32)})
    with pytest.raises(DataError, match=f"'scene.edges' .* the id {wrong}, but .* are 0 to 4"):
        check_examples(Mine(), "train", source)
    tokens = compiled(rounds=2, undirected=undirected)(x)[0].tokens
    assert np.isnan(tokens).all(axis=(1, 2)).tolist() == [False, True]
    assert np.isfinite(tokens[0]).all()
    check_examples(Mine(), "train", ArraySource({"scene": graphs()}, source.targets))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"nodes": PARTS["nodes"]}, "needs the part `edges` with two axes"),
        (PARTS | {"nodes": Modality("sequence", (N,))}, "needs the part `nodes` with two axes"),
        (PARTS | {"edge_masks": PARTS["edge_mask"]}, "did you mean 'edge_mask'"),
        (
            PARTS | {"edges": Modality("sequence", (E, 2), "int32")},
            r"declare Modality\('sequence', \(4, 2\), 'int32', vocabulary=5\)",
        ),
        (
            PARTS | {"node_mask": PARTS["edge_mask"]},
            r"shape \(4,\): declare it with the shape \(5,\)",
        ),
    ],
)
def test_a_graph_that_is_declared_otherwise_is_refused(parts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        GraphEncoder().build(
            Modality("graph", parts=parts), dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
        )


def test_other_kinds_are_refused():
    with pytest.raises(ConfigError, match=r"GraphEncoder encodes .* graph, not vector"):
        GraphEncoder().build(Modality("vector", (4,)), dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
