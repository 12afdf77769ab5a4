"""Models: which encoders they use, what they refuse, and that all of their parameters learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import direction, filled

from mmjax.data import Modality, Target
from mmjax.encoders import LSTM, MLP, Flatten, LeNet, LogMelCNN, TextTransformer
from mmjax.errors import ConfigError
from mmjax.fusion import Concat, Mean, MultimodalTransformer
from mmjax.heads import Classifier, MultiLabel, Regressor
from mmjax.models import DualEncoder, FusionModel, abstract_outputs
from mmjax.structs import Batch

B = 5
MODALITIES = {
    "image": Modality("image", (6, 6, 1)),
    "sound": Modality("audio", (600,), sample_rate=8_000),
    "text": Modality("text", (4,), vocabulary=9),
    "table": Modality("vector", (7,)),
}
TARGETS = {"label": Target("class", 3)}
LENET = LeNet(blocks=1, channels=4, width=6, batch_norm=True)
SOUND = LogMelCNN(blocks=1, channels=2, width=5, bands=8)
TABLE = MLP(hidden=(8,), width=4, activation="tanh", dropout=0.2)
MODELS = {  # names in an order that is not the alphabet's
    "concat": FusionModel(
        {"text": LSTM(5), "image": LENET}, Concat(), {"label": Classifier(hidden=(8,))}
    ),
    "mean": FusionModel(
        {"table": TABLE, "sound": SOUND}, Mean(6), {"label": Classifier(dropout=0.2)}
    ),
    "transformer": FusionModel(
        {"table": TABLE, "image": LENET},
        MultimodalTransformer(8, 1, 2),
    ),
    "dual": DualEncoder({"table": TABLE, "image": LENET}),
    "dual_projected": DualEncoder({"text": LSTM(5), "image": LENET}, width=3),
}
every_model = pytest.mark.parametrize("name", MODELS)


def batch():
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.integers(1, 9, (B, 4)).astype(np.int32)
        if modality.kind == "text"
        else rng.standard_normal((B, *modality.shape)).astype(np.float32)
        for name, modality in MODALITIES.items()
    }
    return Batch.of(inputs, np.arange(B))


def build(model):
    return model.build(MODALITIES, TARGETS, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


@functools.cache
def outcome(model_name):
    """Outputs of the fresh module and of one that was split and merged; gradients in training."""

    model = MODELS[model_name]
    graphdef, params, stats, _ = filled(lambda: build(model))

    @jax.jit
    def run(batch):
        def product(params):
            module = nnx.merge(graphdef, params, stats)
            outputs = module(batch, train=True, rngs=nnx.Rngs(dropout=1))
            leaves = jax.tree.leaves((outputs.embeddings, outputs.fused, outputs.predictions))
            return sum(jnp.sum(leaf * direction(leaf.shape)) for leaf in leaves)

        fresh, merged = build(model), nnx.merge(graphdef, params, stats)
        nnx.update(fresh, nnx.state(merged))
        return fresh(batch), merged(batch), jax.grad(product)(params)

    return jax.device_get(run(batch()))


@every_model
def test_gradient_reaches_every_parameter_in_training(name):
    sizes = jax.tree.map(lambda gradient: float(np.abs(gradient).max()), outcome(name)[2])
    # 1e-5: a parameter that changes nothing still gets the rounding errors of the others, 1e-7.
    largest = max(jax.tree.leaves(sizes))
    assert jax.tree.all(jax.tree.map(lambda size: size > 1e-5 * largest, sizes)), sizes


@every_model
def test_a_merged_module_is_the_fresh_one(name):
    fresh, merged, _ = outcome(name)
    # 1e-5: one program, but sums may be fused otherwise; a swapped modality changes outputs by 1.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), fresh, merged)


@every_model
def test_outputs(name):
    outputs = outcome(name)[0]
    model = MODELS[name]
    assert set(outputs.embeddings) == set(outputs.present) == set(model.encoders)
    for modality, embedding in outputs.embeddings.items():
        width = getattr(model, "width", 0) or model.encoders[modality].width
        assert embedding.shape == (B, width)
        assert outputs.present[modality].all()
    if isinstance(model, FusionModel):
        assert outputs.predictions["label"].values.shape == (B, 3)
        assert outputs.fused.tokens.shape[0] == B
    else:
        assert outputs.predictions == {}
        assert outputs.fused is None


def test_the_order_of_the_encoders_does_not_matter():
    def run(names):
        encoders = {name: MLP((), 4) for name in names}
        modalities = {name: Modality("vector", (3,)) for name in names}
        model = FusionModel(encoders, Concat())
        module = model.build(modalities, TARGETS, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
        inputs = {name: np.full((2, 3), ord(name), np.float32) for name in names}
        return module(Batch.of(inputs, np.arange(2))).predictions["label"].values

    np.testing.assert_array_equal(*jax.jit(lambda: (run("ab"), run("ba")))())


def test_modalities_chooses_among_the_encoders():
    model = FusionModel({"table": TABLE, "image": LENET}, Concat(), modalities=("table",))
    both = FusionModel({"table": TABLE, "image": LENET}, Concat())

    def parameters(model):
        return filled(lambda: build(model))[1]

    assert set(parameters(model)["encoders"]) == {"table"}
    assert set(parameters(both)["encoders"]) == {"table", "image"}
    assert parameters(model)["heads"]["label"]["perceptron"]["layers"][0]["kernel"].shape == (4, 3)

    without = batch()
    without = without.replace(inputs={"table": without.inputs["table"]})
    outputs = jax.eval_shape(lambda: build(model)(without))
    assert set(outputs.embeddings) == {"table"}


def test_presence_and_masks_reach_the_outputs():
    model = DualEncoder({"text": LSTM(5), "table": MLP((), 5)})
    given = batch()
    text = given.inputs["text"].copy()
    text[3] = 0  # a sentence without a word is absent too
    given = given.replace(
        inputs=given.inputs | {"text": text},
        present=given.present | {"table": np.array([1, 0, 1, 1, 1], bool)},
        masks={"text": np.array([[1] * 4, [1] * 4, [0] * 4, [0] * 4, [1, 0, 0, 0]], bool)},
    )
    module = nnx.merge(*filled(lambda: build(model))[:3])
    outputs = jax.device_get(jax.jit(lambda batch: module(batch))(given))
    assert outputs.present["text"].tolist() == [True, True, False, False, True]
    assert outputs.present["table"].tolist() == [True, False, True, True, True]
    np.testing.assert_array_equal(outputs.embeddings["text"][2:4], 0)
    np.testing.assert_array_equal(outputs.embeddings["table"][1], 0)


def test_every_target_has_a_head_unless_heads_are_named():
    targets = {
        "label": Target("class", 3),
        "tags": Target("labels", 4),
        "box": Target("number", shape=(2, 2)),
    }
    tables = {"table": MODALITIES["table"]}

    def shapes(heads):
        model = FusionModel({"table": TABLE}, heads=heads)

        def outputs():
            module = model.build(tables, targets, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
            return abstract_outputs(module, tables, targets).predictions

        return {name: each.values.shape for name, each in jax.eval_shape(outputs).items()}

    assert shapes({}) == {"label": (2, 3), "tags": (2, 4), "box": (2, 2, 2)}
    assert shapes({"tags": MultiLabel()}) == {"tags": (2, 4)}
    with pytest.raises(ConfigError, match=r"Regressor predicts .* not labels: choose a head"):
        shapes({"tags": Regressor()})
    targets |= {"sound": Target("phonemes", shape=(4,))}
    with pytest.raises(ConfigError, match="'phonemes', which has no default head: set one in"):
        shapes({})


def test_pictures_of_bytes_are_those_over_255():
    pixels = np.random.default_rng(0).integers(0, 256, (B, 2, 3, 1)).astype(np.uint8)
    present = {"image": np.arange(B) != 1}
    pictures = {"image": Modality("image", (2, 3, 1))}
    model = FusionModel({"image": Flatten()})
    graphdef, *rest, _ = filled(
        lambda: model.build(pictures, TARGETS, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )
    module = nnx.merge(graphdef, *rest)
    floats = pixels.astype(np.float32) / np.float32(255)
    ours, expected = (
        module(Batch.of({"image": x}, np.arange(B), present=present)) for x in (pixels, floats)
    )
    # 1e-6: a quotient may be computed as a product with the rounded 1 / 255.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, expected)
    found = np.where(present["image"][:, None], floats.reshape(B, -1), 0)
    np.testing.assert_allclose(ours.embeddings["image"], found, rtol=1e-6)
    assert (ours.embeddings["image"][1] == 0).all()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            FusionModel({"imagee": LENET}),
            "There is no modality 'imagee': did you mean 'image'\\? Available: image, sound",
        ),
        (
            DualEncoder({"image": LENET, "tabel": TABLE}),
            "There is no modality 'tabel': did you mean 'table'\\?",
        ),
        (
            FusionModel({"image": LENET}, modalities=("imag",)),
            "There is no encoder for the modality 'imag': did you mean 'image'\\?",
        ),
        (
            FusionModel({"image": LENET}, heads={"lable": Classifier()}),
            "There is no target, for a head, 'lable': did you mean 'label'\\? Available: label\\.",
        ),
        (FusionModel({}), "The model has no encoder"),
        (DualEncoder({"image": LENET}), "needs two encoders, but has 1 \\(image"),
        (
            DualEncoder({"image": LENET, "table": TABLE, "text": LSTM(4)}),
            "needs two encoders, but has 3 \\(image, table, text\\)",
        ),
        (FusionModel({"text": LENET}), "LeNet encodes .* image, not text"),
        (FusionModel({"text": TextTransformer(8, 1, 3)}), "cannot be split into 3 attention heads"),
    ],
)
def test_what_does_not_fit_is_refused(model, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(model)
