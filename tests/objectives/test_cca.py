"""The CCA loss: values and gradients against independent routes, and no NaN anywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from awkward_views import awkward_view
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.objectives import canonical_correlations, dcca_loss

RIDGE = 1e-4


def reference(h1, h2, ridge=RIDGE, weight=None):
    """The correlations as eigenvalues of the joint pencil, float64: no whitening, no SVD."""
    h1, h2 = np.asarray(h1, np.float64), np.asarray(h2, np.float64)
    weight = np.ones(len(h1)) if weight is None else np.asarray(weight, np.float64)
    x1 = h1 - (weight[:, None] * h1).sum(0) / weight.sum()
    x2 = h2 - (weight[:, None] * h2).sum(0) / weight.sum()
    degrees = max(weight.sum() - 1, 1)
    C11, C12, C22 = (
        a.T @ (weight[:, None] * b) / degrees for a, b in ((x1, x1), (x1, x2), (x2, x2))
    )
    d1, d2 = len(C11), len(C22)
    across = np.block([[np.zeros((d1, d1)), C12], [C12.T, np.zeros((d2, d2))]])
    within = scipy.linalg.block_diag(C11 + ridge * np.eye(d1), C22 + ridge * np.eye(d2))
    return scipy.linalg.eigh(across, within, eigvals_only=True)[::-1][: min(d1, d2)]


def views(seed=0, rows=40, d1=6, d2=4, shared=1.0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, d1))
    h1 = common @ rng.standard_normal((d1, d1)) + rng.standard_normal((rows, d1)) + 3
    h2 = shared * common[:, :d2] + rng.standard_normal((rows, d2)) - 1
    return h1, h2


def views_with_correlations(rho, rows=64, dtype=np.float64):
    """Two views whose sample covariances are exactly I and whose correlations are exactly rho."""
    k = len(rho)
    raw = np.random.default_rng(1).standard_normal((rows, 2 * k))
    basis = np.linalg.qr(raw - raw.mean(0))[0] * np.sqrt(rows - 1)
    x, noise = basis[:, :k], basis[:, k:]
    return x.astype(dtype), (x * rho + noise * np.sqrt(1 - np.square(rho))).astype(dtype)


def single(*arguments, **options):
    return [h.astype(np.float32) for h in views(*arguments, **options)]


correlations = jax.jit(canonical_correlations, static_argnames="ridge")
value = jax.jit(dcca_loss, static_argnames="k")
value_and_gradients = jax.jit(
    jax.value_and_grad(dcca_loss, argnums=(0, 1)), static_argnames=("ridge", "k")
)


@pytest.mark.parametrize(("d1", "d2"), [(6, 4), (3, 7), (5, 5), (1, 1)])
def test_values_agree_with_a_generalised_eigenproblem(d1, d2):
    h1, h2 = views(d1=max(d1, d2), d2=d2)
    h1 = h1[:, :d1]
    expected = reference(h1, h2)
    with jax.enable_x64(True):
        # 1e-10: both routes solve in float64, with condition numbers up to 1e3.
        np.testing.assert_allclose(correlations(h1, h2), expected, atol=1e-10)
        np.testing.assert_allclose(value(h1, h2), -expected.sum(), rtol=1e-10)
    # 1e-4: float32 rounding, 6e-8, times the condition number.
    got = correlations(jnp.float32(h1), jnp.float32(h2))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_top_k_sums_the_largest():
    h1, h2 = views()
    expected = reference(h1, h2)
    with jax.enable_x64(True):
        for k in (1, 2, 4):
            np.testing.assert_allclose(value(h1, h2, k=k), -expected[:k].sum(), rtol=1e-10)


@pytest.mark.parametrize(
    ("ridge", "k", "weighted"),
    [(0.0, None, False), (1e-4, None, True), (1e-4, 2, False), (0.5, 2, True)],
)
def test_gradient_agrees_with_finite_differences(ridge, k, weighted):
    h1, h2 = views(rows=14, d1=4, d2=3)
    h1[0, 0] = 12.0  # above 1, so that the scaling takes part
    weight = np.random.default_rng(2).uniform(0, 2, 14) if weighted else np.ones(14)
    with jax.enable_x64(True):
        run = functools.partial(value_and_gradients, ridge=ridge, k=k, weight=weight)
        gradients, step = run(h1, h2)[1], 1e-5
        for which, view in enumerate((h1, h2)):
            numeric = np.zeros_like(view)
            for index in np.ndindex(view.shape):
                ends = []
                for sign in (1, -1):
                    moved = [h1.copy(), h2.copy()]
                    moved[which][index] += sign * step
                    ends.append(float(run(*moved)[0]))
                numeric[index] = (ends[0] - ends[1]) / (2 * step)
            # 1e-8: step^2 times a third derivative of order 100, and 1e-15 / step of rounding.
            np.testing.assert_allclose(gradients[which], numeric, atol=1e-8)


def test_gradient_of_one_correlation_agrees_with_finite_differences():
    h1, h2 = views(rows=12, d1=3, d2=3)
    direction = np.random.default_rng(3).standard_normal(h1.shape)
    with jax.enable_x64(True):

        @jax.jit
        @jax.value_and_grad
        def along(t, chosen):
            return chosen @ canonical_correlations(h1 + t * direction, h2)

        for chosen in np.eye(3):
            numeric = (along(1e-5, chosen)[0] - along(-1e-5, chosen)[0]) / 2e-5
            # 1e-8, as above
            np.testing.assert_allclose(along(0.0, chosen)[1], numeric, atol=1e-8)


@pytest.mark.parametrize(
    "rho",
    [
        [0.5, 0.5, 0.5, 0.5],  # repeated
        [0.9, 0.3, 0.0, 0.0],  # zero, twice
        [0.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 0.4, 0.0],
        [1.0, 1.0, 1.0, 1.0],
    ],
)
def test_repeated_zero_and_perfect_correlations(rho):
    h1, h2 = views_with_correlations(np.array(rho), dtype=np.float32)
    loss, gradients = value_and_gradients(h1, h2)
    # With unit variances the ridge divides each correlation by 1 + ridge; 1e-5 is float32 rounding.
    np.testing.assert_allclose(loss, -sum(rho) / (1 + RIDGE), atol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # -sum of correlations is minus a convex function of T, and the gradient minus a subgradient of
    # that: so against it the loss falls at least about as far as promised.
    promised = 1e-3 * sum(float(jnp.sum(jnp.square(g))) for g in gradients)
    moved = value(h1 - 1e-3 * gradients[0], h2 - 1e-3 * gradients[1])
    # Half: T is not linear in the views. 1e-5: float32 rounding.
    assert moved <= loss - promised / 2 + 1e-5


@pytest.mark.parametrize("scale1", [1e-6, 1e-3, 1.0, 1e6, 1e18])
@pytest.mark.parametrize("scale2", [1e-6, 1.0, 1e30])
def test_without_a_ridge_scale_does_not_matter(scale1, scale2):
    h1, h2 = single()
    scale1, scale2 = np.float32(scale1), np.float32(scale2)
    loss, gradients = value_and_gradients(h1, h2, ridge=0.0)
    scaled_loss, scaled = value_and_gradients(h1 * scale1, h2 * scale2, ridge=0.0)
    # 1e-4, as for the values above; the gradient of h times c is the gradient of h over c.
    np.testing.assert_allclose(scaled_loss, loss, rtol=1e-4)
    for gradient, expected, scale in zip(scaled, gradients, (scale1, scale2), strict=True):
        np.testing.assert_allclose(gradient * scale, expected, atol=1e-3 * np.abs(expected).max())


def test_columns_of_very_different_scale():
    h1, h2 = views()
    factors = np.logspace(-6, 6, 6)
    expected = reference(h1, h2, ridge=0)
    got = correlations(np.float32(h1 * factors), np.float32(h2), ridge=0.0)
    np.testing.assert_allclose(got, expected, atol=1e-4)  # as for the values above


B, D1, D2 = 12, 5, 4


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    awkward_view(B, D1),
    awkward_view(B, D2),
    st.sampled_from([jnp.float32, jnp.bfloat16]),
    st.sampled_from([0.0, 1e-4]),
    st.sampled_from([None, 2]),
)
def test_any_finite_views_give_finite_results(h1, h2, dtype, ridge, k):
    loss, gradients = value_and_gradients(
        jnp.asarray(h1, dtype), jnp.asarray(h2, dtype), ridge=ridge, k=k
    )
    assert loss.dtype == jnp.float32
    assert -(k or D2) - 1e-6 <= loss <= 0
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert np.isfinite(np.asarray(gradient, np.float32)).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(awkward_view(B, D1), awkward_view(B, D2))
def test_awkward_views_in_float64_agree_with_the_reference(h1, h2):
    # Scaled to at most 1, so that the ridge is far above rounding and the reference can be trusted.
    h1, h2 = h1 / np.abs(h1).max(), h2 / np.abs(h2).max()
    with jax.enable_x64(True):
        # 1e-8: float64 rounding over the ridge, 1e-16 / 1e-4, and a few digits in hand.
        np.testing.assert_allclose(correlations(h1, h2), reference(h1, h2), rtol=0, atol=1e-8)


@pytest.mark.parametrize("rows", [6, 7])
@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_as_few_rows_as_dimensions(rows, ridge):
    h1, h2 = single(rows=rows, d1=6, d2=6)
    loss, gradients = value_and_gradients(h1, h2, ridge=ridge)
    # Both views span the rows - 1 dimensions that centring leaves: all those correlations are 1.
    # 0.05: the ridge against the smallest variance.
    if ridge > 0:
        np.testing.assert_allclose(loss, -(rows - 1), atol=0.05)
    for gradient in gradients:
        assert np.isfinite(gradient).all()


@pytest.mark.slow
def test_hundreds_of_repeated_columns_without_a_ridge():
    width = 512
    z = np.random.default_rng(0).standard_normal((600, 1))
    h1 = np.float32(z * np.random.default_rng(1).standard_normal((1, width)))
    h2 = np.float32(np.repeat(z, width, axis=1))
    loss, gradients = value_and_gradients(h1, h2, ridge=0.0)
    assert np.isfinite(loss)
    assert loss <= -0.99  # the one direction that there is
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_constant_views_are_uncorrelated(ridge):
    # The mean of 1500 such numbers is inexact: what it leaves must not pass for correlation.
    h1 = np.full((1500, 3), 0.1, np.float32) * np.float32([1, 7, 1e6 / 3])
    h2 = np.full((1500, 2), 1 / 3, np.float32)
    loss, gradients = value_and_gradients(h1, h2, ridge=ridge)
    assert abs(loss) < 1e-3
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_constant_column_changes_nothing_but_its_own_ridge():
    h1, h2 = views()
    widened = np.concatenate([h1, np.full((40, 1), 7.3)], axis=1)
    with jax.enable_x64(True):
        np.testing.assert_allclose(correlations(widened, h2), correlations(h1, h2), atol=1e-12)


@pytest.mark.parametrize("filler", [0.0, 1e30, np.nan, np.inf])
def test_rows_of_weight_zero_are_not_there(filler):
    h1, h2 = single()
    weight = np.ones(40, np.float32)
    weight[[3, 17, 39]] = 0
    kept = weight > 0
    filled1, filled2 = h1.copy(), h2.copy()
    filled1[~kept], filled2[~kept] = filler, filler
    loss, gradients = value_and_gradients(filled1, filled2, weight=weight)
    expected, expected_gradients = value_and_gradients(h1[kept], h2[kept])
    # 1e-5: the same float32 sums in another order.
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient[kept], other, atol=1e-5)
        assert (np.asarray(gradient)[~kept] == 0).all()


def test_weights_agree_with_the_reference_and_get_no_gradient():
    h1, h2 = views()
    weight = np.random.default_rng(5).uniform(0, 3, 40)
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            correlations(h1, h2, weight=weight),
            reference(h1, h2, weight=weight),
            atol=1e-10,  # as for the values above
        )
        gradient = jax.jit(jax.grad(lambda w: dcca_loss(h1, h2, weight=w)))(jnp.asarray(weight))
        assert (gradient == 0).all()


def test_a_batch_of_nothing_costs_nothing():
    h1, h2 = single()
    loss, gradients = value_and_gradients(h1, h2, weight=np.zeros(40, bool))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_bfloat16_model_trains_like_its_float32_twin():
    h1, h2 = views(rows=64)

    def loss(parameters, dtype):
        outputs = [
            jnp.asarray(h, dtype) @ jnp.asarray(w, dtype)
            for h, w in zip((h1, h2), parameters, strict=True)
        ]
        return dcca_loss(*outputs, k=2)

    rng = np.random.default_rng(0)
    parameters = [jnp.float32(rng.standard_normal((n, 3))) for n in (6, 4)]
    half = jax.jit(jax.grad(lambda p: loss(p, jnp.bfloat16)))(parameters)
    full = jax.jit(jax.grad(lambda p: loss(p, jnp.float32)))(parameters)
    for a, b in zip(half, full, strict=True):
        assert a.dtype == jnp.float32
        # 5 %: bfloat16 keeps 8 bits, and inputs, outputs and their gradients are rounded to it.
        np.testing.assert_allclose(a, b, atol=0.05 * np.abs(b).max())


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.grad], ids=["eager", "jit", "grad"])
@pytest.mark.parametrize(
    ("h1", "h2", "options", "sentence"),
    [
        (
            zeros(8, 50),
            zeros(8, 20),
            {},
            "a batch of 8 examples .* 50 dimensions: use batch_size >= 51",
        ),
        (zeros(1, 1), zeros(1, 1), {}, "a batch of 1 examples"),
        (zeros(9, 3), zeros(8, 3), {}, "9 and 8 rows"),
        (zeros(9), zeros(9), {}, "shape"),
        (zeros(9, 3, 1), zeros(9, 3), {}, "flatten"),
        (zeros(9, 0), zeros(9, 3), {}, "at least one dimension"),
        (zeros(9, 3), zeros(9, 4), {"k": 4}, "choose k from 1 to 3"),
        (zeros(9, 3), zeros(9, 4), {"k": 0}, "choose k from 1 to 3"),
        (zeros(9, 3), zeros(9, 4), {"ridge": -1.0}, "ridge"),
        (zeros(9, 3), zeros(9, 4), {"ridge": float("nan")}, "ridge"),
        (zeros(9, 3), zeros(9, 4), {"weight": zeros(8)}, "one weight a row"),
    ],
)
def test_what_cannot_work_is_refused(wrap, h1, h2, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrap(lambda a, b: dcca_loss(a, b, **options))(h1, h2)
