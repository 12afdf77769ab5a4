"""What all estimators promise: any order of batches, finite results, plain refusals."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.base
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.cca import (
    GCCA,
    MCCA,
    KernelCCA,
    LinearCCA,
    Moments,
    Nystrom,
    PartialCCA,
    RandomFourier,
)
from mmjax.errors import ConfigError

FEATURES = RandomFourier(count=16, bandwidth=3.0)
MAKE = {
    "linear": lambda k, ridge: LinearCCA(k, ridge),
    "mcca": lambda k, ridge: MCCA(k, ridge),
    "gcca": lambda k, ridge: GCCA(k, ridge),
    "partial": lambda k, ridge: PartialCCA(k, ridge),
    "kernel": lambda k, ridge: KernelCCA(k, ridge, FEATURES),
    "nystrom": lambda k, ridge: KernelCCA(k, ridge, Nystrom(count=10, bandwidth=3.0)),
}
each = pytest.mark.parametrize("name", MAKE)


def views(name, rows=200, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, 4))
    mixed = [common[:, :d] + rng.standard_normal((rows, d)) + d for d in (4, 3, 2)]
    return mixed if name in ("mcca", "gcca", "partial") else mixed[:2]


def assert_same_fit(ours, theirs, rtol=1e-10):
    np.testing.assert_allclose(ours.correlations_, theirs.correlations_, rtol=rtol)
    for a, b in zip((*ours.weights_, *ours.mean_), (*theirs.weights_, *theirs.mean_), strict=True):
        np.testing.assert_allclose(a, b, atol=rtol * np.abs(b).max())


def made(name, ridge, sample):
    """The estimator; with the landmarks settled, which are no matter of the order of batches."""
    estimator = MAKE[name](2, ridge)
    return estimator.prepare(*sample) if name == "nystrom" else estimator


@each
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_a_stream_in_any_order_and_cut_gives_the_whole_fit(name, ridge):
    whole = views(name)
    expected = made(name, ridge, whole).fit(*whole)
    for seed, cuts in enumerate(([1, 2, 50], [64, 128, 192], [7, 7, 199])):
        order = np.random.default_rng(seed).permutation(200)
        batches = [tuple(v[rows] for v in whole) for rows in np.split(order, cuts)]
        estimator = made(name, ridge, whole)
        assert_same_fit(estimator.fit_stream(iter(batches)), expected)
        # And again: a stream starts anew.
        assert_same_fit(estimator.fit_stream(batches[::-1]), expected)


@each
def test_partial_fits_add_up_and_a_fit_starts_anew(name):
    whole = views(name)
    estimator = made(name, 1e-3, whole)
    estimator.partial_fit(*(v[:90] for v in whole))
    before = estimator.correlations_
    assert estimator.moments_.rows == 90
    estimator.partial_fit(*(v[90:] for v in whole))
    assert estimator.moments_.rows == 200
    assert (estimator.correlations_ != before).all()
    other = made(name, 1e-3, whole).fit(*views(name, seed=3)).fit(*whole)
    assert_same_fit(estimator, other)


@each
def test_the_score_is_of_the_fitted_directions_and_refits_nothing(name):
    estimator = MAKE[name](2, 1e-3).fit(*views(name))
    weights = [w.copy() for w in estimator.weights_]
    held_out = views(name, seed=1)
    projections = estimator.transform(*held_out)
    pairs = [(i, j) for j in range(len(projections)) for i in range(j)]
    expected = [
        np.mean([np.corrcoef(projections[i][:, c], projections[j][:, c])[0, 1] for i, j in pairs])
        for c in range(2)
    ]
    np.testing.assert_allclose(estimator.correlations(*held_out), expected, atol=1e-12)
    assert estimator.score(*held_out) == pytest.approx(sum(expected))
    for ours, before in zip(estimator.weights_, weights, strict=True):
        np.testing.assert_array_equal(ours, before)
    # On the data of the fit the correlations are those of the projections.
    np.testing.assert_allclose(
        estimator.correlations(*views(name)), estimator.correlations_, atol=1e-10
    )


@pytest.mark.parametrize("name", [name for name in MAKE if name != "partial"])
def test_one_view_is_projected_without_the_others(name, monkeypatch):
    monkeypatch.setattr("mmjax.cca.view_estimator.ROWS", 7)
    estimator, unfitted = MAKE[name](2, 1e-3).fit(*views(name)), MAKE[name](2, 1e-3)
    held_out = views(name, rows=30, seed=1)
    for view, (x, expected) in enumerate(
        zip(held_out, estimator.transform(*held_out), strict=True)
    ):
        np.testing.assert_array_equal(estimator.transform_view(view, x), expected)
        assert estimator.transform_view(view, x[:0]).shape == (0, 2)
        with pytest.raises(ConfigError, match="has 9 columns, but"):
            estimator.transform_view(view, np.ones((3, 9)))
        with pytest.raises(ConfigError, match="not finite"):
            estimator.transform_view(view, x * np.nan)
    for view in (-1, len(held_out)):
        with pytest.raises(ConfigError, match=f"no view {view}: give a number from 0 to"):
            estimator.transform_view(view, held_out[0])
    with pytest.raises(RuntimeError, match="call fit first"):
        unfitted.transform_view(0, held_out[0])


@each
def test_row_weights_repeat_rows(name):
    whole = views(name, rows=60)
    weight = np.random.default_rng(1).integers(0, 3, 60)
    weighted, repeated = made(name, 1e-2, whole), made(name, 1e-2, whole)
    poisoned = [np.where(weight[:, None] > 0, v, np.nan) for v in whole]
    weighted.fit(*poisoned, weight=weight)
    assert_same_fit(weighted, repeated.fit(*(np.repeat(v, weight, axis=0) for v in whole)))


@each
def test_scikit_learn_can_clone_and_set(name):
    estimator = MAKE[name](2, 1e-3).fit(*views(name))
    clone = sklearn.base.clone(estimator)
    assert clone.get_params() == estimator.get_params()
    assert not hasattr(clone, "weights_")
    assert clone.set_params(k=1).fit(*views(name)).correlations_.shape == (1,)
    with pytest.raises(ValueError, match="did you mean 'ridge'"):
        clone.set_params(rigde=1.0)


def attempt(action, *arguments):
    """The sentence with which this is refused, or none."""
    try:
        action(*arguments)
    except ConfigError as error:
        return str(error)
    return ""


ROWS, WIDTH = 14, 4


@st.composite
def awkward_view(draw):
    """Random, constant, zero, repeated, summed, binary or exactly shared columns at any scale."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shared = np.random.default_rng(7).standard_normal((ROWS, WIDTH))
    columns = []
    kinds = ["random", "constant", "zero", "binary", "shared"]
    for i in range(WIDTH):
        match draw(st.sampled_from(kinds + ["repeat", "sum"] * (i > 0))):
            case "random":
                columns.append(rng.standard_normal(ROWS))
            case "constant":
                columns.append(np.full(ROWS, rng.standard_normal()))
            case "zero":
                columns.append(np.zeros(ROWS))
            case "binary":
                columns.append(rng.integers(0, 2, ROWS) * 1.0)
            case "shared":
                columns.append(shared[:, i])
            case "repeat":
                columns.append(columns[-1] * draw(st.sampled_from([1.0, -3.0])))
            case "sum":
                columns.append(np.sum(columns, axis=0))
    units = [10.0 ** draw(st.sampled_from([0, 0, -7, 7])) for _ in columns]
    scale = 10.0 ** draw(st.sampled_from([0, -6, 6, -30, 30, -200, 200, -300, 280]))
    offset = draw(st.sampled_from([0.0, 1.0, 1e4]))
    view = (np.stack(columns, axis=1) * units + offset) * scale
    if draw(st.booleans()) and scale in (1.0, 1e-6, 1e6, 1e-30, 1e30):
        view = np.asarray(jnp.asarray(view, draw(st.sampled_from([jnp.bfloat16, jnp.float32]))))
    return view


