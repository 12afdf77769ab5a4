"""The losses of autoencoders: against NumPy and SciPy, over the rows that count, at any scale."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from awkward_views import awkward_view
from hypothesis import given, settings

from mmjax.data import AddNoise, DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError
from mmjax.models import Decoder, VariationalCCA
from mmjax.objectives import (
    BernoulliReconstruction,
    KLDivergence,
    SquaredReconstruction,
    bernoulli_reconstruction,
    kl_divergence,
    squared_reconstruction,
)
from mmjax.structs import Batch, Outputs, Posterior, Reconstruction
from mmjax.training import Experiment, Training
from mmjax.training.setup import prepare

B, SHAPE = 6, (2, 2)
WEIGHT = np.array([1, 0, 2, 1, 0.5, 0])
LOSSES = {
    "squared_reconstruction": squared_reconstruction,
    "bernoulli_reconstruction": bernoulli_reconstruction,
    "kl_divergence": kl_divergence,
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def pair(seed=0):
    """Logits, means or decoded values, and values in [0, 1]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((B, *SHAPE)), rng.random((B, *SHAPE))


def reference(name, first, second, weight):
    each = []
    for a, b in zip(first[weight > 0], second[weight > 0], strict=True):
        if name == "squared_reconstruction":
            each.append(np.linalg.norm(a - b) ** 2)
        elif name == "bernoulli_reconstruction":
            p = 1 / (1 + np.exp(-a))
            each.append(-np.sum(b * np.log(p) + (1 - b) * np.log(1 - p)))
        else:
            each.append(np.sum((a**2 + np.exp(b) - 1 - b) / 2))
    return np.average(each, weights=weight[weight > 0])


@functools.cache
def value_and_gradients(name):
    return jax.jit(jax.value_and_grad(lambda a, b, w: LOSSES[name](a, b, weight=w), argnums=(0, 1)))


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_numpy_and_finite_differences(name, weighted):
    weight = WEIGHT if weighted else np.ones(B)
    (first, second), run = pair(), value_and_gradients(name)
    with jax.enable_x64(True):
        for array in (first, second):
            array[weight == 0] = np.nan
        loss, gradients = run(first, second, weight)
        expected = reference(name, first, second, weight)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)  # float64 sums
        along = pair(1)
        ends = [
            reference(name, first + step * along[0], second + step * along[1], weight)
            for step in (1e-5, -1e-5)
        ]
        promised = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
        # 1e-8: the step squared times a third derivative, and rounding over the step.
        np.testing.assert_allclose(promised, (ends[0] - ends[1]) / 2e-5, rtol=1e-8)
        for gradient in gradients:
            assert (np.asarray(gradient)[weight == 0] == 0).all()


