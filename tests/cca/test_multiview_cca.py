"""MCCA and GCCA: generalised eigenproblems, two views as in linear CCA, the shared variable."""

import numpy as np
import pytest
import scipy.linalg

from mmjax.cca import GCCA, MCCA, LinearCCA

BOTH = pytest.mark.parametrize("kind", [MCCA, GCCA])
WIDTHS = (5, 4, 3)


def views(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, 5))
    mixed = np.random.default_rng(8).standard_normal((5, 5))
    return [common[:, :d] @ mixed[:d, :d] + rng.standard_normal((rows, d)) + d for d in WIDTHS]


def blocks(whole):
    C = np.cov(np.concatenate(whole, axis=1).T)
    ends = np.cumsum([0, *WIDTHS])
    return C, [slice(*ends[i : i + 2]) for i in range(3)]


def assert_parallel(ours, theirs):
    cosines = (ours * theirs).sum(0) / np.linalg.norm(ours, axis=0)
    # 1e-8: float64 rounding, 1e-16, times condition numbers of up to 1e4, and digits in hand.
    np.testing.assert_allclose(np.abs(cosines / np.linalg.norm(theirs, axis=0)), 1, atol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_mcca_solves_its_generalised_eigenproblem(ridge):
    whole = views()
    C, parts = blocks(whole)
    within = scipy.linalg.block_diag(*(C[p, p] + ridge * np.eye(p.stop - p.start) for p in parts))
    between = C - scipy.linalg.block_diag(*(C[p, p] for p in parts))
    values, vectors = scipy.linalg.eigh(between, within)
    mcca = MCCA(3, ridge).fit(*whole)
    np.testing.assert_allclose(mcca.eigenvalues_, values[::-1][:3], atol=1e-10)
    for ours, part in zip(mcca.weights_, parts, strict=True):
        assert_parallel(ours, vectors[part, ::-1][:, :3])


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_gcca_is_the_maxvar_of_projections_over_examples(ridge):
    whole = views()
    X = [v - v.mean(0) for v in whole]
    hats = [x @ np.linalg.solve(x.T @ x + 149 * ridge * np.eye(x.shape[1]), x.T) for x in X]
    values, G = scipy.linalg.eigh(sum(hats))
    G = G[:, ::-1][:, :3]
    gcca = GCCA(3, ridge).fit(*whole)
    np.testing.assert_allclose(gcca.eigenvalues_, values[::-1][:3], atol=1e-10)
    for ours, x in zip(gcca.weights_, X, strict=True):
        assert_parallel(ours, np.linalg.solve(x.T @ x + 149 * ridge * np.eye(len(ours)), x.T @ G))
    shared = gcca.shared(*whole)
    np.testing.assert_allclose(np.cov(shared.T), np.eye(3), atol=1e-10)
    assert_parallel(shared, G)
    projected = sum(gcca.transform(*whole))
    assert ((shared * projected).sum(0) > 0).all()


@BOTH
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_two_views_are_those_of_linear_cca(kind, ridge):
    x, y, _ = views()
    linear, ours = LinearCCA(4, ridge).fit(x, y), kind(4, ridge).fit(x, y)
    if kind is MCCA or ridge == 0:  # 1e-10: rounding times condition numbers
        np.testing.assert_allclose(ours.correlations_, linear.correlations_, atol=1e-10)
        for a, b in zip(ours.weights_, linear.weights_, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)
    if ridge == 0:
        expected = linear.correlations_ + (kind is GCCA)
        np.testing.assert_allclose(ours.eigenvalues_, expected, atol=1e-10)
    if kind is GCCA and ridge > 0:  # another ridged problem, near it
        np.testing.assert_allclose(ours.correlations_, linear.correlations_, atol=1e-3)


@pytest.mark.parametrize("kind", [LinearCCA, MCCA, GCCA])
@pytest.mark.parametrize("rho", [[1, 1, 0.4, 0], [1, 1, 1, 1], [0.5, 0.5, 0.5, 0], [0, 0, 0, 0]])
def test_repeated_zero_and_perfect_correlations(kind, rho):
    raw = np.random.default_rng(1).standard_normal((64, 8))
    basis = np.linalg.qr(raw - raw.mean(0))[0]
    x, noise = basis[:, :4], basis[:, 4:]
    y = x * rho + noise * np.sqrt(1 - np.square(rho))
    # 1e-14: rounding. No correlation of 1 comes out above it: the clip takes rounding only.
    np.testing.assert_allclose(kind(4, 0.0).fit(x, y).correlations_, rho, atol=1e-14)


def test_without_a_ridge_both_find_the_same_directions():
    mcca, gcca = MCCA(3, 0.0).fit(*views()), GCCA(3, 0.0).fit(*views())
    np.testing.assert_allclose(gcca.eigenvalues_, mcca.eigenvalues_ + 1, atol=1e-10)
    for a, b in zip(mcca.weights_, gcca.weights_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


@BOTH
def test_a_variable_that_all_views_hold_is_found(kind):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 1))
    whole = [np.c_[rng.standard_normal((400, d)), z] @ rng.standard_normal((d + 1, d + 1))
             for d in (2, 3, 4, 5)]  # fmt: skip
    estimator = kind(2, 0.0).fit(*whole)
    # 1e-10: rounding times condition numbers.
    assert estimator.correlations_[0] == pytest.approx(1, abs=1e-10)
    assert estimator.eigenvalues_[0] == pytest.approx(4 if kind is GCCA else 3, abs=1e-10)
    assert estimator.correlations_[1] < 0.3
    for projection in estimator.transform(*whole):
        assert abs(np.corrcoef(projection[:, 0], z[:, 0])[0, 1]) == pytest.approx(1, abs=1e-10)


@BOTH
def test_directions_in_which_views_are_opposed_are_not_taken(kind):
    x, y, _ = views()
    # One direction each: the second of the eigenproblem is minus the first.
    one = [x[:, :1] * [1, 2, 0], y[:, :1] * [1, 0, 3]]
    estimator = kind(2, 0.0).fit(*one)
    expected = abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1])
    np.testing.assert_allclose(estimator.correlations_, [expected, 0], atol=1e-10)
    for weights in estimator.weights_:
        np.testing.assert_array_equal(weights[:, 1], 0)
    # A constant view has no part in it.
    whole = kind(2, 0.0).fit(x, y, np.full((150, 2), 7.3))
    np.testing.assert_array_equal(whole.weights_[2], 0)
    assert whole.correlations_[0] == pytest.approx(kind(2, 0.0).fit(x, y).correlations_[0] / 3)
