"""Linear CCA on the host: against a generalised eigenproblem, on any rank, on held-out data."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmjax.cca import LinearCCA


def views(rows=200, d1=6, d2=4, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, d1))
    x = common @ np.random.default_rng(8).standard_normal((d1, d1)) + 3
    y = common[:, :d2] + rng.standard_normal((rows, d2)) - 1
    return x, y


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_directions_solve_the_generalised_eigenproblem(ridge):
    x, y = views()
    C = np.cov(x.T, y.T)
    Cxx, Cxy, Cyy = C[:6, :6], C[:6, 6:], C[6:, 6:]
    across = Cxy @ np.linalg.solve(Cyy + ridge * np.eye(4), Cxy.T)
    _, vectors = scipy.linalg.eigh(across, Cxx + ridge * np.eye(6))
    a = vectors[:, ::-1][:, :3]
    b = np.linalg.solve(Cyy + ridge * np.eye(4), Cxy.T @ a)
    expected = [np.corrcoef(x @ a[:, i], y @ b[:, i])[0, 1] for i in range(3)]

    cca = LinearCCA(3, ridge).fit(x, y)
    # 1e-8: float64 rounding, 1e-16, times condition numbers of up to 1e4, and some digits in hand.
    np.testing.assert_allclose(cca.correlations_, expected, atol=1e-8)
    for ours, theirs in zip(cca.weights_, (a, b), strict=True):
        cosines = (ours * theirs).sum(0) / np.linalg.norm(ours, axis=0)
        np.testing.assert_allclose(np.abs(cosines / np.linalg.norm(theirs, axis=0)), 1, atol=1e-8)


def exact_correlations(x, y):
    """In rational numbers up to an eigenproblem as small and as good as y."""

    def centred(view):
        rows = [[Fraction(float(entry)) for entry in row] for row in view]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        return np.array([[e - m for e, m in zip(row, means, strict=True)] for row in rows])

    X, Y = centred(x), centred(y)
    Cxx, Cxy, solved = X.T @ X, X.T @ Y, X.T @ Y
    for i in range(len(Cxx)):  # Gauss and Jordan; no pivots, as nothing is rounded
        solved[i], Cxx[i] = solved[i] / Cxx[i, i], Cxx[i] / Cxx[i, i]
        for j in range(len(Cxx)):
            if j != i:
                solved[j], Cxx[j] = solved[j] - Cxx[j, i] * solved[i], Cxx[j] - Cxx[j, i] * Cxx[i]
    across, within = np.float64(Cxy.T @ solved), np.float64(Y.T @ Y)
    return np.sqrt(scipy.linalg.eigh(across, within, eigvals_only=True)[::-1])


# The relative rounding of a float64 entry, 1e-16, moves a correlation by up to itself times the
# condition number, of the view and not of its covariance; ten times that, and never above 1e-8.
@pytest.mark.parametrize("condition", [1e0, 1e4, 1e6, 1e8])
def test_ill_conditioned_views_agree_with_exact_arithmetic(condition):
    rng = np.random.default_rng(3)
    common = rng.standard_normal((25, 4))
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    x = (common * np.geomspace(1, 1 / condition, 4)) @ rotation + 1
    y = common[:, :3] + rng.standard_normal((25, 3)) + 2
    got = LinearCCA(3, ridge=0.0).fit(x, y).correlations_
    tolerance = min(max(1e-14, 1e-15 * condition), 1e-8) * 10
    np.testing.assert_allclose(got, exact_correlations(x, y), atol=min(tolerance, 1e-8))
    halves = LinearCCA(3, ridge=0.0).fit_stream([(x[:9], y[:9]), (x[9:], y[9:])])
    np.testing.assert_allclose(halves.correlations_, got, atol=min(tolerance, 1e-8))


def test_scipy_and_scikit_learn_agree():
    x, y = views()
    cca = LinearCCA(3, ridge=0.0).fit(x, y)
    angles = scipy.linalg.subspace_angles(x - x.mean(0), y - y.mean(0))
    np.testing.assert_allclose(cca.correlations_, np.cos(angles)[::-1][:3], atol=1e-12)
    theirs = CCA(n_components=3, tol=1e-14, max_iter=10_000).fit(x, y).transform(x, y)
    for i in range(3):
        # 1e-8: where its iteration stops.
        expected = np.corrcoef(theirs[0][:, i], theirs[1][:, i])[0, 1]
        assert cca.correlations_[i] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("spread", [1.0, 1e6])
def test_fewer_examples_than_columns_with_a_ridge(spread):
    # Both ways of the ridge: that for alike columns, and the other.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((15, 30)) * np.geomspace(1, spread, 30)
    y = x[:, :20] + rng.standard_normal((15, 20)) * np.geomspace(1, spread, 30)[:20]
    C = np.cov(x.T, y.T)
    Cxx, Cxy, Cyy = C[:30, :30] + 0.1 * np.eye(30), C[:30, 30:], C[30:, 30:] + 0.1 * np.eye(20)
    across = Cxy @ np.linalg.solve(Cyy, Cxy.T)
    _, vectors = scipy.linalg.eigh(across, Cxx)
    a = vectors[:, ::-1][:, :2]
    b = np.linalg.solve(Cyy, Cxy.T @ a)
    expected = [np.corrcoef(x @ a[:, i], y @ b[:, i])[0, 1] for i in range(2)]
    # 1e-8, but 1e-3 of the reference, whose covariances have a condition number of 1e13.
    cca = LinearCCA(2, ridge=0.1).fit(x, y)
    np.testing.assert_allclose(cca.correlations_, expected, atol=1e-8 if spread == 1 else 1e-3)


def test_projections_have_variance_one_and_are_uncorrelated():
    x, y = views()
    cca = LinearCCA(4, ridge=0).fit(x, y)
    zx, zy = cca.transform(x, y)
    # 1e-10: float64 rounding times the condition number.
    np.testing.assert_allclose(np.cov(zx.T), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(np.cov(zy.T), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(zx.T @ zy / 199, np.diag(cca.correlations_), atol=1e-10)
    assert (np.diff(cca.correlations_) <= 0).all()
    zx, zy = LinearCCA(4, ridge=10.0).fit(x, y).transform(x, y)
    np.testing.assert_allclose(zx.std(0, ddof=1), 1, atol=1e-10)
    np.testing.assert_allclose(zy.std(0, ddof=1), 1, atol=1e-10)


def test_the_score_of_other_data_is_that_of_the_fitted_directions():
    cca = LinearCCA(4).fit(*views())
    x, y = views(seed=1)
    zx, zy = cca.transform(x, y)
    expected = [np.corrcoef(zx[:, i], zy[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(cca.correlations(x, y), expected, atol=1e-12)
    assert cca.score(x, y) == pytest.approx(sum(expected))
    assert cca.score(x, y) < LinearCCA(4).fit(x, y).score(x, y)


def test_independent_views_correlate_only_where_they_were_fitted():
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal((60, 20)) for _ in range(4)]
    cca = LinearCCA(20, ridge=0).fit(noise[0], noise[1])
    assert cca.score(noise[0], noise[1]) > 8
    # 4 standard deviations, 1 / sqrt(60) each, of a sum of 20 correlations around zero.
    assert abs(cca.score(noise[2], noise[3])) < 4 * np.sqrt(20 / 60)


def test_the_ridge_and_the_sign_make_the_fit_repeatable():
    x, y = views()
    first, second = LinearCCA(3).fit(x, y), LinearCCA(3).fit(x[::-1], y[::-1])
    # 1e-8: the sums are taken in another order.
    np.testing.assert_allclose(first.weights_[0], second.weights_[0], atol=1e-8)
    assert (first.weights_[0].max(0) >= -first.weights_[0].min(0)).all()


def test_affine_maps_of_the_views_change_nothing():
    x, y = views()
    plain = LinearCCA(4, ridge=0).fit(x, y).correlations_
    mixed = np.random.default_rng(4).standard_normal((6, 6))
    for x2 in (x @ mixed + 100, x * np.logspace(-6, 6, 6), x * 1e-6, x * 1e6):
        # 1e-8: as above
        np.testing.assert_allclose(LinearCCA(4, ridge=0).fit(x2, y).correlations_, plain, atol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
@pytest.mark.parametrize("extra", ["constant", "zero", "repeat", "sum"])
def test_columns_that_add_nothing_change_nothing(ridge, extra):
    x, y = views()
    column = {
        "constant": np.full(200, 0.1 + 1e5 / 3),
        "zero": np.zeros(200),
        "repeat": x[:, 0],
        "sum": x.sum(1),
    }[extra]
    cca = LinearCCA(4, ridge).fit(np.c_[x, column], y)
    # With a ridge a repeated column halves its own share of it: 1e-3. Without, rounding: 1e-8.
    np.testing.assert_allclose(
        cca.correlations_, LinearCCA(4, ridge).fit(x, y).correlations_, atol=1e-3 if ridge else 1e-8
    )


def test_what_rounding_leaves_of_constant_columns_is_no_correlation():
    x, y = views(rows=1501)
    constant = np.ones((1501, 1)) * [0.1, 1e5 / 3, 7.7, 1e-3 / 7]
    cca = LinearCCA(4, ridge=0.0).fit(np.c_[constant, x], np.c_[y, constant])
    expected = LinearCCA(4, ridge=0.0).fit(x, y).correlations_
    np.testing.assert_allclose(cca.correlations_, expected, atol=1e-8)  # as above


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_directions_that_do_not_exist_have_correlation_zero(ridge):
    x, y = views()
    x = np.c_[x[:, :1], x[:, :1] * 2, np.full(200, 0.1), np.zeros(200)]
    cca = LinearCCA(4, ridge).fit(x, y)
    assert cca.correlations_[0] > 0.1
    np.testing.assert_array_equal(cca.correlations_[1:], 0)
    assert np.isfinite(np.concatenate(cca.weights_)).all()


def test_a_projection_that_is_constant_on_held_out_data_counts_zero():
    cca = LinearCCA(4).fit(*views())
    x, y = views(seed=1)
    assert cca.score(np.repeat(x[:1], 200, axis=0), y) == 0
    assert cca.score(x[:1], y[:1]) == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1e-6, 1e-2]), st.integers(6, 40))
def test_total_correlation_is_bounded(seed, ridge, rows):
    rng = np.random.default_rng(seed)
    x, y = views(rows=rows, seed=seed)
    x[:, rng.integers(6)] = rng.integers(0, 2)
    y[:, 0] = y[:, rng.integers(4)] * 10.0 ** rng.integers(-6, 6)
    cca = LinearCCA(4, ridge).fit(x, y)
    # 1e-9: rounding of a sum of four numbers that are clipped to [-1, 1].
    assert 0 <= cca.score(x, y) <= 4 + 1e-9
    assert abs(cca.score(*views(seed=seed + 1))) <= 4 + 1e-9
    assert (np.abs(cca.correlations_) <= 1).all()


def test_integers_lists_and_float32_will_do():
    x = [[1, 2], [3, 5], [4, 4], [0, 1]]
    y = np.asarray([[1], [2], [3], [0]], np.float32)
    assert LinearCCA(1).fit(x, y).score(x, y) == pytest.approx(1, abs=0.05)


def poisoned(value):
    x = np.zeros((9, 3))
    x[4, 2] = value
    return x


ZEROS = np.zeros((9, 3))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LinearCCA(0), "k=0"),
        (
            lambda: LinearCCA(1).fit(ZEROS.astype(str), ZEROS),
            "x has the dtype .* must hold real numbers",
        ),
        (lambda: LinearCCA(1).fit(ZEROS, ZEROS * 1j), "y has the dtype complex128"),
        (lambda: LinearCCA(1).fit(ZEROS.astype(object), ZEROS), "the dtype object"),
        (lambda: LinearCCA(2, ridge=-1), "ridge"),
        (lambda: LinearCCA(4).fit(ZEROS, ZEROS), "choose k from 1 to 3"),
        (lambda: LinearCCA(1).fit(ZEROS, poisoned(np.nan)), "y holds 1 .* row 4, column 2"),
        (lambda: LinearCCA(1).fit(poisoned(np.inf), ZEROS), "x holds 1 .* row 4, column 2"),
        (lambda: LinearCCA(1).fit(ZEROS, ZEROS[:8]), "x has 9 rows and y has 8"),
        (lambda: LinearCCA(1).fit(ZEROS[0], ZEROS), "flatten"),
        (lambda: LinearCCA(1).fit(ZEROS[:1], ZEROS[:1]), "at least 2"),
        (lambda: LinearCCA(1, ridge=0).fit(ZEROS[:2], ZEROS[:2]), "a ridge above 0"),
        (lambda: LinearCCA(1).fit(ZEROS, ZEROS).score(ZEROS[:, :2], ZEROS), "2 and 3 columns"),
        (lambda: LinearCCA(1).fit(ZEROS, ZEROS).score(ZEROS[:0], ZEROS[:0]), "no examples"),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_transform_before_fit_is_refused():
    with pytest.raises(RuntimeError, match="call fit first"):
        LinearCCA(1).transform(ZEROS, ZEROS)


def test_scikit_learn_can_validate_search_and_chain():
    x, y = views()
    scores = cross_val_score(LinearCCA(2), x, y, cv=4)
    fold = KFold(4).split(x)
    expected = [LinearCCA(2).fit(x[a], y[a]).score(x[b], y[b]) for a, b in fold]
    np.testing.assert_allclose(scores, expected)
    search = GridSearchCV(LinearCCA(2), {"ridge": [1e-3, 1e6]}, cv=4).fit(x, y)
    assert search.best_params_ == {"ridge": 1e-3}
    chain = make_pipeline(StandardScaler(), LinearCCA(2)).fit(x, y)
    scaled = StandardScaler().fit_transform(x)
    assert chain.score(x, y) == pytest.approx(LinearCCA(2).fit(scaled, y).score(scaled, y))
    np.testing.assert_array_equal(
        chain.transform(x), LinearCCA(2).fit(scaled, y).transform_view(0, scaled)
    )
    then = make_pipeline(LinearCCA(2), LinearRegression()).fit(x, y)
    assert then.predict(x).shape == y.shape
