"""Moments of batches: those of NumPy, in any order, cut, offset and scale, sharded too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmjax.cca import LinearCCA, Moments
from mmjax.cca.sharded_moments import sharded_moments


def views(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 4)) @ rng.standard_normal((4, 4)) + 3
    return x, x[:, :3] + rng.standard_normal((rows, 3)) - 1


def assert_same(moments, expected, rtol=1e-12):
    """By default to float64 rounding, 1e-16, of sums of a hundred and some digits in hand."""
    assert moments.rows == expected.rows
    np.testing.assert_allclose(moments.weight, expected.weight, rtol=1e-14)
    for ours, theirs in zip(moments.means, expected.means, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol)
    C = expected.covariance()
    sizes = np.sqrt(np.outer(np.diag(C), np.diag(C)))
    np.testing.assert_allclose(moments.covariance() / sizes, C / sizes, atol=rtol)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.permutations(range(24)),
    st.lists(st.integers(0, 24), max_size=5),
    st.sampled_from([1e-200, 1e-6, 1.0, 1e200]),
)
def test_any_order_and_cut_gives_what_numpy_gives(order, cuts, scale):
    x, y = views(24)
    # Columns of their own units, and rows that do not come in the order of their size.
    x, y = x * np.array([1, 1e-9, 1e9, 1]), y + np.arange(24)[:, None]
    expected_mean = np.concatenate([x.mean(0), y.mean(0)])
    expected = np.cov(x.T, y.T)
    sizes = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    moments = Moments((4, 3))
    for part in np.split(np.array(order), sorted(cuts)):
        moments.update(x[part] * scale, y[part])
    units = np.array([scale] * 4 + [1.0] * 3)
    np.testing.assert_allclose(np.concatenate(moments.means) / units, expected_mean, rtol=1e-12)
    factor = np.concatenate(moments.factors, axis=1) / units
    np.testing.assert_allclose(factor.T @ factor / sizes, expected / sizes, atol=1e-12)
    assert moments.rows == 24


def test_an_offset_costs_its_own_digits_only():
    x, _ = views(100_000)
    offset = 2.0**30 * np.array([1, -1, 3, 0])
    x = np.round(x * 2**20) / 2**20  # so that the sum with the offset is exact
    moments = Moments((4,))
    for part in np.split(x + offset, 100):
        moments.update(part)
    C = np.cov(x.T)
    # The mean is rounded to 1e-7 of the deviations: a hundred such steps, squared, are nothing. A
    # sum of squares minus a square of sums would have lost 18 digits of 16.
    np.testing.assert_allclose(moments.covariance(), C, atol=1e-12 * C.max())


def test_weights_are_repetitions():
    x, y = views(30)
    weight = np.random.default_rng(1).integers(0, 4, 30)
    poisoned = x.copy()
    poisoned[weight == 0] = np.nan
    repeated = Moments((4, 3)).update(np.repeat(x, weight, axis=0), np.repeat(y, weight, axis=0))
    weighted = Moments((4, 3)).update(poisoned, y, weight=weight)
    assert weighted.rows == (weight > 0).sum()
    weighted.rows = repeated.rows
    assert_same(weighted, repeated)


def test_merged_moments_are_those_of_all_rows():
    x, y = views()
    first, second = Moments.of(x[:50], y[:50]), Moments.of(x[50:], y[50:])
    assert_same(first.merge(second).merge(Moments((4, 3))), Moments.of(x, y))
    assert_same(Moments((4, 3)).merge(first), first)
    # Fewer rows than columns on both sides.
    few = Moments.of(x[:2], y[:2]).merge(Moments.of(x[2:5], y[2:5]))
    assert_same(few, Moments.of(x[:5], y[:5]))


def sharded(*arrays, kind=AxisType.Auto, axes=("data",)):
    mesh = jax.make_mesh((2, 1), ("data", "tensor"), axis_types=(kind,) * 2)
    return [jax.device_put(a, NamedSharding(mesh, PartitionSpec(axes, None))) for a in arrays]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("weighted", [False, True])
def test_arrays_on_two_devices_are_summed_there_in_float64(kind, weighted, monkeypatch):
    x, y = (np.float32(view + 1e3) for view in views())
    weight = np.random.default_rng(2).uniform(0, 2, 120) * (np.arange(120) % 3 > 0)
    options = {"weight": weight} if weighted else {}
    expected = Moments((4, 3)).update(x, y, **options)
    if weighted:
        x[weight == 0] = np.nan
    moments = Moments((4, 3))
    with monkeypatch.context() as patch:
        patch.setattr(Moments, "_add_rows", None)  # the way of arrays on the host is closed
        for rows in (slice(0, 60), slice(60, 120)):
            part = {name: value[rows] for name, value in options.items()}
            moments.update(*sharded(x[rows], y[rows], kind=kind), **part)
    assert_same(moments, expected)
    assert not jax.config.jax_enable_x64


def test_replicated_and_mixed_views_on_two_devices():
    x, y = (np.float32(view) for view in views())
    expected = Moments.of(x, y)
    assert_same(Moments.of(*sharded(x, y, axes=None)), expected)
    assert_same(Moments.of(*sharded(x, axes=None), *sharded(y)), expected)
    assert_same(Moments.of(jnp.asarray(x), *sharded(y)), expected)  # summed on the host


def test_float32_devices_err_by_what_they_say():
    x, y = (np.float32(view + 10) for view in views(4000))
    expected = LinearCCA(3, ridge=0.0).fit(x, y)
    part = sharded_moments(sharded(x, y), None, np.float32)
    assert part.eps == np.finfo(np.float32).eps
    moments = Moments((4, 3))
    moments._merge_rows(part.rows, part.weight, part.exponents, part.mean, part.factor)
    moments.eps = part.eps
    # 1e-6 of the largest variance, as the docstring says; not float64's 1e-12.
    assert_same(moments, expected.moments_, rtol=2e-6)
    cca = LinearCCA(3, ridge=0.0).fit_moments(moments)
    np.testing.assert_allclose(cca.correlations_, expected.correlations_, atol=1e-5)
    # A column that float32 cannot tell from a constant is one.
    constant = np.float32(7.3) + np.zeros((4000, 1), np.float32)
    part = sharded_moments(sharded(constant), None, np.float32)
    assert np.abs(part.factor / np.sqrt(4000)).max() < 16 * part.eps


def test_linear_cca_of_sharded_arrays_is_that_of_the_host():
    x, y = (np.float32(view) for view in views())
    expected = LinearCCA(3, ridge=0.0).fit(x, y)
    cca = LinearCCA(3, ridge=0.0).fit(*sharded(x, y))
    np.testing.assert_allclose(cca.correlations_, expected.correlations_, rtol=1e-12)
    for ours, theirs in zip(cca.weights_, expected.weights_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_values_beyond_the_largest_are_refused_on_devices_too():
    with jax.enable_x64(True):
        for x, wrong in ((np.full((4, 1), 1e299), False), (np.full((4, 1), 1e307), True)):
            views = sharded(x, np.ones((4, 1)))
            if wrong:
                with pytest.raises(ValueError, match=r"view 0 holds values above 1e\+300"):
                    Moments.of(*views)
            else:
                assert Moments.of(*views).means[0] == pytest.approx(1e299)


def test_squares_tell_repeated_columns_by_the_root_of_their_rounding():
    x, y = (np.c_[view, view[:, :2]] for view in views())
    cca = LinearCCA(5, ridge=0).fit_moments(Moments.of(x, y, squared=True))
    expected = LinearCCA(5, ridge=0).fit(x, y)
    np.testing.assert_allclose(cca.correlations_, expected.correlations_, atol=1e-6)
    assert not cca.weights_[0][:, 3:].any()


def test_a_fit_to_moments_keeps_a_copy():
    x, y = views()
    moments = Moments.of(x, y)
    first, second = (LinearCCA(2).fit_moments(moments) for _ in range(2))
    first.partial_fit(x + 100, y)
    assert moments.rows == second.moments_.rows == len(x)
    np.testing.assert_allclose(second.mean_[0], x.mean(axis=0))


def poisoned(value):
    x = np.zeros((8, 3), np.float32)
    x[4, 2] = value
    return x


ZEROS = np.zeros((8, 3), np.float32)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Moments.of(ZEROS, ZEROS[:7]), "view 0 has 8 rows and view 1 has 7"),
        (lambda: Moments.of(ZEROS).update(ZEROS[:, :2]), "2 columns, but 3 are expected"),
        (lambda: Moments.of(ZEROS).update(ZEROS, weight=ZEROS), "one weight a row"),
        (
            lambda: Moments.of(ZEROS).update(ZEROS, weight=-np.ones(8)),
            "weight holds values outside",
        ),
        (
            lambda: Moments.of(ZEROS).update(ZEROS, weight=np.full(8, np.nan)),
            "weight holds values outside",
        ),
        (lambda: Moments.of(ZEROS).merge(Moments((2,))), "moments of 2 columns cannot be merged"),
        (lambda: Moments.of(ZEROS[:, :0]), "no columns"),
        (lambda: Moments.of(poisoned(np.nan)), "row 4, column 2"),
        (lambda: Moments.of(*sharded(poisoned(np.inf))), "view 0 holds 1 values .* not finite"),
        (lambda: Moments.of(np.full((3, 1), 1e301)), "above 1e.300: divide"),
        (lambda: Moments.of(np.full((3, 1), 1e30j)), "must hold real numbers"),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