@each
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(awkward_view(), awkward_view(), awkward_view()),
    st.sampled_from([0.0, 1e-4, 1e6]),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([2, WIDTH, WIDTH + 1, 2 * WIDTH, ROWS]),
)
def test_any_finite_views_give_finite_results(name, drawn, ridge, k, rows):
    whole = [v[:rows] for v in drawn[: len(views(name))]]
    estimator = MAKE[name](min(k, rows), ridge)
    sentence = attempt(estimator.fit, *whole)
    if sentence:
        assert ridge == 0
        assert "use more examples" in sentence
        return
    results = (estimator.correlations_, *estimator.weights_, *estimator.mean_)
    assert all(np.isfinite(result).all() for result in results)
    assert (np.abs(estimator.correlations_) <= 1).all()
    held_out = drawn[: len(whole)]
    sentence = attempt(estimator.score, *held_out)
    if sentence:
        assert "to the scale of the data" in sentence
    else:
        assert abs(estimator.score(*held_out)) <= k + 1e-9


@each
@pytest.mark.parametrize("rows", [4, 5, 6, 7])
def test_as_few_rows_as_columns(name, rows):
    whole = views(name, rows=rows)
    if name == "partial":
        whole = [*whole[:2], np.zeros((rows, 1))]
    estimator = MAKE[name](2, 1e-12 if rows < 5 or name != "linear" else 0.0).fit(*whole)
    if name == "linear" and rows < 6:  # 4 columns of x and rows - 1 <= 4: x can be anything
        # 1e-6: a ridge of 1e-12 against variances of 1e-3 or more.
        np.testing.assert_allclose(estimator.correlations_, 1, atol=1e-6)
    assert (np.abs(estimator.correlations_) <= 1).all()


