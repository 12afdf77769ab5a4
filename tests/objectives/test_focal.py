"""The focal loss: closed form, finite differences in float64, the edges where p is 0 or 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mmjax.errors import ConfigError
from mmjax.objectives import Focal, cross_entropy, focal
from mmjax.structs import Batch, Outputs, Prediction

B, C = 9, 5
WEIGHT = np.float32([1, 1, 0, 2, 1, 0.5, 1, 0, 1])
CLASS_WEIGHTS = (2.0, 0.5, 0.1, 1.0, 3.0)
GAMMAS = [0.3, 1.0, 2.0, 5.0]


def scores():
    rng = np.random.default_rng(0)
    return np.float32(rng.standard_normal((B, C)) * 3), rng.integers(0, C, B).astype(np.int32)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_closed_form(gamma):
    logits, labels = scores()
    p = np.exp(np.float64(logits))
    p = (p / p.sum(axis=1, keepdims=True))[np.arange(B), labels]
    rows = WEIGHT * np.array(CLASS_WEIGHTS)[labels]
    expected = np.sum(rows * -((1 - p) ** gamma) * np.log(p)), rows.sum()
    ours = focal(logits, labels, gamma=gamma, class_weights=CLASS_WEIGHTS, weight=WEIGHT)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)  # float32, five-fold in a fifth power


def test_gamma_zero_is_the_cross_entropy_to_the_bit():
    logits, labels = scores()
    logits[0], labels[0] = [90, 0, 0, 0, 0], 0  # where p is 1
    rows = {"weight": WEIGHT, "class_weights": CLASS_WEIGHTS}

    def both(function, **options):
        return jax.value_and_grad(lambda x: function(x, labels, **options), has_aux=True)(logits)

    ours, expected = both(focal, gamma=0.0, **rows), both(cross_entropy, **rows)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_against_finite_differences(gamma):
    logits, labels = scores()
    with jax.enable_x64(True):
        wide = jnp.asarray(logits, jnp.float64)
        assert focal(wide, labels, gamma=gamma)[0].dtype == jnp.float64
        check_grads(
            lambda x: focal(x, labels, gamma=gamma, class_weights=CLASS_WEIGHTS)[0],
            (wide,),
            order=1,
            modes=("rev",),
            rtol=1e-6,  # central differences in float64
        )


@pytest.mark.parametrize("gamma", [1e-3, 0.5, 1.0, 2.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 15.0, 16.5, 17.5, 88.0, 1e4, 1e30])
def test_finite_from_sure_and_right_to_sure_and_wrong(gamma, scale):
    """Between 15 and 18, 1 - p is lost among the digits of float32: there slopes go wrong."""
    logits = np.float32([[scale, 0, 0], [0, scale, 0]])
    labels = np.array([0, 0])
    value, gradient = jax.value_and_grad(lambda x: focal(x, labels, gamma=gamma)[0])(logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if scale > 10:
        np.testing.assert_allclose(gradient[0], 0, atol=1e-5)  # of the cross-entropy, 6e-7
    if scale > 80:  # (1 - p)^gamma is 1 where p is 0, and the slope that of the cross-entropy
        np.testing.assert_allclose(value, scale, rtol=1e-6)
        np.testing.assert_allclose(gradient[1], [-1, 1, 0], atol=1e-6)


def test_what_is_right_counts_less_the_larger_gamma_is():
    logits, labels = np.float32([[2, 0], [-2, 0]]), np.array([0, 0])
    ratios = []
    for gamma in (0.0, 1.0, 2.0):
        right = focal(logits[:1], labels[:1], gamma=gamma)[0]
        wrong = focal(logits[1:], labels[1:], gamma=gamma)[0]
        ratios.append(float(right / wrong))
    odds = (1 - 1 / (1 + np.exp(-2))) / (1 / (1 + np.exp(-2)))  # (1 - p) of one over the other's
    np.testing.assert_allclose(ratios[1:] / np.array(ratios[:-1]), odds, rtol=1e-5)  # float32


def test_sums_of_two_batches_add_up():
    logits, labels = scores()
    parts = [
        focal(logits[r], labels[r], gamma=2.0, class_weights=CLASS_WEIGHTS, weight=WEIGHT[r])
        for r in np.split(np.arange(B), [4])
    ]
    whole = focal(logits, labels, gamma=2.0, class_weights=CLASS_WEIGHTS, weight=WEIGHT)
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)  # float32 sums


def test_rows_of_weight_zero_are_not_there():
    logits, labels = scores()
    kept = WEIGHT > 0
    expected = focal(logits[kept], labels[kept], gamma=0.5, weight=WEIGHT[kept])
    logits[~kept], labels[~kept] = np.nan, -1

    def loss(logits):
        return focal(logits, labels, gamma=0.5, weight=WEIGHT)

    value, gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # float32 sums
    assert (np.asarray(gradient)[~kept] == 0).all()
    assert np.isfinite(gradient).all()


def test_bad_labels_show_and_half_precision_is_widened():
    logits, labels = scores()
    total, _ = focal(jnp.bfloat16(logits), labels, gamma=2.0)
    assert total.dtype == jnp.float32
    assert total == focal(jnp.float32(jnp.bfloat16(logits)), labels, gamma=2.0)[0]
    labels[0] = C
    assert np.isnan(focal(logits, labels, gamma=2.0)[0])


def test_the_objective_is_the_mean_over_rows():
    logits, labels = scores()
    batch = Batch.of({"x": np.zeros((B, 1))}, np.arange(B), targets={"label": labels})
    outputs = Outputs({}, {}, predictions={"label": Prediction(logits)})
    assert Focal().name == "focal"
    total, count = focal(logits, labels, gamma=2.0, weight=WEIGHT)
    ours = jax.jit(Focal())(outputs, batch.replace(weight=WEIGHT)).mean
    np.testing.assert_allclose(ours, total / count, rtol=1e-6)  # float32 sums
    assert Focal()(outputs, batch.replace(weight=np.zeros(B, np.float32))).mean == 0
    with pytest.raises(ConfigError, match="no head of the model for the target 'label'"):
        Focal()(outputs.replace(predictions={}), batch)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_an_impossible_gamma_is_refused(gamma):
    logits, labels = scores()
    for refused in (lambda: Focal(gamma=gamma), lambda: focal(logits, labels, gamma=gamma)):
        with pytest.raises(ConfigError, match=f"gamma={gamma} must be 0 or more"):
            refused()
