"""Autoencoders: what each decoder reads, what absent views reach, and what does not fit."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import DigitsHalves, Modality
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.models import Autoencoder, Decoder
from mmjax.objectives import DCCA, SquaredReconstruction
from mmjax.structs import Batch
from mmjax.training import Experiment, Training
from mmjax.training.config import check_types, from_json, to_json
from mmjax.training.overrides import override
from mmjax.training.step import state_maker, train_step

B = 6
MODALITIES = {
    "table": Modality("vector", (5,)),
    "image": Modality("image", (2, 3, 1)),
    "text": Modality("text", (4,), vocabulary=9),
}
VIEWS = ("table", "image")
LINEAR, SMALL = Decoder(hidden=()), MLP((), 4)
MODELS = {
    "DCCAE": Autoencoder(dict.fromkeys(VIEWS, SMALL), dict.fromkeys(VIEWS, LINEAR)),
    "SplitAE": Autoencoder({"image": SMALL}, dict.fromkeys(VIEWS, LINEAR), code="image"),
    "one of two": Autoencoder(dict.fromkeys(VIEWS, SMALL), {"table": LINEAR}, code="image"),
}
every_model = pytest.mark.parametrize("name", MODELS)
OBJECTIVES = {
    "DCCAE": (SquaredReconstruction(views=VIEWS), DCCA(views=VIEWS)),
    "SplitAE": (SquaredReconstruction(views=VIEWS),),
    "one of two": (SquaredReconstruction(views=("table",)),),
}


def build(model, dtype="float32"):
    return model.build(MODALITIES, {}, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))


def batch():
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((B, *MODALITIES[name].shape)).astype(np.float32) for name in VIEWS}
    inputs["text"] = np.zeros((B, 4), np.int32)
    return Batch.of(inputs, np.arange(B))


@functools.cache
def program(name):
    """Parameters, and a jitted function of them and a batch to outputs, losses and gradients."""
    graphdef, params, _, _ = filled(lambda: build(MODELS[name]))

    def run(params, inputs, batch):
        inputs = {**batch.inputs, **inputs}
        outputs = nnx.merge(graphdef, params)(batch.replace(inputs=inputs), train=True)
        losses = [each(outputs, batch.replace(inputs=inputs)).mean for each in OBJECTIVES[name]]
        return sum(losses), outputs

    return params, jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))


def call(name, given):
    params, run = program(name)
    return params, run(params, {view: given.inputs[view] for view in VIEWS}, given)


def linear(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


@every_model
def test_every_decoder_reads_the_code_that_it_should(name):
    model = MODELS[name]
    params, ((_, outputs), _) = call(name, batch())
    codes = {
        view: linear(
            batch().inputs[view].reshape(B, -1), params["encoders"][view]["perceptron"]["layers"][0]
        )
        for view in model.encoders
    }
    assert set(outputs.embeddings) == set(model.encoders)
    for view, code in codes.items():
        np.testing.assert_allclose(outputs.embeddings[view], code, rtol=1e-5, atol=1e-5)  # float32
    assert set(outputs.reconstructions) == set(model.decoders)
    for view, decoded in outputs.reconstructions.items():
        layer = params["decoders"][view]["perceptron"]["layers"][0]
        expected = linear(codes[model.code or view], layer)
        assert decoded.values.shape == (B, *MODALITIES[view].shape)
        np.testing.assert_allclose(
            np.reshape(decoded.values, (B, -1)), expected, rtol=1e-5, atol=1e-5
        )
        assert decoded.present.all()


@every_model
def test_what_an_absent_view_holds_reaches_nothing(name):
    given = batch()
    _, ((whole, before), _) = call(name, given)
    present = {view: np.arange(B) != row for row, view in enumerate(VIEWS)} | {
        "text": np.ones(B, bool)
    }
    given = given.replace(present=present)
    found = []
    for filler in (0.0, np.nan):
        inputs = {
            view: np.where(present[view].reshape(-1, *[1] * (x.ndim - 1)), x, np.float32(filler))
            if view in VIEWS
            else x
            for view, x in given.inputs.items()
        }
        found.append(call(name, given.replace(inputs=inputs))[1])
    jax.tree.map(np.testing.assert_array_equal, *found)
    (loss, outputs), (gradients, of_inputs) = found[1]
    assert np.isfinite(loss)
    assert loss != whole
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for row, view in enumerate(VIEWS):
        assert (of_inputs[view][row] == 0).all()
    for view, decoded in outputs.reconstructions.items():
        source = MODELS[name].code or view
        np.testing.assert_array_equal(decoded.present, present[source])
        there = present[source]
        np.testing.assert_allclose(  # two programs in float32
            decoded.values[there], before.reconstructions[view].values[there], rtol=1e-5, atol=1e-6
        )


def state(model, objectives):
    make = state_maker(
        model,
        MODALITIES,
        {},
        objectives,
        optax.sgd(0.1),
        seed=0,
        dtype=jnp.dtype("float32"),
    )
    return jax.jit(make)()


def test_frozen_encoders_keep_their_bits_and_drop_nothing_out():
    encoders = {"table": MLP((8,), 4, dropout=0.5), "image": MLP((8,), 4)}
    model = Autoencoder(encoders, dict.fromkeys(VIEWS, LINEAR), code="table", frozen=("table",))
    first = state(model, OBJECTIVES["SplitAE"])
    assert set(first.params["model"]["decoders"]) == set(VIEWS)
    assert set(first.params["model"]["encoders"]) == {"image"}
    held = jax.device_get(first.frozen)
    step, losses = jax.jit(train_step), []
    second, metrics = step(first, batch())
    jax.tree.map(np.testing.assert_array_equal, held, jax.device_get(second.frozen))
    losses.append(metrics["loss"])
    other_key = first.replace(key=jax.random.key(7))
    losses.append(step(other_key, batch())[1]["loss"])
    assert losses[0] == losses[1]  # no dropout draws
    assert step(second, batch())[1]["loss"] < losses[0]


def test_a_bfloat16_model_is_judged_in_float32():
    def run():
        outputs = build(MODELS["DCCAE"], "bfloat16")(batch())
        return outputs, OBJECTIVES["DCCAE"][0](outputs, batch()).mean

    outputs, loss = jax.eval_shape(run)
    assert outputs.reconstructions["image"].values.dtype == jnp.bfloat16
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Autoencoder({"image": SMALL}, {"image": LINEAR}, code="imgae"),
            "no encoder for `code`, 'imgae': did you mean 'image'",
        ),
        (
            lambda: Autoencoder({"image": SMALL}, {"table": LINEAR}),
            "decoder of 'table' has no code to read, because 'table' has no encoder: .* set `code`",
        ),
        (
            lambda: Autoencoder({"image": SMALL}, {"text": LINEAR}, code="image"),
            "Decoder can make .* vector or image, not text: remove this modality from `decoders",
        ),
        (
            lambda: Autoencoder({"image": SMALL}, {"tabel": LINEAR}, code="image"),
            "no modality 'tabel': did you mean 'table'",
        ),
        (lambda: Autoencoder({"image": SMALL}, {}), "The model has no decoder"),
        (lambda: Autoencoder({}, {"image": LINEAR}), "The model has no encoder"),
        (lambda: Autoencoder({"image": SMALL}, {"image": LINEAR}, frozen=("text",)), "'text'"),
        (lambda: Autoencoder({"image": SMALL}, {"image": Decoder((0,))}), "Decoder.hidden"),
        (lambda: Autoencoder({"image": SMALL}, {"image": Decoder(dropout=1.0)}), "dropout"),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(lambda: nnx.state(build(make()), nnx.Param))


def test_its_config_comes_back_and_takes_options():
    halves = ("left", "right")
    experiment = Experiment(
        name="dccae",
        data=DigitsHalves(),
        model=Autoencoder(dict.fromkeys(halves, MLP()), dict.fromkeys(halves, Decoder())),
        objectives=(DCCA(views=halves), SquaredReconstruction(views=halves)),
        training=Training(steps=1),
    )
    check_types(experiment)
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment
    words = "--model.decoders.left.dropout 0.1 --model.decoders.right.hidden 3 4 --model.code left"
    changed = override(experiment, [*words.split(), "--objectives.1.weight", "0.5"], "test")
    assert changed.model.decoders == {"left": Decoder(dropout=0.1), "right": Decoder(hidden=(3, 4))}
    assert changed.model.code == "left"
    assert changed.model.encoders == experiment.model.encoders
    assert changed.objectives[1] == SquaredReconstruction(weight=0.5, views=halves)
