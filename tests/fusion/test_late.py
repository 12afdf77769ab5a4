"""Predictions of one head per modality, combined inside one model: closed forms, and absence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.data import Modality, Target
from mmjax.encoders import MLP, FeatureShape
from mmjax.errors import ConfigError
from mmjax.fusion import AveragedHeads, ExpertGate, ProductOfHeads, WeightedHeads
from mmjax.fusion.late import mixed
from mmjax.heads import Classifier
from mmjax.models import LateFusionModel
from mmjax.structs import Batch, Features

SHAPES = {"image": FeatureShape(1, 3), "text": FeatureShape(1, 2)}
PRESENT = {"image": np.array([1, 1, 0, 0], bool), "text": np.array([1, 0, 1, 0], bool)}
THERE = np.stack([PRESENT["image"], PRESENT["text"]], axis=1)
VALUES = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)


def combined(config, kind, values=VALUES):
    module = config.build(SHAPES, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    features = {
        name: Features(jnp.ones((4, *shape)), jnp.asarray(PRESENT[name])[:, None])
        for name, shape in SHAPES.items()
    }
    return jax.device_get(module(jnp.asarray(values), features, kind))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def shares(weights):
    w = THERE * np.asarray(weights)
    return w / np.maximum(w.sum(1, keepdims=True), 1e-9)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (AveragedHeads(), (1, 1)),
        (WeightedHeads(weights={"image": 0.7, "text": 0.3}), (0.7, 0.3)),
        (WeightedHeads(), (1, 1)),
    ],
)
def test_means_in_closed_form(config, weights):
    w = shares(weights)
    logits, found = combined(config, "class")
    np.testing.assert_allclose(found, w, atol=1e-6)
    expected = np.einsum("bm,bmc->bc", w, softmax(VALUES))
    np.testing.assert_allclose(softmax(logits)[:3], expected[:3], atol=1e-6)
    labels = combined(config, "labels")[0]
    expected = np.einsum("bm,bmc->bc", w, sigmoid(VALUES))
    np.testing.assert_allclose(sigmoid(labels)[:3], expected[:3], atol=1e-6)
    numbers = combined(config, "number")[0]
    np.testing.assert_allclose(numbers, np.einsum("bm,bmc->bc", w, VALUES), atol=1e-6)
    assert not np.any([logits[3], labels[3], numbers[3]])


def test_the_product_in_closed_form():
    logits, _ = combined(ProductOfHeads(), "class")
    product = np.where(THERE[:, :, None], softmax(VALUES), 1).prod(axis=1)
    np.testing.assert_allclose(softmax(logits), product / product.sum(1, keepdims=True), atol=1e-6)
    labels, _ = combined(ProductOfHeads(), "labels")
    np.testing.assert_allclose(labels, (VALUES * THERE[:, :, None]).sum(1), atol=1e-6)


def test_the_gate_weights_who_is_there():
    logits, weights = combined(ExpertGate(), "class")
    np.testing.assert_allclose(weights.sum(1), [1, 1, 1, 0], atol=1e-6)
    assert not weights[~THERE].any()
    expected = np.einsum("bm,bmc->bc", weights, softmax(VALUES))
    np.testing.assert_allclose(softmax(logits)[:3], expected[:3], atol=1e-6)


def test_sure_heads_have_finite_gradients():
    values = jnp.asarray(VALUES) * 1e4
    weights = jnp.asarray(shares((1, 1)), jnp.float32)
    for kind in ("class", "labels", "number"):
        gradient = jax.grad(lambda x, kind=kind: mixed(x, weights, kind).sum())(values)
        assert jnp.isfinite(gradient).all()
        assert not gradient[~THERE].any()


@pytest.mark.parametrize(
    "decision", [AveragedHeads(), WeightedHeads(), ProductOfHeads(), ExpertGate()]
)
def test_absent_modalities_have_no_say_in_a_model(decision):
    model = LateFusionModel({name: MLP((4,)) for name in SHAPES}, decision)
    modalities = {name: Modality("vector", (3,)) for name in SHAPES}
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((4, 3)).astype(np.float32) for name in SHAPES}

    @jax.jit
    def run(inputs):
        module = model.build(
            modalities,
            {"label": Target("class", 3)},
            dtype=jnp.dtype("float32"),
            rngs=nnx.Rngs(0),
        )
        batch = Batch.of({}, np.arange(4), present=PRESENT).replace(inputs=inputs)

        def loss(inputs):
            outputs = module(batch.replace(inputs=inputs))
            return jnp.sum(outputs.predictions["label"].values ** 2), outputs

        return jax.grad(loss, has_aux=True)(inputs)

    spoilt = {name: np.where(PRESENT[name][:, None], x, np.nan) for name, x in inputs.items()}
    (clean, outputs), (gradients, after) = jax.device_get((run(inputs), run(spoilt)))
    jax.tree.map(np.testing.assert_array_equal, clean, gradients)
    for name in SHAPES:
        assert not gradients[name][~PRESENT[name]].any()
        assert gradients[name][PRESENT[name]].any()
    before, values = outputs.predictions["label"].values, after.predictions["label"].values
    np.testing.assert_array_equal(before, values)
    np.testing.assert_array_equal(values[3], 0)
    assert outputs.statistics["missing/image"] == 0.5
    assert set(outputs.unimodal) == set(SHAPES)


@pytest.mark.parametrize(
    ("decision", "target", "sentence"),
    [
        (ProductOfHeads(), Target("number"), "multiplies probabilities, but 'y' is a target of"),
        (AveragedHeads(), Target("tokens", 5, (3,)), "cannot be combined over modalities"),
        (WeightedHeads(weights={"image": 1.0}), Target("class", 3), "has no weight for 'text'"),
    ],
)
def test_what_cannot_be_combined_is_refused(decision, target, sentence):
    heads = {"y": Classifier()} if target.kind == "class" else {}
    model = LateFusionModel({name: MLP((4,)) for name in SHAPES}, decision, heads)
    modalities = {name: Modality("vector", (3,)) for name in SHAPES}
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(
            lambda: nnx.state(
                model.build(modalities, {"y": target}, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
            )
        )
    with pytest.raises(ConfigError, match="choose it above 0"):
        WeightedHeads(weights={"image": -1.0})
