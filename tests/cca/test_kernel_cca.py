"""Kernel CCA by features: against exact kernel CCA, and what the features approximate."""

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from mmjax.cca import KernelCCA, LinearCCA, Nystrom, RandomFourier
from mmjax.cca.kernel_features import median_distance

RIDGE = 1e-3


def views(rows=100, seed=0):
    """A curve: y is a function of x that no line follows."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, (rows, 1))
    x = np.c_[t, rng.standard_normal((rows, 1))] + 3
    y = np.c_[np.square(t) + 0.1 * rng.standard_normal((rows, 1)), rng.standard_normal((rows, 1))]
    return x, y


def kernel(x, x2, bandwidth):
    return np.exp(-cdist(x, x2, "sqeuclidean") / (2 * bandwidth**2))


def exact_correlations(x, y, bandwidths, ridge, k):
    """Kernel CCA in its dual form: the roots of K (K + (N - 1) ridge I)^-1, centred, over rows."""
    n = len(x)
    centre = np.eye(n) - 1 / n
    roots = []
    for view, bandwidth in zip((x, y), bandwidths, strict=True):
        values, V = scipy.linalg.eigh(centre @ kernel(view, view, bandwidth) @ centre)
        values = np.maximum(values, 0)
        roots.append(V * np.sqrt(values / (values + (n - 1) * ridge)) @ V.T)
    U, _, Vt = scipy.linalg.svd(roots[0] @ roots[1])
    zx, zy = roots[0] @ U[:, :k], roots[1] @ Vt[:k].T
    return (zx * zy).sum(0) / np.linalg.norm(zx, axis=0) / np.linalg.norm(zy, axis=0)


def test_with_every_row_a_landmark_it_is_exact():
    x, y = views()
    expected = exact_correlations(x, y, (1.5, 1.5), RIDGE, 3)
    kcca = KernelCCA(3, RIDGE, Nystrom(count=100, bandwidth=1.5)).fit(x, y)
    # Eigenvalues of a kernel below 100 eps are dropped: 3e-14 over the ridge, and digits in hand.
    np.testing.assert_allclose(kcca.correlations_, expected, atol=1e-8)


def test_fewer_features_come_near():
    x, y = views()
    expected = exact_correlations(x, y, (1.5, 1.5), RIDGE, 2)
    for seed in range(2):
        nystrom = KernelCCA(2, RIDGE, Nystrom(60, 1.5, seed)).fit(x, y)
        # What 60 landmarks leave of the kernel of 100 rows in 2 dimensions, seen: up to 1.5e-4.
        np.testing.assert_allclose(nystrom.correlations_, expected, atol=2e-3)
        fourier = KernelCCA(1, RIDGE, RandomFourier(200, 1.5, seed)).fit(x, y)
        # Kernel values are off by 1 / sqrt(200), seen in the correlation: up to 2e-3.
        np.testing.assert_allclose(fourier.correlations_, expected[:1], atol=1e-2)


def test_the_error_of_features_falls_with_their_number():
    x, _ = views()
    expected = kernel(x, x, 1.5)

    def error(features):
        mapped = features.prepare(x, 0)(x)
        assert mapped.shape == (100, features.count)
        return np.sqrt(np.square(mapped @ mapped.T - expected).mean())

    # The variance of cos at a random frequency is at most 1/2 and there are count / 2 of them.
    for count in (200, 20_000):
        assert 0.2 / np.sqrt(count) < error(RandomFourier(count, 1.5)) < 1 / np.sqrt(count)
    assert error(Nystrom(20, 1.5)) < 0.1
    assert error(Nystrom(100, 1.5)) < 1e-12
    landmarks = Nystrom(20, 1.5).prepare(x, 0)
    chosen = landmarks.landmarks * 1.5
    # On landmarks the kernel is exact, but for eigenvalues that are rounding.
    np.testing.assert_allclose(
        landmarks(chosen) @ landmarks(chosen).T, kernel(chosen, chosen, 1.5), atol=1e-10
    )


def test_views_get_projections_of_their_own():
    x, _ = views()
    maps = [RandomFourier(8, 1.5).prepare(x, view)(x) for view in (0, 1, 0)]
    assert (maps[0] == maps[2]).all()
    assert abs(maps[0] - maps[1]).max() > 0.1


@pytest.mark.parametrize("features", [RandomFourier(200), Nystrom(60)])
def test_it_finds_on_held_out_data_what_lines_do_not(features):
    train, held_out = views(600), views(600, seed=1)
    kcca = KernelCCA(1, 1e-2, features).fit(*train)
    assert kcca.score(*held_out) > 0.85
    assert abs(LinearCCA(1).fit(*train).score(*held_out)) < 0.3


def test_the_median_heuristic():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3))
    # The median distance of normal points in 3 dimensions: sqrt(2 * 2.366), the median of chi^2.
    assert median_distance(x, rng) == pytest.approx(np.sqrt(2 * 2.366), rel=0.05)
    assert median_distance(x * 1e250, rng) == pytest.approx(1e250 * median_distance(x, rng))
    assert median_distance(np.repeat(x, 5, axis=0), rng) == pytest.approx(2.17, rel=0.1)
    assert median_distance(np.full((9, 2), 7.0), rng) == 1


def test_units_do_not_matter_where_the_bandwidth_follows_them():
    x, y = views()
    for features in (RandomFourier(64), Nystrom(40)):
        plain = KernelCCA(2, RIDGE, features).fit(x, y)
        scaled = KernelCCA(2, RIDGE, features).fit(x * 1e200, y * 1e-200)
        np.testing.assert_allclose(scaled.correlations_, plain.correlations_, atol=1e-6)


def test_large_fits_are_mapped_in_parts(monkeypatch):
    x, y = views(300)
    for features in (RandomFourier(16), Nystrom(10)):
        whole = KernelCCA(2, RIDGE, features).fit(x, y)
        with monkeypatch.context() as patch:
            patch.setattr("mmjax.cca.kernel_cca.ROWS", 70)
            patch.setattr("mmjax.cca.view_estimator.ROWS", 70)
            parts = KernelCCA(2, RIDGE, features).fit(x, y)
            projected = parts.transform(x, y)
        np.testing.assert_allclose(parts.correlations_, whole.correlations_, atol=1e-10)
        for ours, theirs in zip(projected, whole.transform(x, y), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_moments_of_processes_that_were_prepared_alike_merge():
    x, y = views(200)
    make = [KernelCCA(2, RIDGE, Nystrom(20)).prepare(x[:50], y[:50]) for _ in range(3)]
    make[0].partial_fit(x[:90], y[:90])
    make[1].partial_fit(x[90:], y[90:])
    merged = make[2].fit_moments(make[0].moments_.merge(make[1].moments_))
    whole = make[1].fit(x, y)
    np.testing.assert_allclose(merged.correlations_, whole.correlations_, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RandomFourier(count=7), "even"),
        (lambda: RandomFourier(count=0), "2 or more"),
        (lambda: Nystrom(count=0), "1 or more"),
        (lambda: Nystrom(bandwidth=0.0), "above 0"),
        (lambda: RandomFourier(bandwidth=float("inf")), "finite"),
        (lambda: KernelCCA(1).prepare(np.zeros((0, 2)), np.zeros((0, 2))), "no examples"),
        (
            lambda: KernelCCA(1).prepare(*views()).partial_fit(*views()[::-1], weight=[1.0]),
            "weight",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize("ridge", [0.0, 1e-15])
def test_without_a_ridge_directions_are_told_from_rounding(ridge):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 600, 3))
    features = RandomFourier(60, bandwidth=20.0)  # so smooth that most directions are rounding
    kcca = KernelCCA(3, ridge, features).fit(x, y)
    mapped = [to_features(view) for to_features, view in zip(kcca.maps_, (x, y), strict=True)]
    expected = LinearCCA(3, ridge).fit(*mapped).correlations_
    np.testing.assert_allclose(kcca.correlations_, expected, atol=1e-10)
    assert expected[0] < 0.999  # of independent views: squares would give 1


@pytest.mark.parametrize("ridge", [1e-3, 1e-6])
@pytest.mark.parametrize("features", [RandomFourier(64), RandomFourier(64, seed=5), Nystrom(40)])
def test_features_of_low_rank_have_no_more_directions_than_that(features, ridge):
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, (400, 1)).astype(float)  # three points: two dimensions of any features
    other = rng.integers(0, 2, (400, 1)).astype(float)
    kcca = KernelCCA(5, ridge, features).fit(z, z)
    np.testing.assert_allclose(kcca.correlations_, [1, 1, 0, 0, 0], atol=1e-9)
    assert kcca.score(z, z) == pytest.approx(2, abs=1e-6)  # of directions with a ridge
    assert not np.any([weights[:, 2:] for weights in kcca.weights_])
    mixed = KernelCCA(5, ridge, features).fit(z, other)
    np.testing.assert_array_equal(mixed.correlations_[1:], 0)
    assert np.abs(mixed.correlations_[0]) < 0.2


def test_moments_of_several_processes_join():
    x, y = views()
    whole = KernelCCA(2, RIDGE, RandomFourier(40)).prepare(x, y)
    half = KernelCCA(2, RIDGE, RandomFourier(40)).prepare(x, y)
    half.partial_fit(x[:30], y[:30])
    whole.partial_fit(x[30:], y[30:])
    joined = whole.fit_moments(whole.moments_.merge(half.moments_))
    expected = KernelCCA(2, RIDGE, RandomFourier(40)).prepare(x, y).partial_fit(x, y)
    np.testing.assert_allclose(joined.correlations_, expected.correlations_, atol=1e-10)
    np.testing.assert_allclose(joined.weights_[0], expected.weights_[0], atol=1e-8)