def test_they_are_the_likelihoods_and_the_divergence_that_they_are_called():
    (logits, x), sigma = pair(), 0.3
    images = np.round(x)
    one = np.ones(B, np.float32)

    def value(name, first, second):
        return value_and_gradients(name)(np.float32(first), np.float32(second), one)[0]

    def divergence(mean, log_variance):
        """Of one variable; all others are at their prior and add nothing."""
        posterior = np.zeros((2, B, *SHAPE))
        posterior[:, 0, 0, 0] = mean, log_variance
        return B * value("kl_divergence", *posterior)

    found = value("bernoulli_reconstruction", logits, images)
    p = 1 / (1 + np.exp(-logits))
    expected = -scipy.stats.bernoulli.logpmf(images.astype(int), p).sum() / B
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32

    gaussian = scipy.stats.norm(logits, sigma)
    constant = gaussian.logpdf(logits).sum() / B  # what a weight of 1 / (2 sigma^2) leaves out
    found = value("squared_reconstruction", logits, x) / (2 * sigma**2)
    np.testing.assert_allclose(found, constant - gaussian.logpdf(x).sum() / B, rtol=1e-5)

    def integrand(z, mean, log_variance):
        q = scipy.stats.norm(mean, np.exp(log_variance / 2))
        return q.pdf(z) * (q.logpdf(z) - scipy.stats.norm.logpdf(z))

    wanted = [
        scipy.integrate.quad(integrand, -12, 12, args=each)[0] for each in ((1.5, -2.0), (0, 1.0))
    ]
    found = [divergence(1.5, -2.0), divergence(0, 1.0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)  # float32
    assert divergence(0, 0) == 0
    # Near the prior the difference of exp and its tangent is not lost to rounding: s^2 / 4.
    np.testing.assert_allclose(divergence(0, 1e-3), 1e-6 / 4, rtol=1e-2)


@every_loss
@settings(max_examples=40, deadline=None, derandomize=True)
@given(awkward_view(B, 3, range(-30, 13)), awkward_view(B, 3, range(-30, 13)))
def test_any_finite_values_give_finite_results(name, first, second):
    """Squares up to 1e17, log variances up to 80; above they are infinite, as documented."""
    if name == "kl_divergence":
        second = np.clip(second, -1e6, 80)
    elif name == "bernoulli_reconstruction":
        second = np.abs(second) / max(np.abs(second).max(), 1e-30)
    loss, gradients = value_and_gradients(name)(
        np.float32(first), np.float32(second), np.ones(B, np.float32)
    )
    assert np.isfinite(loss)
    assert loss >= 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_loss
def test_what_is_too_large_is_infinite_and_not_nan(name):
    huge = np.full((B, 2), 1e30, np.float32)
    second = np.ones_like(huge) if name == "bernoulli_reconstruction" else huge
    loss, _ = value_and_gradients(name)(-huge, second, np.ones(B, np.float32))
    if name == "bernoulli_reconstruction":
        np.testing.assert_allclose(loss, 2e30, rtol=1e-6)  # float32
    else:
        assert loss == np.inf


@every_loss
def test_a_batch_of_nothing_gives_nothing(name):
    first, second = map(np.float32, pair())
    loss, gradients = value_and_gradients(name)(first, second, np.zeros(B, np.float32))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


@every_loss
def test_bfloat16_is_computed_in_float32(name):
    first, second = (jnp.asarray(array, jnp.bfloat16) for array in pair())
    loss, _ = value_and_gradients(name)(first, second, np.ones(B, np.float32))
    assert loss.dtype == jnp.float32
    expected = reference(name, *(np.asarray(a, np.float64) for a in (first, second)), np.ones(B))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32 sums


@pytest.mark.parametrize("config", [SquaredReconstruction, BernoulliReconstruction])
def test_a_reconstruction_counts_the_rows_with_a_view_and_a_code_for_it(config):
    views = ("image", "audio")
    inputs, decoded, expected = {}, {}, 0.0
    weight = np.array([1, 1, 1, 1, 1, 0.0], np.float32)
    present = {"image": np.arange(B) != 1, "audio": np.arange(B) != 2}
    coded = {"image": np.arange(B) != 3, "audio": np.arange(B) != 4}
    for seed, view in enumerate(views):
        values, x = pair(seed)
        kept = present[view] & coded[view] & (weight > 0)
        expected += reference(config(views=views).name, values, x, kept * 1.0)
        x[~present[view]] = np.nan
        values[~coded[view]] = np.nan
        inputs[view] = np.float32(x)
        decoded[view] = Reconstruction(np.float32(values), coded[view])
    batch = Batch.of(inputs, np.arange(B), present=present).replace(weight=weight)
    outputs = Outputs(embeddings={}, present={}, reconstructions=decoded)
    np.testing.assert_allclose(
        config(views=views)(outputs, batch).mean, expected, rtol=1e-5
    )  # float32
    with pytest.raises(ConfigError, match="no reconstruction 'audioo': did you mean 'audio'"):
        config(views=("audioo",))(outputs, batch)
    for wrong in ((), ("audio", "audio")):
        with pytest.raises(ConfigError, match="must name each view to reconstruct once"):
            config(views=wrong)


def test_the_divergence_is_the_sum_over_the_posteriors_of_their_rows():
    posteriors, expected = {}, 0.0
    for seed, name in enumerate(("shared", "private_audio")):
        mean, log_variance = (array.reshape(B, -1) for array in pair(seed))
        kept = np.arange(B) != seed
        expected += reference("kl_divergence", mean, log_variance, kept * 1.0)
        mean[seed] = log_variance[seed] = np.nan
        posteriors[name] = Posterior(np.float32(mean), np.float32(log_variance), kept)
    batch = Batch.of({"audio": np.zeros((B, 1))}, np.arange(B))
    outputs = Outputs(embeddings={}, present={}, posteriors=posteriors)
    np.testing.assert_allclose(KLDivergence()(outputs, batch).mean, expected, rtol=1e-5)  # float32
    assert KLDivergence().name == "kl_divergence"
    with pytest.raises(ConfigError, match="needs a model with posteriors, such as VariationalCCA"):
        KLDivergence()(Outputs(embeddings={}, present={}), batch)


@every_loss
def test_what_does_not_fit_is_refused(name):
    array = jnp.zeros((4, 3))
    for arrays, options, sentence in [
        ((array, array[:, :2]), {}, "which must be equal"),
        ((array[0], array[0]), {}, "begin with the batch"),
        ((array, array), {"weight": jnp.ones(3)}, "one weight a row"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            LOSSES[name](*arrays, **options)


def test_values_without_a_likelihood_are_refused_before_the_first_step():
    experiment = Experiment(
        name="test",
        data=DigitsHalves(),
        model=VariationalCCA("left", MLP((), 4), {"right": Decoder(hidden=())}),
        objectives=(KLDivergence(), BernoulliReconstruction(views=("right",))),
        training=Training(steps=1, batch_size=8),
    )
    prepare(experiment, None)
    noisy = dataclasses.replace(experiment, transforms=(AddNoise("right", 1.0),))
    with pytest.raises(DataError, match=r"'right' has values from -\d.* take SquaredRecon"):
        prepare(noisy, None)
    prepare(dataclasses.replace(noisy, objectives=(KLDivergence(),)), None)


def test_values_of_an_absent_view_and_rounding_are_not_refused():
    x = np.array([[0, 1 + 1e-7], [5, 5]], "f4")
    batch = Batch.of({"right": x}, np.arange(2), present={"right": np.array([True, False])})
    BernoulliReconstruction(views=("right",)).check_batch(batch)
    whole = Batch.of({"right": x}, np.arange(2))
    with pytest.raises(DataError, match="from 0 to 5, and"):
        BernoulliReconstruction(views=("right",)).check_batch(whole)


@pytest.mark.parametrize("config", [SquaredReconstruction, BernoulliReconstruction])
def test_pictures_of_bytes_are_those_over_255(config):
    pixels = np.random.default_rng(0).integers(0, 256, (B, *SHAPE)).astype(np.uint8)
    decoded = {"image": Reconstruction(np.float32(pair()[0]), np.ones(B, bool))}
    outputs = Outputs({}, {}, reconstructions=decoded)
    objective = config(views=("image",))
    found = []
    for x in (pixels, pixels.astype(np.float32) / np.float32(255)):
        batch = Batch.of({"image": x}, np.arange(B))
        objective.check_batch(batch)
        found.append(objective(outputs, batch).mean)
    assert found[0] == found[1]
