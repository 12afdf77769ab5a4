"""What CorrAE and DistAE minimise beside reconstructions: against NumPy, and what scales do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from awkward_views import awkward_view
from hypothesis import given, settings

from mmjax.errors import ConfigError
from mmjax.objectives import (
    DimensionwiseCorrelation,
    RelativeDistance,
    UnitDistance,
    dimensionwise_correlation,
    relative_distance,
    unit_distance,
)
from mmjax.structs import Batch, Outputs

B, D = 8, 3
WEIGHT = np.array([1, 0, 2, 1, 0.5, 1, 0, 1])
LOSSES = {
    "dimensionwise_correlation": dimensionwise_correlation,
    "relative_distance": relative_distance,
    "unit_distance": unit_distance,
}
CONFIGS = {
    "dimensionwise_correlation": DimensionwiseCorrelation,
    "relative_distance": RelativeDistance,
    "unit_distance": UnitDistance,
}
RANGES = {
    "dimensionwise_correlation": (-D, D),
    "relative_distance": (0, 2),
    "unit_distance": (0, 4),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def views(seed=0):
    rng = np.random.default_rng(seed)
    z1 = rng.standard_normal((B, D)) + 1
    return z1, z1 + rng.standard_normal((B, D))


def reference(name, z1, z2, weight):
    """By loops over rows or dimensions; rows of weight 0 are left out."""
    z1, z2, weight = z1[weight > 0], z2[weight > 0], weight[weight > 0]
    if name == "dimensionwise_correlation":
        loss = 0.0
        for a, b in zip(z1.T, z2.T, strict=True):
            C = np.cov(a, b, aweights=weight)
            loss -= C[0, 1] / np.sqrt(C[0, 0] * C[1, 1])
        return loss
    each = []
    for a, b in zip(z1, z2, strict=True):
        if name == "relative_distance":
            each.append((a - b) @ (a - b) / (a @ a + b @ b))
        else:
            each.append(2 - 2 * a @ b / np.sqrt((a @ a) * (b @ b)))
    return np.average(each, weights=weight)


@functools.cache
def value_and_gradients(name):
    return jax.jit(
        jax.value_and_grad(lambda z1, z2, w: LOSSES[name](z1, z2, weight=w), argnums=(0, 1))
    )


@every_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_numpy_and_finite_differences(name, weighted):
    weight = WEIGHT if weighted else np.ones(B)
    (z1, z2), run = views(), value_and_gradients(name)
    with jax.enable_x64(True):
        for z in (z1, z2):
            z[weight == 0] = np.nan
        loss, gradients = run(z1, z2, weight)
        np.testing.assert_allclose(loss, reference(name, z1, z2, weight), rtol=1e-12)  # float64
        along = views(1)
        ends = [
            reference(name, z1 + step * along[0], z2 + step * along[1], weight)
            for step in (1e-5, -1e-5)
        ]
        promised = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
        # 1e-8: the step squared times a third derivative, and rounding over the step.
        np.testing.assert_allclose(promised, (ends[0] - ends[1]) / 2e-5, rtol=1e-8, atol=1e-8)
        for gradient in gradients:
            assert (np.asarray(gradient)[weight == 0] == 0).all()


@every_loss
def test_the_scale_of_the_views_does_not_count(name):
    z1, z2 = map(np.float32, views())
    one, run = np.ones(B, np.float32), value_and_gradients(name)
    expected, gradients = run(z1, z2, one)
    for scale in map(np.float32, (1e-6, 1e30)):
        loss, scaled = run(z1 * scale, z2 * scale, one)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32 sums
        for a, b in zip(scaled, gradients, strict=True):
            np.testing.assert_allclose(a * scale, b, rtol=1e-4, atol=1e-6)


def test_known_values():
    one, two = np.eye(B, D, dtype=np.float32), np.float32(np.arange(B) < 2)
    orthogonal = np.eye(B, D, dtype=np.float32)[[1, 0, *range(2, B)]]

    def value(name, z1, z2, weight=two):
        return value_and_gradients(name)(z1, z2, weight)[0]

    assert value("relative_distance", one, one) == 0
    assert value("relative_distance", one, orthogonal) == 1
    assert value("relative_distance", one, -one) == 2
    assert value("unit_distance", one, 5 * one) == 0
    assert value("unit_distance", one, orthogonal) == 2
    assert value("unit_distance", one, -one) == 4
    z, all_rows = np.float32(views()[0]), np.ones(B, np.float32)
    for other, expected in ((3 * z + 1, -D), (-z, D)):
        found = value("dimensionwise_correlation", z, other, all_rows)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for name in LOSSES:  # of zeros, which have no direction
        loss, gradients = value_and_gradients(name)(0 * z, 0 * z, np.ones(B, np.float32))
        assert loss == 0
        assert all((gradient == 0).all() for gradient in gradients)
    # One vector of zeros beside one that has a direction.
    loss, (gradient, _) = value_and_gradients("unit_distance")(0 * z, z, np.ones(B, np.float32))
    assert loss == pytest.approx(1)
    assert (gradient == 0).all()


@every_loss
@settings(max_examples=40, deadline=None, derandomize=True)
@given(awkward_view(B, D, range(-30, 30)), awkward_view(B, D, range(-30, 30)))
def test_any_finite_views_give_finite_results(name, h1, h2):
    loss, gradients = value_and_gradients(name)(
        np.float32(h1), np.float32(h2), np.ones(B, np.float32)
    )
    least, most = RANGES[name]
    assert least - 1e-5 <= loss <= most + 1e-5  # float32 sums
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_loss
@pytest.mark.parametrize("scale", [1e-45, 1e-42, 1e-38, 2e-38, 3e38])
def test_the_ends_of_float32_give_finite_results(name, scale):
    z = np.full((B, D), scale, np.float32)
    z[0] *= -1
    for other in (np.ones_like(z), z[::-1].copy(), 0 * z):
        for pair in ((z, other), (other, z)):
            loss, gradients = value_and_gradients(name)(*pair, np.ones(B, np.float32))
            assert np.isfinite(loss)
            assert all(np.isfinite(gradient).all() for gradient in gradients)


@every_loss
def test_a_batch_of_nothing_gives_nothing(name):
    z1, z2 = map(np.float32, views())
    loss, gradients = value_and_gradients(name)(z1, z2, np.zeros(B, np.float32))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


@every_loss
def test_bfloat16_is_computed_in_float32(name):
    z1, z2 = (jnp.asarray(z, jnp.bfloat16) for z in views())
    loss, gradients = value_and_gradients(name)(z1, z2, np.ones(B, np.float32))
    assert loss.dtype == jnp.float32
    assert all(gradient.dtype == jnp.bfloat16 for gradient in gradients)
    expected = reference(name, *(np.asarray(z, np.float64) for z in (z1, z2)), np.ones(B))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@every_loss
def test_the_config_counts_the_rows_with_both_views(name):
    config = CONFIGS[name](views=("image", "audio"))
    z1, z2 = views()
    present = {"image": np.arange(B) != 1, "audio": np.arange(B) != 4}
    expected = reference(name, z1, z2, (present["image"] & present["audio"]) * 1.0)
    z1[1], z2[4] = np.nan, np.nan
    embeddings = {"image": np.float32(z1), "audio": np.float32(z2)}
    outputs = Outputs(embeddings=embeddings, present=present)
    batch = Batch.of({view: np.zeros((B, 1)) for view in present}, np.arange(B), present=present)
    np.testing.assert_allclose(config(outputs, batch).mean, expected, rtol=1e-5)  # float32
    assert config.name == name
    with pytest.raises(ConfigError, match="no embedding 'smell'"):
        CONFIGS[name](views=("audio", "smell"))(outputs, batch)
    with pytest.raises(ConfigError, match="one view twice"):
        CONFIGS[name](views=("audio", "audio"))


@every_loss
def test_what_does_not_fit_is_refused(name):
    z = jnp.zeros((4, 3))
    for pair, options, sentence in [
        ((z, z[:, :2]), {}, "must be equal"),
        ((z, z[:3]), {}, "must be equal"),
        ((z[0], z[0]), {}, r"\[batch, width\]"),
        ((z, z), {"weight": jnp.ones(3)}, "weight has the shape .* one weight a row"),
        ((z, z), {"weight": jnp.ones(1)}, "one weight a row"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            LOSSES[name](*pair, **options)
