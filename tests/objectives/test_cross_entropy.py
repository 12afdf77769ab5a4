"""Cross-entropy: against optax, as sums that add up, with masked rows and bad labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import log_loss

from mmjax.errors import ConfigError
from mmjax.objectives import CrossEntropy, cross_entropy
from mmjax.structs import Batch, Outputs, Prediction

B, C = 9, 5


def scores():
    rng = np.random.default_rng(0)
    return np.float32(rng.standard_normal((B, C)) * 3), rng.integers(0, C, B).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_agrees_with_optax(smoothing):
    logits, labels = scores()
    target = optax.smooth_labels(jax.nn.one_hot(labels, C), smoothing)
    expected = optax.softmax_cross_entropy(logits, target).sum()
    total, count = cross_entropy(logits, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(total, expected, rtol=1e-6)  # float32 sums in another order
    assert count == B


def test_sums_of_two_batches_add_up():
    logits, labels = scores()
    weight = np.float32([1, 1, 0, 2, 1, 0.5, 1, 0, 1])
    whole = cross_entropy(logits, labels, weight=weight)
    parts = [
        cross_entropy(logits[r], labels[r], weight=weight[r]) for r in np.split(np.arange(B), [4])
    ]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-6)  # float32 sums


@pytest.mark.parametrize("weight_type", [np.float32, np.int32, bool])
def test_rows_of_weight_zero_are_not_there(weight_type):
    logits, labels = scores()
    weight = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1], weight_type)
    kept = weight > 0
    expected = cross_entropy(logits[kept], labels[kept], label_smoothing=0.1)
    logits[~kept], labels[~kept] = np.nan, -1

    def loss(logits):
        total, count = cross_entropy(logits, labels, label_smoothing=0.1, weight=weight)
        return total, count

    (total, count), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    np.testing.assert_allclose((total, count), expected, rtol=1e-6)  # float32 sums
    assert (np.asarray(gradient)[~kept] == 0).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("bad", [-1, C])
def test_a_label_that_is_no_class_shows(bad):
    logits, labels = scores()
    labels[0] = bad
    assert np.isnan(cross_entropy(logits, labels)[0])


def test_large_and_half_precision_logits():
    logits, labels = scores()
    assert np.isfinite(cross_entropy(logits * 1e30, labels)[0])
    total, _ = cross_entropy(jnp.bfloat16(logits), labels)
    assert total.dtype == jnp.float32
    exact, _ = cross_entropy(jnp.float32(jnp.bfloat16(logits)), labels)
    assert total == exact  # only the input was rounded


def test_smoothing_outside_its_range_is_refused():
    logits, labels = scores()
    with pytest.raises(ValueError, match="label_smoothing=1"):
        cross_entropy(logits, labels, label_smoothing=1.0)


CLASS_WEIGHTS = (2.0, 0.5, 0.0, 1.0, 3.0)


def test_class_weights_agree_with_scikit_learn():
    logits, labels = scores()
    weight = np.float32([1, 1, 0, 2, 1, 0.5, 1, 0, 1])
    total, count = cross_entropy(logits, labels, weight=weight, class_weights=CLASS_WEIGHTS)
    both = weight * np.array(CLASS_WEIGHTS)[labels]
    p = np.asarray(jax.nn.softmax(np.float64(logits)), np.float64)
    p /= p.sum(axis=1, keepdims=True)
    expected = log_loss(labels, p, sample_weight=both, labels=range(C))
    np.testing.assert_allclose(total / count, expected, rtol=1e-6)  # float32 sums
    np.testing.assert_allclose(count, both.sum(), rtol=1e-6)


def test_class_weights_are_weights_of_rows():
    """So sums add up, smoothing takes part, and the gradient is that of weighted rows."""
    logits, labels = scores()
    rows = np.float32(CLASS_WEIGHTS)[labels]

    def by_class(logits):
        total, count = cross_entropy(
            logits, labels, label_smoothing=0.1, class_weights=CLASS_WEIGHTS
        )
        return total / count

    def by_row(logits):
        total, count = cross_entropy(logits, labels, label_smoothing=0.1, weight=rows)
        return total / count

    ours = jax.jit(jax.value_and_grad(by_class))(logits)
    for a, b in zip(ours, jax.value_and_grad(by_row)(logits), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # float32 sums, other fusions


def test_equal_class_weights_change_nothing():
    logits, labels = scores()
    plain = cross_entropy(logits, labels)
    np.testing.assert_array_equal(cross_entropy(logits, labels, class_weights=(1.0,) * C), plain)


def test_padding_rows_are_harmless_with_class_weights():
    logits, labels = scores()
    weight = np.float32([1, 1, 0, 1, 1, 1, 1, 0, 1])
    kept = weight > 0
    expected = cross_entropy(logits[kept], labels[kept], class_weights=CLASS_WEIGHTS)
    logits[~kept], labels[~kept] = np.nan, -1

    def loss(logits):
        return cross_entropy(logits, labels, weight=weight, class_weights=CLASS_WEIGHTS)

    (total, count), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    np.testing.assert_allclose((total, count), expected, rtol=1e-6)  # float32 sums
    assert (np.asarray(gradient)[~kept] == 0).all()
    assert np.isfinite(gradient).all()


def test_a_label_that_is_no_class_shows_under_class_weights_too():
    logits, labels = scores()
    labels[0] = C
    assert np.isnan(cross_entropy(logits, labels, class_weights=CLASS_WEIGHTS)[0])


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ((1.0, 2.0), r"has the shape \(2,\), but the logits are of 5 classes"),
        ((1.0, 1.0, 1.0, 1.0, -1.0), r"class_weights=\(1, 1, 1, 1, -1\) must be .* not negative"),
        ((1.0, 1.0, 1.0, 1.0, np.inf), "finite"),
        ((0.0,) * C, "leaves no class to learn"),
        (np.ones((C, 1)), "one number a class"),
    ],
)
def test_class_weights_that_cannot_be_are_refused(weights, sentence):
    logits, labels = scores()
    with pytest.raises(ConfigError, match=sentence):
        cross_entropy(logits, labels, class_weights=weights)


@pytest.mark.parametrize("mask", ["none", "rows", "positions"])
def test_tokens_count_one_by_one_where_they_are_known(mask):
    L = 4
    rng = np.random.default_rng(0)
    logits = np.float32(rng.standard_normal((B, L, C)))
    tokens = rng.integers(0, C, (B, L)).astype(np.int32)
    weight = np.float32([1, 1, 0, 1, 1, 1, 1, 1, 1])
    known = {
        "none": np.ones((B, L), bool),
        "rows": np.broadcast_to(np.arange(B)[:, None] % 3 > 0, (B, L)),
        "positions": rng.random((B, L)) < 0.5,
    }[mask]
    masks = {} if mask == "none" else {"words": known[:, 0] if mask == "rows" else known}
    kept = known & (weight > 0)[:, None]
    expected = cross_entropy(logits[kept], tokens[kept], label_smoothing=0.1)
    logits[~kept], tokens[~kept] = np.nan, -1
    batch = Batch.of({}, np.arange(B), targets={"words": tokens}, target_masks=masks)

    def mean(logits):
        outputs = Outputs({}, {}, predictions={"words": Prediction(logits)})
        objective = CrossEntropy(target="words", label_smoothing=0.1)
        term = objective(outputs, batch.replace(weight=weight))
        return term.mean, term

    (value, term), gradient = jax.value_and_grad(mean, has_aux=True)(jnp.asarray(logits))
    np.testing.assert_allclose((term.total, term.count), expected, rtol=1e-6)  # float32 sums
    np.testing.assert_allclose(value, expected[0] / expected[1], rtol=1e-6)
    assert (np.asarray(gradient)[~kept] == 0).all()
    assert (np.asarray(gradient)[kept] != 0).all()
