"""Weights of classes from counts: closed forms, scikit-learn, limits; and the objectives' use."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
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
from mmjax.structs import Batch, Outputs

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
        (lambda: Focal(class_weights=(0.0, 0.0)), "are all 0: make at least one"),
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
    return Outputs(embeddings={}, present={}, logits=logits), batch.replace(
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
        outputs.logits[:5], batch.targets["digit"][:5], class_weights=scheme(COUNTS)
    )
    np.testing.assert_allclose(jax.jit(ready)(outputs, batch), total / count, rtol=1e-6)  # float32
    scaled = dataclasses.replace(ready, class_weights=tuple(7 * w for w in ready.class_weights))
    np.testing.assert_allclose(scaled(outputs, batch), total / count, rtol=1e-6)
    with pytest.raises(ConfigError, match="how many examples each class has: call `of_data`"):
        declared(outputs, batch)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("objective", [CrossEntropy, Focal])
def test_two_devices_give_what_one_gives(objective, kind):
    """The weights of a batch are summed over all of it: its halves hold different classes."""
    logits = np.float32(np.random.default_rng(0).standard_normal((8, 4)))
    labels = np.repeat(np.arange(4, dtype=np.int32), 2)
    weight = np.float32([1, 1, 1, 1, 1, 1, 1, 0])
    ready = objective(class_weights=(1.0, 1.0, 5.0, 9.0))

    def loss(logits, labels, weight):
        batch = Batch.of({}, np.arange(8)).replace(weight=weight, targets={"label": labels})
        return ready(Outputs(embeddings={}, present={}, logits=logits), batch)

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    expected = value_and_grad(logits, labels, weight)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec("data"))
        ours = value_and_grad(*(jax.device_put(each, rows) for each in (logits, labels, weight)))
        jax.block_until_ready(ours)
    assert len({str(shard.index) for shard in ours[1].addressable_shards}) == 2
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # float32 sums, taken in halves
    halves = [
        loss(jnp.asarray(logits[h]), labels[h], weight[h])
        for h in (np.tile(np.arange(4), 2), np.tile(np.arange(4, 8), 2))
    ]
    assert abs(np.mean(halves) - expected[0]) > 0.01  # what each device alone would give


def test_a_batch_of_classes_that_weigh_nothing_is_zero():
    outputs, batch = step()
    for objective in (CrossEntropy, Focal):
        loss = objective(target="digit", class_weights=(1.0, 1.0, 1.0, 0.0))
        only_last = batch.replace(weight=np.float32([0, 0, 1, 1, 0, 0]))
        assert loss(outputs, only_last) == 0


def test_other_objectives_are_as_they_were():
    for objective in (
        CrossEntropy(),
        CrossEntropy(class_weights=(1.0, 2.0)),
        Focal(),
        DCCA(views=("a", "b")),
    ):
        assert objective.counted_targets == ()
        assert objective.of_data({}) is objective
