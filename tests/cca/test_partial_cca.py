"""Partial CCA: linear CCA of residuals, by the Schur complement, with z of any rank."""

import numpy as np
import pytest

from mmjax.cca import LinearCCA, PartialCCA


def views(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, 3))
    common = rng.standard_normal((rows, 2))
    x = z @ np.random.default_rng(1).standard_normal((3, 4)) * 3 + 1
    y = z @ np.random.default_rng(2).standard_normal((3, 3)) * 3 - 1
    x[:, :2] += common
    y[:, :2] += common
    return x + rng.standard_normal((rows, 4)), y + rng.standard_normal((rows, 3)), z + 5


def residuals(x, z):
    z1 = np.c_[np.ones(len(z)), z]
    return x - z1 @ np.linalg.lstsq(z1, x, rcond=1e-12)[0]


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_it_is_linear_cca_of_the_residuals(ridge):
    x, y, z = views()
    expected = LinearCCA(3, ridge).fit(residuals(x, z), residuals(y, z))
    partial = PartialCCA(3, ridge).fit(x, y, z)
    # 1e-10: float64 rounding times condition numbers.
    np.testing.assert_allclose(partial.correlations_, expected.correlations_, atol=1e-10)
    for ours, theirs in zip(partial.weights_, expected.weights_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
    for ours, theirs in zip(
        partial.transform(x, y, z),
        expected.transform(residuals(x, z), residuals(y, z)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
        np.testing.assert_allclose(z.T @ (ours - ours.mean(0)), 0, atol=1e-8)


def test_the_regression_is_that_of_least_squares():
    x, y, z = views()
    partial = PartialCCA(2).fit(x, y, z)
    for view, ours in zip((x, y), partial.regression_, strict=True):
        expected = np.linalg.lstsq(z - z.mean(0), view - view.mean(0))[0]
        np.testing.assert_allclose(ours, expected, atol=1e-12)
    far = PartialCCA(2, 0.0).fit(x * 1e250, y, z * 1e-250)
    np.testing.assert_allclose(far.score(x * 1e250, y, z * 1e-250), far.correlations_.sum())
    with pytest.raises(ValueError, match="overflow: bring the views to similar scales"):
        _ = far.regression_


def test_of_single_columns_it_is_the_partial_correlation():
    x, y, z = (v[:, :1] for v in views())
    r = np.corrcoef(np.c_[x, y, z].T)
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    partial = PartialCCA(1, ridge=0.0).fit(x, y, z)
    np.testing.assert_allclose(partial.correlations_, [abs(expected)], atol=1e-12)


def test_what_z_explains_is_not_counted():
    x, y, z = views(rows=2000)
    linear, partial = LinearCCA(3).fit(x, y), PartialCCA(3).fit(x, y, z)
    assert linear.correlations_.sum() > partial.correlations_.sum() + 0.5
    assert partial.correlations_[2] < 0.1
    held_out = views(rows=2000, seed=5)
    # Variance 1 shared and 1 own in two columns each: 0.5 twice; 0.1: 4 / sqrt(2000).
    np.testing.assert_allclose(partial.correlations(*held_out), [0.5, 0.5, 0], atol=0.1)


@pytest.mark.parametrize("extra", ["constant", "repeat", "sum", "huge", "tiny"])
def test_the_rank_and_the_units_of_z_do_not_matter(extra):
    x, y, z = views()
    wider = {
        "constant": np.c_[np.full(200, 1e5 / 3), z],
        "repeat": np.c_[z[:, :1] * 3, z],
        "sum": np.c_[z.sum(1), z],
        "huge": z * 1e200,
        "tiny": z * [1, 1e-200, 1e-5],
    }[extra]
    ours, plain = PartialCCA(3, 0.0).fit(x, y, wider), PartialCCA(3, 0.0).fit(x, y, z)
    np.testing.assert_allclose(ours.correlations_, plain.correlations_, atol=1e-10)
    np.testing.assert_allclose(ours.score(x, y, wider), plain.score(x, y, z), atol=1e-8)
    if extra == "constant":  # and a constant z takes nothing away
        nothing = PartialCCA(3, 0.0).fit(x, y, wider[:, :1])
        linear = LinearCCA(3, 0.0).fit(x, y)
        np.testing.assert_allclose(nothing.correlations_, linear.correlations_, atol=1e-12)


def test_a_function_of_z_leaves_nothing():
    x, y, z = views()
    mapped = np.random.default_rng(3).standard_normal((3, 4))
    partial = PartialCCA(2, 0.0).fit(z @ mapped + 3, y, z)
    np.testing.assert_array_equal(partial.correlations_, 0)
    np.testing.assert_array_equal(partial.weights_[0], 0)
    # Beside what is left of x, residuals of rounding do not count either.
    beside = PartialCCA(3, 0.0).fit(np.c_[x, z @ mapped], y, z)
    np.testing.assert_allclose(
        beside.correlations_, PartialCCA(3, 0.0).fit(x, y, z).correlations_, atol=1e-10
    )


def test_small_residuals_keep_their_digits():
    rng = np.random.default_rng(0)
    x, y, z = views()
    rest = [rng.standard_normal((200, d)) for d in (2, 2)]
    rest[1] += rest[0]
    # Multiples of 2^-40 below 2^12, so that adding and taking away z is exact.
    z = np.round(z * 2**10) / 2**10
    x, y = (np.round(r * 2**20) / 2**40 + z[:, :2] for r in rest)
    expected = LinearCCA(2, 0.0).fit(*(residuals(np.round(r * 2**20) / 2**20, z) for r in rest))
    partial = PartialCCA(2, 0.0).fit(x, y, z)
    # Residuals of 1e-6 of the views: 1e-16 / 1e-6, and digits in hand. Differences of covariances
    # would have lost 1e-16 / 1e-12 and more.
    np.testing.assert_allclose(partial.correlations_, expected.correlations_, atol=1e-8)


def test_too_few_examples_for_z_are_refused():
    x, y, z = (v[:6] for v in views())
    with pytest.raises(ValueError, match="6 examples cannot give the covariance of 7 columns"):
        PartialCCA(1, 0.0).fit(x, y, z)
