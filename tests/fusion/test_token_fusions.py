"""Fusions of tokens beside their papers' equations, in NumPy on copied weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.fusion import Bottleneck, CrossAttention, MultimodalTransformer, Perceiver
from mmjax.structs import Features

SHAPES = {"audio": FeatureShape(2, 3), "image": FeatureShape(3, 4), "text": FeatureShape(4, 5)}
MASKS = {
    "audio": np.array([[1, 1], [1, 0], [0, 0], [0, 0]], bool),
    "image": np.array([[1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]], bool),
    "text": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool),
}
WIDTH, HEADS = 8, 2


def built(config, shapes=SHAPES):
    module = config.build(shapes, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    graph, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(1)
    filled = [jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32) for leaf in leaves]
    return nnx.merge(graph, jax.tree.unflatten(tree, filled))


def given():
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((4, *shape)).astype(np.float32) for name, shape in SHAPES.items()
    }


@jax.jit
def run(module, inputs):
    features = {name: Features(x, jnp.asarray(MASKS[name])) for name, x in inputs.items()}
    return module(features, train=False, rngs=None)


def values(variable):
    return np.asarray(variable[...], np.float64)


def affine(layer, x):
    y = x @ values(layer.kernel)
    return y if layer.bias is None else y + values(layer.bias)


def norm(layer, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * values(layer.scale) + values(
        layer.bias
    )


def attend(layer, queries, keys):
    """Tokens [T, D] to tokens [S, D]; nothing where there is none."""
    if not len(keys):
        return np.zeros_like(queries)
    q, k, v = affine(layer.query, queries), affine(layer.key, keys), affine(layer.value, keys)
    parts = []
    for head in range(HEADS):
        at = slice(head * q.shape[1] // HEADS, (head + 1) * q.shape[1] // HEADS)
        scores = q[:, at] @ k[:, at].T / np.sqrt(q.shape[1] / HEADS)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        parts.append(weights / weights.sum(-1, keepdims=True) @ v[:, at])
    return affine(layer.out, np.concatenate(parts, -1))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(layer, x):
    normed = norm(layer.norm1, x)
    x = x + attend(layer.attention, normed, normed)
    return x + affine(layer.down, gelu(affine(layer.up, norm(layer.norm2, x))))


def streams_of(module, inputs, row):
    """Modality -> its valid tokens [T, D]; only those that are present."""
    streams = {}
    for index, name in enumerate(sorted(SHAPES)):
        tokens = affine(module.streams.project[name], inputs[name][row].astype(np.float64))
        tokens = tokens + values(module.streams.positions[name].embedding)
        tokens = tokens + values(module.streams.modality.embedding)[index]
        if MASKS[name][row].any():
            streams[name] = tokens[MASKS[name][row]]
    return streams


def bottleneck(module, streams):
    shared = None
    for layer in range(module.layers):
        if layer == module.first:
            shared = values(module.bottleneck)
        given = []
        for name, tokens in streams.items():
            both = tokens if shared is None else np.concatenate([tokens, shared])
            both = block(module.blocks[name][layer], both)
            streams = streams | {name: both[: len(tokens)]}
            given.append(both[len(tokens) :])
        if shared is not None:
            shared = np.mean(given, axis=0)
    return np.concatenate([norm(module.norms[name], x) for name, x in streams.items()]).mean(0)


def perceiver(module, streams):
    x, z = np.concatenate(list(streams.values())), values(module.latents)
    for read, blocks in zip(module.reads, module.blocks, strict=True):
        z = z + attend(read.attention, norm(read.norm1, z), norm(read.norm_keys, x))
        z = z + affine(read.down, gelu(affine(read.up, norm(read.norm2, z))))
        for each in blocks:
            z = block(each, z)
    return norm(module.norm, z).mean(0)


def cross_attention(module, streams):
    parts = []
    for target in sorted(SHAPES):
        if target not in streams:
            parts.append(np.zeros((len(SHAPES) - 1) * WIDTH))
            continue
        results = []
        for source in sorted(set(SHAPES) - {target}):
            z = streams[target]
            for layer in module.pairs[target][source]:
                z = norm(layer.norm, z)
                keys = streams.get(source, np.zeros((0, WIDTH)))
                z = norm(layer.norm_after, attend(layer.attention, z, norm_of(layer, keys)) + z)
                z = affine(layer.down, np.maximum(affine(layer.up, z), 0)) + z
            results.append(z)
        over, z = module.over[target], np.concatenate(results, -1)
        for each in over.blocks:
            z = block(each, z)
        parts.append(norm(over.norm, z).mean(0))
    return np.concatenate(parts)


def norm_of(layer, keys):
    return norm(layer.norm_source, keys) if len(keys) else keys


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (Bottleneck(WIDTH, layers=3, first=1, tokens=2, heads=HEADS), bottleneck),
        (Bottleneck(WIDTH, layers=1, first=1, heads=HEADS), bottleneck),
        (Perceiver(WIDTH, latents=3, stages=2, layers=1, heads=HEADS), perceiver),
        (CrossAttention(WIDTH, layers=2, over=1, heads=HEADS), cross_attention),
    ],
    ids=["bottleneck", "late", "perceiver", "cross_attention"],
)
def test_each_follows_its_equations_whoever_is_absent(config, reference):
    module, inputs = built(config), given()
    found = np.asarray(run(module, inputs).features.pooled)
    for row in range(4):
        expected = reference(module, streams_of(module, inputs, row))
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [Bottleneck(WIDTH), CrossAttention(WIDTH)])
def test_streams_are_the_tokens_by_modality(config):
    fused = run(built(config), given())
    assert set(fused.streams) == set(SHAPES)
    for name, stream in fused.streams.items():
        np.testing.assert_array_equal(stream.mask, MASKS[name])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Bottleneck(layers=2, first=3), "first is 3, but there are 2 layers"),
        (lambda: built(Bottleneck(width=6, heads=4)), "width of 6 cannot be split into 4"),
        (lambda: Perceiver(latents=0), "latents is 0"),
        (lambda: CrossAttention(over=-1), "over is -1"),
        (
            lambda: built(CrossAttention(), {"text": FeatureShape(1, 4)}),
            "add a second encoder",
        ),
        (lambda: built(MultimodalTransformer(width=7)), "width of 7 cannot be split"),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
