"""Variational CCA: its draws, and its bound against models whose likelihood is known."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from parameters import filled

from mmjax.data import DigitsHalves, Modality
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.models import Decoder, VariationalCCA
from mmjax.objectives import BernoulliReconstruction, KLDivergence, SquaredReconstruction
from mmjax.structs import Batch
from mmjax.training import Experiment, Training
from mmjax.training.config import check_types, from_json, to_json
from mmjax.training.overrides import override

B, K = 6, 2
MODALITIES = {
    "left": Modality("vector", (5,)),
    "right": Modality("vector", (4,)),
    "text": Modality("text", (4,), vocabulary=9),
}
VIEWS = ("left", "right")
LINEAR, POSTERIOR = Decoder(hidden=()), MLP((), 2 * K)
PLAIN = VariationalCCA("left", POSTERIOR, dict.fromkeys(VIEWS, LINEAR))
PRIVATE = VariationalCCA(
    "left", POSTERIOR, dict.fromkeys(VIEWS, LINEAR), private={"right": MLP((), 2)}
)
SIGMA = 0.6
BOUND = (KLDivergence(), SquaredReconstruction(weight=1 / (2 * SIGMA**2), views=VIEWS))
MODELS = {"VCCA": PLAIN, "VCCA-private": PRIVATE}
every_model = pytest.mark.parametrize("name", MODELS)


def build(model):
    return model.build(MODALITIES, {}, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


def batch(rows=B):
    rng = np.random.default_rng(0)
    inputs = {v: rng.standard_normal((rows, *MODALITIES[v].shape)).astype("f4") for v in VIEWS}
    return Batch.of(inputs, np.arange(rows))


def loss_of(outputs, batch):
    return sum(each.weight * each(outputs, batch).mean for each in BOUND)


@functools.cache
def program(name):
    """Parameters, and jitted functions for training and for evaluation."""
    graphdef, params, _, _ = filled(lambda: build(MODELS[name]))

    def run(params, inputs, batch, key):
        batch = batch.replace(inputs=inputs)
        rngs = None if key is None else nnx.Rngs(dropout=key)
        outputs = nnx.merge(graphdef, params)(batch, train=key is not None, rngs=rngs)
        return loss_of(outputs, batch), outputs

    return params, jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))


def call(name, given, seed=None):
    params, run = program(name)
    return run(params, given.inputs, given, None if seed is None else jax.random.key(seed))


def linear(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def codes_in_numpy(name, params, given, noises):
    """Posteriors, as (mean, log variance), and the views decoded from means and noise."""
    layer = params["encoders"]["left"]["perceptron"]["layers"][0]
    posteriors = {"shared": np.split(linear(given.inputs["left"], layer), 2, axis=1)}
    if name == "VCCA-private":
        layer = params["private"]["right"]["perceptron"]["layers"][0]
        posteriors["private_right"] = np.split(linear(given.inputs["right"], layer), 2, axis=1)
    drawn = {
        each: mean + np.exp(log_variance / 2) * noise
        for (each, (mean, log_variance)), noise in zip(posteriors.items(), noises, strict=False)
    }
    z = drawn["shared"]
    read = {"left": z, "right": np.hstack([z, drawn.get("private_right", z[:, :0])])}
    decoded = {v: linear(read[v], params["decoders"][v]["perceptron"]["layers"][0]) for v in VIEWS}
    return posteriors, decoded


@every_model
@pytest.mark.parametrize("seed", [None, 3])
def test_the_bound_is_that_of_numpy_with_the_same_noise(name, seed):
    given = batch()
    (loss, outputs), _ = call(name, given, seed)
    noises = [np.zeros((B, K)), np.zeros((B, 1))]
    if seed is not None:  # each draw takes a key of its own, z first
        rngs = nnx.Rngs(dropout=jax.random.key(seed))
        noises = [np.asarray(jax.random.normal(rngs.dropout(), noise.shape)) for noise in noises]
    posteriors, decoded = codes_in_numpy(name, program(name)[0], given, noises)
    close = {"rtol": 1e-5, "atol": 1e-5}  # float32
    assert set(outputs.posteriors) == set(posteriors)
    for each, (mean, log_variance) in posteriors.items():
        np.testing.assert_allclose(outputs.posteriors[each].mean, mean, **close)
        np.testing.assert_allclose(outputs.posteriors[each].log_variance, log_variance, **close)
    assert set(outputs.embeddings) == {"left"}
    np.testing.assert_allclose(outputs.embeddings["left"], posteriors["shared"][0], **close)
    expected = 0.0
    for view in VIEWS:
        np.testing.assert_allclose(outputs.reconstructions[view].values, decoded[view], **close)
        likelihood = scipy.stats.norm(decoded[view], SIGMA).logpdf(given.inputs[view])
        constant = np.log(SIGMA * np.sqrt(2 * np.pi)) * MODALITIES[view].shape[0]
        expected += -likelihood.sum() / B - constant
    for mean, log_variance in posteriors.values():
        expected += np.sum(mean**2 + np.exp(log_variance) - 1 - log_variance) / (2 * B)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@every_model
def test_training_draws_anew_by_its_key_and_evaluation_draws_nothing(name):
    found, again = ([call(name, batch(), seed)[0] for seed in (0, 1, None)] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, found, again)
    assert len({float(loss) for loss, _ in found}) == 3
    means = [outputs.embeddings["left"] for _, outputs in found]
    np.testing.assert_array_equal(means[0], means[1])
    np.testing.assert_allclose(means[0], means[2], rtol=1e-6)  # two programs


def test_evaluation_takes_the_means_though_there_is_a_key():
    graphdef, params, _, _ = filled(lambda: build(PLAIN))
    run = jax.jit(
        lambda rngs: nnx.merge(graphdef, params)(
            batch(), train=False, rngs=None if rngs is None else nnx.Rngs(dropout=rngs)
        )
    )
    jax.tree.map(np.testing.assert_array_equal, run(None), run(jax.random.key(0)))


@every_model
def test_every_parameter_learns_through_the_draws(name):
    gradients = call(name, batch(), 0)[1][0]
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradients))


@every_model
def test_what_an_absent_view_holds_reaches_nothing(name):
    given = batch()
    present = {view: np.arange(B) != row for row, view in enumerate(VIEWS)}
    given = given.replace(present=present)
    found = []
    for filler in (0, np.nan):
        inputs = {
            v: np.where(present[v][:, None], x, np.float32(filler)) for v, x in given.inputs.items()
        }
        found.append(call(name, given.replace(inputs=inputs), 0))
    jax.tree.map(np.testing.assert_array_equal, *found)
    (loss, outputs), (gradients, of_inputs) = found[1]
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for row, view in enumerate(VIEWS):
        assert (of_inputs[view][row] == 0).all()
    coded = {"left": present["left"], "right": present["left"]}
    if name == "VCCA-private":
        coded["right"] = coded["right"] & present["right"]
    for view, decoded in outputs.reconstructions.items():
        np.testing.assert_array_equal(decoded.present, coded[view])
    np.testing.assert_array_equal(outputs.present["left"], present["left"])


def test_its_bound_on_a_linear_gaussian_model_is_the_likelihood_where_it_is_tight():
    """One latent variable and its true posterior given the left view, in 4,000 draws."""
    rng, rows = np.random.default_rng(0), 4_000
    W = {view: rng.standard_normal((1, MODALITIES[view].shape[0])) for view in VIEWS}
    x = {view: rng.standard_normal(W[view].shape[1]) for view in VIEWS}
    precision = 1 + np.sum(W["left"] ** 2) / SIGMA**2
    read = np.hstack([W["left"].T / SIGMA**2 / precision, np.zeros_like(W["left"].T)])
    encode = {"kernel": read, "bias": np.array([0, -np.log(precision)])}
    model = VariationalCCA("left", MLP((), 2), dict.fromkeys(VIEWS, LINEAR))
    graphdef, params, _, _ = filled(lambda: build(model))
    params["encoders"]["left"]["perceptron"]["layers"][0] = jax.tree.map(np.float32, encode)
    for view in VIEWS:
        decode = {"kernel": W[view], "bias": np.zeros(W[view].shape[1])}
        params["decoders"][view]["perceptron"]["layers"][0] = jax.tree.map(np.float32, decode)
    given = Batch.of(
        {view: np.tile(x[view], (rows, 1)).astype("f4") for view in VIEWS}, np.arange(rows)
    )

    @jax.jit
    def bounds():
        outputs = nnx.merge(graphdef, params)(given, train=True, rngs=nnx.Rngs(dropout=0))
        kl = KLDivergence()(outputs, given).mean
        parts = {
            view: SquaredReconstruction(weight=1.0, views=(view,))(outputs, given).mean
            for view in VIEWS
        }
        return kl, parts

    kl, parts = bounds()

    def elbo(*views):
        found = -kl
        for view in views:
            d = len(x[view])
            found -= parts[view] / (2 * SIGMA**2) + d * np.log(SIGMA * np.sqrt(2 * np.pi))
        return float(found)

    def likelihood(*views):
        whole = np.hstack([W[view] for view in views])
        C = whole.T @ whole + SIGMA**2 * np.eye(whole.shape[1])
        point = np.concatenate([x[view] for view in views])
        return scipy.stats.multivariate_normal(np.zeros(len(C)), C).logpdf(point)

    # 0.1: five deviations of the mean of 4,000 draws, each of a deviation of order 1.
    assert abs(elbo("left") - likelihood("left")) < 0.1
    assert elbo("left", "right") < likelihood("left", "right") - 0.1
    # Exact, of both: E||x - z W||^2 over the posterior.
    m = (x["left"] @ W["left"].T)[0] / SIGMA**2 / precision
    expected = -0.5 * (m**2 + 1 / precision - 1 + np.log(precision))
    for view in VIEWS:
        square = np.sum((x[view] - m * W[view]) ** 2) + np.sum(W[view] ** 2) / precision
        d = len(x[view])
        expected -= square / (2 * SIGMA**2) + d * np.log(SIGMA * np.sqrt(2 * np.pi))
    assert abs(elbo("left", "right") - expected) < 0.2


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            VariationalCCA("left", MLP((), 3), {"left": LINEAR}),
            "encoder of 'left' has a width of 3, .* choose an even width",
        ),
        (
            VariationalCCA("left", POSTERIOR, {"right": LINEAR}, private={"right": MLP((), 5)}),
            "encoder of 'right' has a width of 5, .* choose an even width",
        ),
        (
            VariationalCCA("left", POSTERIOR, {"left": LINEAR}, private={"right": POSTERIOR}),
            "no decoder for the private encoder of 'right'. Available: left",
        ),
        (VariationalCCA("lfet", POSTERIOR, {"left": LINEAR}), "no modality 'lfet': did you mean"),
        (VariationalCCA("left", POSTERIOR, {}), "has no decoder"),
        (VariationalCCA("left", POSTERIOR, {"text": LINEAR}), "vector or image, not text"),
        (VariationalCCA("left", POSTERIOR, {"rihgt": LINEAR}), "no modality 'rihgt'"),
        (VariationalCCA("text", POSTERIOR, {"left": LINEAR}), "MLP encodes .* not text"),
    ],
)
def test_what_does_not_fit_is_refused(model, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(lambda: nnx.state(build(model), nnx.Param))


@pytest.mark.parametrize("private", [{}, {"right": MLP(width=4)}])
def test_its_config_comes_back_and_takes_options(private):
    experiment = Experiment(
        name="vcca",
        data=DigitsHalves(),
        model=VariationalCCA("left", MLP(), dict.fromkeys(VIEWS, Decoder()), private=private),
        objectives=(KLDivergence(), BernoulliReconstruction(views=VIEWS)),
        training=Training(steps=1),
    )
    check_types(experiment)
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment
    words = "--model.decoders.left.dropout 0.1 --model.encoder.width 6 --model.view right"
    changed = override(experiment, words.split(), "test").model
    assert changed.decoders == {"left": Decoder(dropout=0.1), "right": Decoder()}
    assert (changed.view, changed.encoder) == ("right", MLP(width=6))
    assert changed.private == private
    if private:
        changed = override(experiment, ["--model.private.right.width", "8"], "test").model
        assert changed.private == {"right": MLP(width=8)}
    else:
        with pytest.raises(ConfigError, match=r"Unknown option --model\.private\.right\.width"):
            override(experiment, ["--model.private.right.width", "8"], "test")


def test_a_frozen_encoder_is_held_fixed():
    model = dataclasses.replace(PRIVATE, frozen=("left",))
    _, params, _, _ = filled(lambda: build(model))
    assert model.frozen_paths == (("encoders", "left"),)
    assert set(params) == {"encoders", "private", "decoders"}
    with pytest.raises(ConfigError, match="'right'"):
        build(dataclasses.replace(PRIVATE, frozen=("right",)))
