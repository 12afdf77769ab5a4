"""Weights of classes from counts: closed forms, scikit-learn, limits; and the objectives' use."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from mmjax.errors import ConfigError
from mmjax.objectives import (
    DCCA,
    CrossEntropy,
    EffectiveNumber,
    Focal,
    InverseFrequency,
    cross_entropy,
    focal,
)
from mmjax.structs import Batch, Outputs, Prediction

COUNTS = np.array([500, 50, 7, 1])


def test_inverse_frequency_is_scikit_learn_s_balanced_to_a_factor():
    labels = np.repeat(np.arange(4), COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    ours = np.array(InverseFrequency()(COUNTS))
    np.testing.assert_allclose(ours, balanced * (4 / balanced.sum()), rtol=1e-12)  # float64
    root = np.array(InverseFrequency(power=0.5)(COUNTS))
    np.testing.assert_allclose(root / root[3], COUNTS**-0.5, rtol=1e-12)
    assert InverseFrequency(power=0.0)(COUNTS) == (1.0,) * 4


def test_effective_number_is_a_geometric_sum():
    # Cui et al., proposition 1: the effective number is sum_{j=1..n} beta^(j-1).
    ours = np.array(EffectiveNumber(beta=0.9)(COUNTS))
    numbers = np.array([sum(0.9**j for j in range(count)) for count in COUNTS])
    np.testing.assert_allclose(ours / ours[3], 1 / numbers, rtol=1e-12)  # float64 sums
    assert EffectiveNumber(beta=0.0)(COUNTS) == (1.0,) * 4
    # 1e-4: to first order in (1 - beta) n, here at most 500e-7.
    close = EffectiveNumber(beta=1 - 1e-7)(COUNTS)
    np.testing.assert_allclose(close, InverseFrequency()(COUNTS), rtol=1e-4)


@pytest.mark.parametrize("scheme", [InverseFrequency(), InverseFrequency(0.5), EffectiveNumber()])
def test_weights_sum_to_the_number_of_classes_and_never_fail(scheme):
    for counts in (COUNTS, np.array([10**9, 1]), np.array([3, 0, 9]), np.zeros(2, int)):
        weights = np.array(scheme(counts))
        assert np.isfinite(weights).all()
        np.testing.assert_allclose(weights.sum(), len(counts), rtol=1e-12)  # float64
    assert scheme(np.array([3, 0, 9])) == scheme(np.array([3, 1, 9]))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: InverseFrequency(-1.0), r"InverseFrequency\.power is -1\.0"),
        (lambda: EffectiveNumber(1.0), r"EffectiveNumber\.beta is 1\.0: .* below 1"),
        (lambda: CrossEntropy(class_weights=(1.0, -1.0)), "not negative"),
        (lambda: Focal(class_weights=(0.0, 0.0)), "no class to learn"),
    ],
)
def test_impossible_settings_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def step():
    """Outputs and batch of six rows, the last one padding with values to stumble over."""
    logits = np.float32(np.random.default_rng(0).standard_normal((6, 4)))
    labels = np.array([0, 1, 3, 3, 2, -7], np.int32)
    logits[5] = np.nan
    batch = Batch.of({"x": np.zeros((6, 1))}, np.arange(6), targets={"digit": labels})
    return Outputs({}, {}, predictions={"digit": Prediction(logits)}), batch.replace(
        weight=np.float32([1, 1, 1, 1, 1, 0])
    )


@pytest.mark.parametrize("objective", [CrossEntropy, Focal])
@pytest.mark.parametrize("scheme", [InverseFrequency(), EffectiveNumber(beta=0.9)])
def test_objectives_take_their_weights_from_the_data(objective, scheme):
    outputs, batch = step()
    declared = objective(target="digit", class_weights=scheme)
    assert declared.counted_targets == ("digit",)
    ready = declared.of_data({"digit": COUNTS, "other": np.ones(2)})
    assert ready == dataclasses.replace(declared, class_weights=scheme(COUNTS))
    assert ready.counted_targets == ()
    function = (
        cross_entropy if objective is CrossEntropy else lambda *a, **k: focal(*a, gamma=2.0, **k)
    )
    total, count = function(
        outputs.predictions["digit"].values[:5],
        batch.targets["digit"][:5],
        class_weights=scheme(COUNTS),
    )
    np.testing.assert_allclose(
        jax.jit(ready)(outputs, batch).mean, total / count, rtol=1e-6
    )  # float32
    scaled = dataclasses.replace(ready, class_weights=tuple(7 * w for w in ready.class_weights))
    np.testing.assert_allclose(scaled(outputs, batch).mean, total / count, rtol=1e-6)
    with pytest.raises(ConfigError, match="how many examples each class has: call `of_data`"):
        declared(outputs, batch)


def test_a_batch_of_classes_that_weigh_nothing_is_zero():
    outputs, batch = step()
    for objective in (CrossEntropy, Focal):
        loss = objective(target="digit", class_weights=(1.0, 1.0, 1.0, 0.0))
        only_last = batch.replace(weight=np.float32([0, 0, 1, 1, 0, 0]))
        assert loss(outputs, only_last).mean == 0


def test_other_objectives_are_as_they_were():
    for objective in (
        CrossEntropy(),
        CrossEntropy(class_weights=(1.0, 2.0)),
        Focal(),
        DCCA(views=("a", "b")),
    ):
        assert objective.counted_targets == ()
        assert objective.of_data({}) is objective
