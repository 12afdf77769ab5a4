"""InfoNCE and the sigmoid loss: against float64 NumPy, masks, zero vectors, extreme scales."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logsumexp

from mmjax.objectives import info_nce, sigmoid_contrastive

B, D = 10, 6


def views(seed=0):
    rng = np.random.default_rng(seed)
    z1 = rng.standard_normal((B, D))
    return z1, z1 + rng.standard_normal((B, D))


def cosines(z1, z2):
    return (z1 / np.linalg.norm(z1, axis=1)[:, None]) @ (z2 / np.linalg.norm(z2, axis=1)[:, None]).T


def reference_info_nce(z1, z2, temperature):
    logits = cosines(z1, z2) / temperature
    own = np.diag(logits)
    forward, backward = logsumexp(logits, axis=1) - own, logsumexp(logits, axis=0) - own
    return (forward.mean() + backward.mean()) / 2


def reference_sigmoid(z1, z2, temperature, bias):
    logits = temperature * cosines(z1, z2) + bias
    total = 0.0
    for i in range(len(z1)):
        for j in range(len(z2)):
            total -= np.log(expit(logits[i, j] if i == j else -logits[i, j]))
    return total / len(z1)


info_nce_of = jax.jit(info_nce)
sigmoid_of = jax.jit(sigmoid_contrastive)


@jax.jit
def sigmoid(z1, z2, weight=None):
    return sigmoid_contrastive(z1, z2, temperature=10.0, bias=-3.0, weight=weight)


@jax.jit
def nce(z1, z2, weight=None):
    return info_nce(z1, z2, temperature=0.1, weight=weight)


@functools.cache
def gradients_of(loss):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


both_losses = pytest.mark.parametrize("loss", [nce, sigmoid])


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_info_nce_agrees_with_numpy(temperature):
    z1, z2 = views()
    expected = reference_info_nce(z1, z2, temperature)
    got = info_nce_of(jnp.float32(z1), jnp.float32(z2), temperature=temperature)
    # 1e-5: float32 rounding of the logits, which are as large as 100.
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    with jax.enable_x64(True):
        got = info_nce_of(z1, z2, temperature=temperature)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(("temperature", "bias"), [(10.0, -10.0), (1.0, 0.0), (100.0, 5.0)])
def test_sigmoid_agrees_with_numpy(temperature, bias):
    z1, z2 = views()
    expected = reference_sigmoid(z1, z2, temperature, bias)
    got = sigmoid_of(jnp.float32(z1), jnp.float32(z2), temperature=temperature, bias=bias)
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # float32 rounding of logits up to 100
    with jax.enable_x64(True):
        got = sigmoid_of(z1, z2, temperature=temperature, bias=bias)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_known_values():
    # All cosines equal: the partner is one of B, whatever the temperature.
    same = jnp.ones((B, D))
    np.testing.assert_allclose(nce(same, same), np.log(B), rtol=1e-6)  # float32 rounding
    # Orthogonal partners: log(1 + (B - 1) exp(-1 / temperature)).
    apart = jnp.eye(B)
    np.testing.assert_allclose(nce(apart, apart), np.log1p((B - 1) * np.exp(-10)), atol=1e-6)


def test_info_nce_is_symmetric_and_blind_to_the_order_and_length_of_rows():
    z1, z2 = map(jnp.float32, views())
    order = np.random.default_rng(0).permutation(B)
    lengths = jnp.float32(np.logspace(-6, 6, B))[:, None]
    # 1e-6: float32 sums in another order.
    np.testing.assert_allclose(nce(z2, z1), nce(z1, z2), rtol=1e-6)
    np.testing.assert_allclose(nce(z1[order], z2[order]), nce(z1, z2), rtol=1e-6)
    np.testing.assert_allclose(nce(z1 * lengths, z2 / lengths), nce(z1, z2), rtol=1e-6)


def test_info_nce_does_not_see_a_shift_of_all_logits():
    # One more coordinate that all rows share moves every cosine alike; with the temperature scaled
    # to match, the logits are those of before plus 9 / (2 * 0.1) = 45.
    z1, z2 = (z / np.linalg.norm(z, axis=1)[:, None] for z in views())
    shared = np.full((B, 1), 3.0)
    with jax.enable_x64(True):
        shifted = info_nce_of(np.c_[z1, shared], np.c_[z2, shared], temperature=0.1 / 10)
        # 1e-10: float64 rounding, 1e-16, times logits of about 100.
        np.testing.assert_allclose(shifted, info_nce_of(z1, z2, temperature=0.1), rtol=1e-10)


@both_losses
def test_gradient_agrees_with_finite_differences(loss):
    z1, z2 = views()
    directions = views(seed=1)
    with jax.enable_x64(True):

        @jax.jit
        def along(t):
            return loss(z1 + t * directions[0], z2 + t * directions[1])

        # 1e-7: step^2 times third derivatives of order 1e3 (temperature 0.1), rounding / step.
        numeric = (along(1e-5) - along(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=1e-7)


@both_losses
@pytest.mark.parametrize("filler", [0.0, 1e30, np.nan, np.inf])
def test_rows_of_weight_zero_are_neither_queries_nor_negatives(loss, filler):
    z1, z2 = (np.float32(z) for z in views())
    weight = np.ones(B, np.int32)
    weight[[2, 9]] = 0
    kept = weight > 0
    f1, f2 = z1.copy(), z2.copy()
    f1[~kept], f2[~kept] = filler, filler
    value, gradients = gradients_of(loss)(f1, f2, weight)
    expected, others = gradients_of(loss)(z1[kept], z2[kept])
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # float32 sums in another order
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient[kept], other, atol=1e-6)
        assert (np.asarray(gradient)[~kept] == 0).all()


@both_losses
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_scales_zero_vectors_and_bfloat16_stay_finite(loss, scale):
    z1, z2 = (np.float32(z) * np.float32(scale) for z in views())
    z1[0], z2[1] = 0, 0
    z1[3], z2[4] = 1e-38, 1e-45  # at the edge of float32 and below
    for dtype in (jnp.float32, jnp.bfloat16):
        value, gradients = gradients_of(loss)(jnp.asarray(z1, dtype), jnp.asarray(z2, dtype))
        assert value.dtype == jnp.float32
        assert np.isfinite(value)
        for gradient, zero in zip(gradients, (0, 1), strict=True):
            assert gradient.dtype == dtype
            assert np.isfinite(np.asarray(gradient, np.float32)).all()
            assert (np.asarray(gradient, np.float32)[zero] == 0).all()


@both_losses
def test_a_batch_of_nothing_costs_nothing(loss):
    z1, z2 = map(jnp.float32, views())
    assert loss(z1, z2, np.zeros(B, bool)) == 0


def test_temperature_and_bias_can_be_learned():
    z1, z2 = map(jnp.float32, views())

    def both(t, b):
        temperature = jnp.exp(t)
        ours = sigmoid_contrastive(z1, z2, temperature=temperature, bias=b)
        return ours, info_nce(z1, z2, temperature=temperature)

    slopes = jax.jit(jax.jacrev(both, argnums=(0, 1)))(jnp.log(10.0), jnp.float32(-10.0))
    (of_temperature, of_bias), (nce_of_temperature, _) = slopes
    for slope in (of_temperature, of_bias, nce_of_temperature):
        assert np.isfinite(slope)
        assert slope != 0


def test_what_cannot_work_is_refused():
    z1, z2 = map(jnp.float32, views())
    with pytest.raises(ValueError, match="must be equal"):
        nce(z1, z2[:, :3])
    with pytest.raises(ValueError, match="must be equal"):
        sigmoid(z1, z2[:4])
    with pytest.raises(ValueError, match="flatten or pool"):
        nce(z1[0], z2[0])
    with pytest.raises(ValueError, match="temperature=0"):
        info_nce(z1, z2, temperature=0)
    with pytest.raises(ValueError, match="temperature=-1"):
        sigmoid_contrastive(z1, z2, temperature=-1.0, bias=0.0)
