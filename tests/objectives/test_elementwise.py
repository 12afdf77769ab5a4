"""Losses of single numbers and labels: closed forms, masks, sums that add up, NaN in no sum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.objectives import (
    BinaryCrossEntropy,
    SquaredError,
    binary_cross_entropy,
    squared_error,
)
from mmjax.structs import Batch, Outputs, Prediction, Term

B, C = 6, 3
LOSSES = {"squared_error": squared_error, "binary_cross_entropy": binary_cross_entropy}
CONFIGS = {
    "squared_error": SquaredError(target="x"),
    "binary_cross_entropy": BinaryCrossEntropy(target="x"),
}
ROWS = np.array([1, 0, 2, 1, 0.5, 0])
ELEMENTS = np.array([[1, 0, 1], [0, 0, 0], [2, 1, 1], [1, 0, 0], [0.5, 1, 3], [1, 1, 1]])
WEIGHTS = {"none": None, "rows": ROWS, "elements": ELEMENTS}
every_loss = pytest.mark.parametrize("name", LOSSES)


def pair(name):
    rng = np.random.default_rng(0)
    predicted, target = rng.standard_normal((2, B, C)) * 2
    return predicted, (target > 0) * 1.0 if name == "binary_cross_entropy" else target


def elements(weight):
    """Weights [B, C]."""
    if weight is None:
        return np.ones((B, C))
    return np.broadcast_to(weight.reshape(B, -1), (B, C))


def reference(name, predicted, target, weight):
    """Sum and count in float64, of the elements that count alone."""
    there = elements(weight) > 0
    s, y, w = predicted[there], target[there], elements(weight)[there]
    if name == "squared_error":
        each = (s - y) ** 2
    else:
        p = 1 / (1 + np.exp(-s))
        each = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return np.sum(w * each), np.sum(w)


@functools.cache
def value_and_gradient(name):
    def loss(predicted, target, weight):
        return LOSSES[name](predicted, target, weight=weight)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@every_loss
@pytest.mark.parametrize("kind", WEIGHTS)
def test_closed_form_and_finite_differences_with_nan_under_weight_zero(name, kind):
    (predicted, target), weight = pair(name), WEIGHTS[kind]
    absent = elements(weight) == 0
    expected = reference(name, predicted, target, weight)
    along = np.random.default_rng(1).standard_normal((B, C))
    ends = [reference(name, predicted + h * along, target, weight)[0] for h in (1e-5, -1e-5)]
    predicted[absent] = target[absent] = np.nan
    with jax.enable_x64(True):
        found, gradient = jax.device_get(value_and_gradient(name)(predicted, target, weight))
    np.testing.assert_allclose(found, expected, rtol=1e-12)  # float64
    # 1e-8: the step squared times a third derivative, and rounding over the step.
    np.testing.assert_allclose(np.sum(gradient * along), (ends[0] - ends[1]) / 2e-5, rtol=1e-8)
    assert (gradient[absent] == 0).all()


@every_loss
@pytest.mark.parametrize("kind", WEIGHTS)
def test_sums_over_batches_add_up_however_they_are_cut(name, kind):
    """Whole numbers, whose sums float32 holds exactly: so equal to the bit."""
    rng, weight = np.random.default_rng(0), WEIGHTS[kind]
    target = np.float32(rng.integers(0, 2, (B, C)))
    predicted = np.float32(rng.integers(-3, 4, (B, C)))
    if name == "binary_cross_entropy":  # softplus(0) is log 2 in each: no rounding but by powers
        predicted = np.zeros((B, C), np.float32)
    whole = Term(*LOSSES[name](predicted, target, weight=weight))
    for cut in (1, 4):
        parts = [
            Term(
                *LOSSES[name](predicted[r], target[r], weight=None if weight is None else weight[r])
            )
            for r in np.split(np.arange(B), [cut])
        ]
        assert sum(part.count for part in parts) == whole.count
        if name == "squared_error":
            assert sum(part.total for part in parts) == whole.total
        else:
            total = sum(part.total for part in parts)
            np.testing.assert_allclose(total, whole.total, rtol=3e-7)  # log 2 is not whole


@every_loss
def test_a_mask_of_a_batch_is_of_rows_or_of_elements(name):
    predicted, target = map(np.float32, pair(name))
    rows = np.float32([1, 1, 1, 0, 1, 1])
    outputs = Outputs({}, {}, predictions={"x": Prediction(predicted)})
    batch = Batch.of({}, np.arange(B), targets={"x": target}).replace(weight=rows)
    for known in (ROWS > 0, ELEMENTS > 0):
        masked = batch.replace(target_masks={"x": known})
        term = CONFIGS[name](outputs, masked)
        weight = rows[:, None] * elements(known)
        expected = reference(name, np.float64(predicted), target, weight)
        np.testing.assert_allclose((term.total, term.count), expected, rtol=1e-6)  # float32
        np.testing.assert_allclose(term.mean, expected[0] / expected[1], rtol=1e-6)
    nothing = batch.replace(target_masks={"x": np.zeros(B, bool)})
    assert CONFIGS[name](outputs, nothing).mean == 0


@every_loss
def test_half_precision_is_computed_in_float32(name):
    predicted, target = (jnp.asarray(each, jnp.bfloat16) for each in pair(name))
    total, count = LOSSES[name](predicted, target)
    assert total.dtype == count.dtype == jnp.float32
    wide = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    np.testing.assert_allclose((total, count), reference(name, *wide, None), rtol=1e-6)


def test_logits_of_any_size_have_a_finite_cross_entropy():
    logits = np.float32([[1e4, -1e4, 1e30, -1e30]])
    (right, _), slope = value_and_gradient("binary_cross_entropy")(
        logits, np.float32(logits > 0), None
    )
    assert right == 0
    assert (np.asarray(slope) == 0).all()
    (wrong, _), slope = value_and_gradient("binary_cross_entropy")(
        logits[:, :2], np.float32(logits[:, :2] < 0), None
    )
    assert wrong == 2e4
    np.testing.assert_array_equal(slope, [[1, -1]])


@every_loss
def test_what_does_not_fit_is_refused(name):
    outputs = Outputs({}, {}, predictions={"xx": Prediction(jnp.zeros((B, C)))})
    batch = Batch.of({}, np.arange(B), targets={"xx": np.zeros((B, C), np.float32)})
    with pytest.raises(ConfigError, match="'x': did you mean 'xx'"):
        CONFIGS[name](outputs, batch)
    with pytest.raises(ConfigError, match=r"shape \(6, 3\) and the target \(6, 2\)"):
        LOSSES[name](jnp.zeros((B, C)), jnp.zeros((B, 2)))
    for weight in (jnp.ones(B - 1), jnp.ones((B, 1)), jnp.ones(())[None]):
        with pytest.raises(ConfigError, match="one weight for each row, or for each element"):
            LOSSES[name](jnp.zeros((B, C)), jnp.zeros((B, C)), weight=weight)
    assert CONFIGS[name].name == name
