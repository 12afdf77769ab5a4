"""Fusions of pooled features beside their papers' equations, written out one example at a time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.fusion import (
    GMU,
    AttentionFusion,
    Bilinear,
    FiLM,
    LowRankFusion,
    ProductOfExperts,
    TensorFusion,
)
from mmjax.structs import Features

SHAPES = {"audio": FeatureShape(1, 3), "text": FeatureShape(1, 4), "image": FeatureShape(1, 5)}
THERE = {  # one row for each subset of the modalities but the empty one
    name: np.array([subset[index] for subset in itertools.product([1, 0], repeat=3)][:-1], bool)
    for index, name in enumerate(SHAPES)
}


def built(config, names=SHAPES):
    shapes = {name: SHAPES[name] for name in names}
    module = config.build(shapes, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    graph, state = nnx.split(module)
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(state))))
    return nnx.merge(graph, jax.tree.map(lambda leaf: _normal(next(keys), leaf.shape), state))


def _normal(key, shape):
    return 0.5 * jax.random.normal(key, shape)


def given(names=SHAPES):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((7, SHAPES[name].width)).astype(np.float32) for name in names}


@jax.jit
def _run(module, inputs, there):
    features = {name: Features.of_vector(x, there[name]) for name, x in inputs.items()}
    return module(features, train=False, rngs=None)


def run(module, inputs):
    return _run(module, inputs, {name: jnp.asarray(THERE[name]) for name in inputs})


def affine(layer, x):
    y = x @ np.asarray(layer.kernel[...], np.float64)
    return y if layer.bias is None else y + np.asarray(layer.bias[...], np.float64)


def attention(module, x):
    z = {name: affine(module.project[name], x[name]) for name in x}
    scores = {name: affine(module.out, np.tanh(affine(module.score, z[name])))[0] for name in x}
    total = sum(np.exp(score) for score in scores.values())
    return sum(np.exp(scores[name]) / total * z[name] for name in x)


def gmu(module, x):
    every = np.concatenate([x.get(name, np.zeros(SHAPES[name].width)) for name in module.names])
    gates = 1 / (1 + np.exp(-affine(module.gate, every)))
    width = module.features.width
    result = np.zeros(width)
    for index, name in enumerate(module.names):
        if len(module.names) == 2:
            gate = gates if index == 0 else 1 - gates
        else:
            gate = gates[index * width : (index + 1) * width]
        if name in x:
            result += gate * np.tanh(affine(module.project[name], x[name]))
    return result


def film(module, x):
    contents = [affine(module.project[name], x[name]) for name in x if name != "text"]
    content = np.mean(contents, axis=0) if contents else np.zeros(module.features.width)
    if "text" not in x:
        return content
    scale, shift = np.split(affine(module.scale_and_shift, x["text"]), 2)
    return (1 + scale) * content + shift


def bilinear(module, x):
    z = [
        affine(module.project[name], x[name]) if name in x else np.zeros(3) for name in module.names
    ]
    y = affine(module.linear, np.concatenate(z))
    pairs = itertools.combinations(range(len(z)), 2)
    for weights, (m, n) in zip(np.asarray(module.products[...], np.float64), pairs, strict=True):
        for i, j in itertools.product(range(3), repeat=2):
            y = y + z[m][i] * z[n][j] * weights[i, j]
    return y


def tensor(module, x):
    z = [
        np.append(affine(module.project[name], x[name]) if name in x else np.zeros(2), 1)
        for name in module.names
    ]
    product = [np.prod(each) for each in itertools.product(*z)]
    return affine(module.out, np.array(product))


def low_rank(module, x):
    y = np.asarray(module.bias[...], np.float64)
    for rank, weight in enumerate(np.asarray(module.ranks[...], np.float64)):
        product = 1.0
        for name in module.names:
            each = np.append(x.get(name, np.zeros(SHAPES[name].width)), 1)
            product = product * (each @ np.asarray(module.factors[name][...][rank], np.float64))
        y = y + weight * product
    return y


def experts(module, x):
    precision, total = 1.0, 0.0
    for name in x:
        mean, log = np.split(affine(module.project[name], x[name]), 2)
        each = np.exp(10 * np.tanh(log / 10))
        precision, total = precision + each, total + each * mean
    return total / precision


@pytest.mark.parametrize(
    ("config", "reference", "names"),
    [
        (AttentionFusion(6, hidden=5), attention, SHAPES),
        (GMU(6), gmu, SHAPES),
        (GMU(6), gmu, ("text", "image")),
        (FiLM("text", 6), film, SHAPES),
        (Bilinear(6, inner=3), bilinear, SHAPES),
        (TensorFusion(6, inner=2), tensor, SHAPES),
        (LowRankFusion(6, rank=3), low_rank, SHAPES),
        (ProductOfExperts(6), experts, SHAPES),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_each_follows_its_equation_whoever_is_absent(config, reference, names):
    module, inputs = built(config, names), given(names)
    found = np.asarray(run(module, inputs).features.pooled)
    module.names = sorted(names)
    for row in range(7):
        x = {name: inputs[name][row].astype(np.float64) for name in sorted(names)}
        x = {name: value for name, value in x.items() if THERE[name][row]}
        if x:
            np.testing.assert_allclose(found[row], reference(module, x), rtol=1e-5, atol=1e-5)


def test_low_rank_fusion_is_tensor_fusion_with_a_tensor_of_that_rank():
    low, inputs = built(LowRankFusion(6, rank=3)), given()
    names = sorted(SHAPES)
    factors = [np.asarray(low.factors[name][...], np.float64) for name in names]
    weights = np.einsum("r,rid,rjd,rkd->ijkd", np.asarray(low.ranks[...]), *factors)
    found = np.asarray(run(low, inputs).features.pooled)
    for row in range(7):
        z = [np.append(inputs[name][row] * THERE[name][row], 1) for name in names]
        expected = np.einsum("i,j,k,ijkd->d", *z, weights) + np.asarray(low.bias[...])
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)


def test_the_product_is_drawn_in_training_and_its_divergence_is_a_term():
    module, inputs = built(ProductOfExperts(4)), given()
    there = {name: jnp.asarray(THERE[name]) for name in inputs}
    features = {name: Features.of_vector(jnp.asarray(x), there[name]) for name, x in inputs.items()}
    mean = module(features, train=False, rngs=None)

    @jax.jit
    @jax.vmap
    def draw(key):
        fused = module(features, train=True, rngs=nnx.Rngs(dropout=key))
        return fused.features.pooled

    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 4_000)), np.float64)
    variance = np.zeros((7, 4))
    for row in range(7):
        precision = 1.0
        for name, x in inputs.items():
            if THERE[name][row]:
                log = affine(module.project[name], x[row])[4:]
                precision = precision + np.exp(10 * np.tanh(log / 10))
        variance[row] = 1 / precision
    error = np.sqrt(variance / len(drawn))
    assert (np.abs(drawn.mean(0) - mean.features.pooled) < 5 * error).all()
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.15)
    center = np.asarray(mean.features.pooled, np.float64)
    divergence = 0.5 * (variance + center**2 - 1 - np.log(variance)).sum()
    term = mean.terms["kl"]
    np.testing.assert_allclose(term.mean, divergence / 7, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "names", "sentence"),
    [
        (FiLM("txt"), SHAPES, r"FiLM\.by, 'txt': did you mean 'text'"),
        (FiLM("text"), ("text",), "no modality besides 'text' to modulate"),
        (Bilinear(), ("text",), "add a second encoder"),
        (TensorFusion(inner=200), SHAPES, "makes 8,120,601 products of 3 modalities"),
    ],
)
def test_what_does_not_fit_is_refused(config, names, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(config, names)


@pytest.mark.parametrize("make", [GMU, AttentionFusion, Bilinear, TensorFusion, LowRankFusion])
def test_widths_below_1_are_refused(make):
    with pytest.raises(ConfigError, match="width is 0"):
        make(width=0)
