"""The two solvers of DCCA and the squared loss: one value, one gradient, never NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from awkward_views import awkward_view
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.errors import ConfigError
from mmjax.objectives import (
    DCCA,
    SquaredDCCA,
    dcca_loss,
    newton_schulz_error,
    squared_cca_loss,
)
from mmjax.objectives.cca_solvers import FLOOR, ITERATIONS, polar_factor

newton_schulz = functools.partial(dcca_loss, solver="newton_schulz")
LOSSES = [newton_schulz, squared_cca_loss]
NAMES = ["newton_schulz", "squared"]


@functools.cache
def with_gradients(loss):
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), static_argnames="ridge")


polar = jax.jit(polar_factor, static_argnames="iterations")


def views(seed=0, rows=40, d1=6, d2=4):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, d1))
    h1 = common @ rng.standard_normal((d1, d1)) + rng.standard_normal((rows, d1)) + 3
    return h1, common[:, :d2] + rng.standard_normal((rows, d2)) - 1


def covariances(h1, h2, ridge=1e-4):
    both = np.cov(h1.T, h2.T) + ridge * np.eye(h1.shape[1] + h2.shape[1])
    d1 = h1.shape[1]
    return both[:d1, :d1], both[:d1, d1:], both[d1:, d1:]


def matrix_with(values, shape=None, seed=0):
    """A matrix of these singular values, with its polar factor."""
    d1, d2 = shape or (len(values), len(values))
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((d1, len(values))))[0]
    V = np.linalg.qr(rng.standard_normal((d2, len(values))))[0]
    return (U * values) @ V.T, U @ V.T


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (3, 5)])
def test_newton_schulz_is_the_trace_norm(d1, d2):
    h1, h2 = views(d1=max(d1, d2), d2=d2)
    h1 = h1[:, :d1]
    C11, C12, C22 = covariances(h1, h2)
    # Another route than the loss takes: symmetric inverse roots, and no Cholesky factor.
    T = np.linalg.inv(scipy.linalg.sqrtm(C11)) @ C12 @ np.linalg.inv(scipy.linalg.sqrtm(C22))
    expected = -np.linalg.svd(T, compute_uv=False).sum()
    with jax.enable_x64(True):
        exact, exact_gradients = with_gradients(dcca_loss)(h1, h2)
        loss, gradients = with_gradients(newton_schulz)(h1, h2)
        # 1e-9: the last iteration leaves 2e-11 of each correlation, the whitening less.
        np.testing.assert_allclose(loss, expected, rtol=1e-9)
        np.testing.assert_allclose(loss, exact, rtol=1e-9)
        for gradient, other in zip(gradients, exact_gradients, strict=True):
            np.testing.assert_allclose(gradient, other, atol=1e-9)
    single, _ = with_gradients(newton_schulz)(np.float32(h1), np.float32(h2))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, atol=1e-4)  # float32 times condition numbers


def test_squared_is_the_trace_of_the_regressions():
    h1, h2 = views()
    C11, C12, C22 = covariances(h1, h2)
    expected = -np.trace(np.linalg.solve(C11, C12) @ np.linalg.solve(C22, C12.T))
    with jax.enable_x64(True):
        loss, gradients = with_gradients(squared_cca_loss)(h1, h2)
        np.testing.assert_allclose(loss, expected, rtol=1e-10)  # condition numbers up to 1e3

        def plain(a, b):
            both = jnp.cov(a.T, b.T) + 1e-4 * jnp.eye(10)
            across = both[:6, 6:]
            first = jnp.linalg.solve(both[:6, :6], across)
            return -jnp.trace(first @ jnp.linalg.solve(both[6:, 6:], across.T))

        automatic = jax.jit(jax.grad(plain, argnums=(0, 1)))(h1, h2)
        for gradient, other in zip(gradients, automatic, strict=True):
            np.testing.assert_allclose(gradient, other, atol=1e-10)


def test_squared_is_not_dcca_but_less_where_correlations_are_weak():
    # One column each: the correlation is Pearson's r, and the losses are -|r| and -r^2.
    h1, h2 = views(d1=1, d2=1)
    r = np.corrcoef(h1[:, 0], h2[:, 0])[0, 1]
    with jax.enable_x64(True):
        for loss, expected in ((newton_schulz, -abs(r)), (squared_cca_loss, -r * r)):
            found = with_gradients(loss)(h1, h2, ridge=0.0)[0]
            np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_gradients_agree_with_finite_differences(loss):
    h1, h2 = views(rows=14, d1=4, d2=3)
    h1[0, 0] = 12.0  # above 1, so that the scaling takes part
    weight = np.random.default_rng(2).uniform(0, 2, 14)
    with jax.enable_x64(True):
        weighted = functools.partial(with_gradients(loss), ridge=0.01, weight=weight)
        gradients = weighted(h1, h2)[1]
        rng = np.random.default_rng(3)
        for _ in range(12):
            along = rng.standard_normal(h1.shape), rng.standard_normal(h2.shape)
            ends = [weighted(h1 + t * along[0], h2 + t * along[1])[0] for t in (1e-5, -1e-5)]
            promised = sum(float(jnp.vdot(g, a)) for g, a in zip(gradients, along, strict=True))
            # 1e-7: step^2 times a third derivative of order 1000, and 1e-15 / step of rounding.
            np.testing.assert_allclose(promised, (ends[0] - ends[1]) / 2e-5, atol=1e-7)


@pytest.mark.parametrize("iterations", [3, 7, ITERATIONS])
@pytest.mark.parametrize("smallest", [0.0, 1e-4, 1e-3, 0.01, 0.3, 1.0])
def test_what_an_iteration_misses_is_within_the_stated_bound(iterations, smallest):
    width = 48
    # As many as possible at the smallest, where the bound is nearest, and two at the ends.
    for middle in (smallest, FLOOR / 2, FLOOR, 0.05):
        values = np.r_[smallest, np.full(width - 2, max(middle, smallest)), 1.0]
        T, _ = matrix_with(values)
        bound = newton_schulz_error(smallest, width=width, iterations=iterations)
        with jax.enable_x64(True):
            Q = polar(T, iterations=iterations)
            missed = values.sum() - float(jnp.sum(T * Q))
        assert -1e-12 <= missed <= width * bound + 1e-12
        in_float32 = float(jnp.sum(np.float32(T) * polar(np.float32(T), iterations=iterations)))
        # 1e-6 of the sum: float32 rounding.
        assert -1e-6 * width <= values.sum() - in_float32 <= width * (bound + 1e-6)


def test_the_bound_is_no_wild_guess():
    assert newton_schulz_error(0.0, width=512) < 4e-4
    assert newton_schulz_error(0.01, width=512) < 1e-10
    for width in (1, 48, 512):
        falling = [newton_schulz_error(rho, width=width) for rho in (0.0, 1e-4, 2e-4, 1e-3, 0.01)]
        assert falling == sorted(falling, reverse=True)
    errors = [newton_schulz_error(0.3, width=48, iterations=n) for n in range(1, 12)]
    assert errors == sorted(errors, reverse=True)
    # More than half of the bound is really lost at the worst correlation.
    lost = []
    for value in np.geomspace(1e-5, 1e-3, 12):
        values = np.r_[np.ones(24), np.full(24, value)]
        T, _ = matrix_with(values)
        with jax.enable_x64(True):
            lost.append((values.sum() - float(jnp.sum(T * polar(T)))) / 24)
    assert max(lost) > newton_schulz_error(0.0, width=48) / 2


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_the_polar_factor_has_no_scale(shape, scale):
    T, expected = matrix_with(np.array([1.0, 0.7, 0.02, 0.02]), shape)
    # 1e-4: some units of float32 rounding, over the 0.02.
    np.testing.assert_allclose(polar(np.float32(T * scale)), expected, atol=1e-4)


def test_the_polar_factor_of_nothing_is_nothing():
    assert (polar(np.zeros((5, 3), np.float32)) == 0).all()


def test_hundreds_of_correlations_stay_accurate_in_float32():
    T, expected = matrix_with(np.linspace(0.01, 1, 200))
    Q = polar(np.float32(T))
    np.testing.assert_allclose(jnp.sum(T * Q), np.linspace(0.01, 1, 200).sum(), rtol=1e-6)
    np.testing.assert_allclose(Q, expected, atol=1e-4)  # float32 rounding, over the 0.01


B, D1, D2 = 12, 5, 4
POWERS = (-30, -6, -1, 0, 3, 6, 25)


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    awkward_view(B, D1, POWERS),
    awkward_view(B, D2, POWERS),
    st.sampled_from([jnp.float32, jnp.bfloat16]),
    st.sampled_from([0.0, 1e-4]),
)
def test_any_finite_views_give_finite_results(loss, h1, h2, dtype, ridge):
    h1, h2 = jnp.asarray(h1, dtype), jnp.asarray(h2, dtype)
    value, gradients = with_gradients(loss)(h1, h2, ridge=ridge)
    assert value.dtype == jnp.float32
    assert -D2 <= value <= 0
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert np.isfinite(np.asarray(gradient, np.float32)).all()
    exact, _ = with_gradients(dcca_loss)(h1, h2, ridge=ridge)
    if loss is newton_schulz:
        # The bound, and 1e-4 of rounding; a repeated column without a ridge is the worst of it.
        assert abs(value - exact) <= D2 * newton_schulz_error(0.0, width=D2) + 1e-4
    else:
        assert value >= exact - 1e-4  # no square is above its correlation


@pytest.mark.parametrize("loss", LOSSES, ids=NAMES)
def test_rows_of_weight_zero_are_not_there(loss):
    h1, h2 = (np.float32(h) for h in views())
    kept = np.arange(40) % 13 != 3
    filled = [np.where(kept[:, None], h, np.float32(np.nan)) for h in (h1, h2)]
    got, gradients = with_gradients(loss)(*filled, weight=np.float32(kept))
    expected, others = with_gradients(loss)(h1[kept], h2[kept])
    np.testing.assert_allclose(got, expected, rtol=1e-5)  # the same float32 sums in another order
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient[kept], other, atol=1e-5)
        assert (np.asarray(gradient)[~kept] == 0).all()
    nothing, gradients = with_gradients(loss)(h1, h2, weight=np.zeros(40, np.float32))
    assert nothing == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_bfloat16_views_are_computed_in_float32():
    halves = [jnp.asarray(h, jnp.bfloat16) for h in views()]
    wholes = [h.astype(jnp.float32) for h in halves]
    for loss in LOSSES:
        value, gradients = with_gradients(loss)(*halves)
        expected, others = with_gradients(loss)(*wholes)
        assert value == expected
        for gradient, other in zip(gradients, others, strict=True):
            assert (gradient == other.astype(jnp.bfloat16)).all()


VIEWS = ("image", "audio")


def test_what_cannot_work_is_refused():
    h1, h2 = (jnp.float32(h) for h in views())
    with pytest.raises(ConfigError, match=r"cannot tell the k=2 largest: leave out k"):
        newton_schulz(h1, h2, k=2)
    with pytest.raises(ConfigError, match="cannot tell the k=2 largest"):
        DCCA(views=VIEWS, k=2, solver="newton_schulz")
    with pytest.raises(ConfigError, match="ridge"):
        SquaredDCCA(views=VIEWS, ridge=-1.0)
    with pytest.raises(ConfigError, match="one view twice"):
        SquaredDCCA(views=("image", "image"))
    for loss in LOSSES:
        with pytest.raises(ConfigError, match="9 and 8 rows"):
            loss(jnp.zeros((9, 3)), jnp.zeros((8, 3)))
        with pytest.raises(ConfigError, match=r"8 examples .* use batch_size >= 51"):
            loss(jnp.zeros((8, 50)), jnp.zeros((8, 20)))