ZEROS = np.zeros((9, 3))


@each
def test_what_cannot_work_is_refused(name):
    good = views(name)

    def refused(sentence, action, *arguments):
        with pytest.raises(ValueError, match=sentence):
            action(*arguments)

    bad = [v.copy() for v in good]
    bad[1][4, 2] = np.nan
    second = "view 1" if name in ("mcca", "gcca") else "y"
    refused(f"{second} holds 1 .* row 4, column 2", MAKE[name](1, 0.1).fit, *bad)
    refused("choose k from 1 to", MAKE[name](40, 0.1).fit, *good)
    refused("rows", MAKE[name](1, 0.1).fit, good[0], *(v[:-1] for v in good[1:]))
    refused("at least 2", MAKE[name](1, 0.1).fit, *(v[:1] for v in good))
    refused("got 1 views: give", MAKE[name](1, 0.1).fit_stream, [(good[0],)])
    refused("the stream is empty", MAKE[name](1, 0.1).fit_stream, [])
    refused("negative", MAKE[name], 1, -1.0)
    refused("infinite", MAKE[name], 1, float("inf"))
    if name != "nystrom":  # which takes no more features than rows
        refused("a ridge above 0", MAKE[name](1, 0.0).fit, *(v[:3] for v in good))
    estimator = MAKE[name](1, 0.1).fit(*good)
    refused("columns", estimator.partial_fit, *(v[:, :2] for v in good))
    refused("columns", estimator.transform, *(v[:, :2] for v in good))
    assert estimator.moments_.rows == 200
    wanted = "call prepare first" if name in ("kernel", "nystrom") else "got 1 views: give"
    refused(wanted, MAKE[name](1, 0.1).fit_moments, Moments((3,)))
    with pytest.raises(RuntimeError, match="call fit first"):
        MAKE[name](1, 0.1).transform(*good)
    with pytest.raises(RuntimeError, match="call fit first"):
        _ = MAKE[name](1, 0.1).correlations_
