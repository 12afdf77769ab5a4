"""Schedules at their corners, what the optimizers do to one gradient by hand, and to which part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.training import SGD, AdamW, Constant, Cosine, PerPart

PEAK, STEPS = 0.5, 100


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), {0: PEAK, 1: PEAK, 100: PEAK}),
        (Constant(warmup_steps=10), {0: 0, 5: PEAK / 2, 10: PEAK, 11: PEAK, 100: PEAK}),
        (Cosine(), {0: PEAK, 50: PEAK / 2, 100: 0}),
        (Cosine(final=0.1), {0: PEAK, 50: 0.55 * PEAK, 100: 0.1 * PEAK, 200: 0.1 * PEAK}),
        (Cosine(warmup_steps=20), {0: 0, 10: PEAK / 2, 20: PEAK, 60: PEAK / 2, 100: 0}),
        (Cosine(warmup_steps=99), {0: 0, 99: PEAK, 100: 0}),
    ],
    ids=str,
)
def test_rates(schedule, expected):
    rate = schedule.build(PEAK, STEPS)
    # 1e-7: float32 around 0.5.
    np.testing.assert_allclose([rate(step) for step in expected], [*expected.values()], atol=1e-7)


@pytest.mark.parametrize("schedule", [Constant, Cosine])
@pytest.mark.parametrize("warmup", [STEPS, STEPS + 1, -1])
def test_a_warm_up_has_to_fit_in_the_run(schedule, warmup):
    optimizer = AdamW(schedule=schedule(warmup_steps=warmup))
    with pytest.raises(ConfigError, match=f"warm-up of {warmup} steps .* from 0 to 99"):
        optimizer.build(STEPS)


PARAMS = {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full((3,), 2.0)}
GRADIENT = {"kernel": jnp.full((2, 3), 3.0), "bias": jnp.full((3,), -4.0)}
NORM = np.sqrt(6 * 9 + 3 * 16)


def update(optimizer, gradient, steps=1):
    """The updates of the last of some steps with the same gradient."""
    transformation = optimizer.build(STEPS)
    state = transformation.init(PARAMS)
    for _ in range(steps):
        updates, state = transformation.update(gradient, state, PARAMS)
    return jax.device_get(updates)


def assert_updates(updates, kernel, bias):
    # 1e-4: Adam divides by 1 - 0.999^n, of which float32 keeps 4 digits.
    np.testing.assert_allclose(updates["kernel"], np.full((2, 3), kernel), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(updates["bias"], np.full(3, bias), rtol=1e-4, atol=1e-9)


def test_weight_decay_is_of_matrices_only():
    nothing = jax.tree.map(jnp.zeros_like, GRADIENT)
    updates = update(AdamW(learning_rate=0.1, weight_decay=0.5), nothing)
    assert_updates(updates, -0.1 * 0.5 * 2.0, 0)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_adam_steps_by_the_sign_of_a_steady_gradient(clip_norm):
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.0, clip_norm=clip_norm)
    assert_updates(update(optimizer, GRADIENT, steps=2), -0.1, 0.1)


def test_the_rate_follows_the_schedule():
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.0, schedule=Constant(warmup_steps=10))
    assert_updates(update(optimizer, GRADIENT, steps=4), -0.03, 0.03)


def test_sgd_with_momentum():
    optimizer = SGD(learning_rate=0.1, momentum=0.9)
    assert_updates(update(optimizer, GRADIENT, steps=1), -0.3, 0.4)
    assert_updates(update(optimizer, GRADIENT, steps=2), -0.3 * 1.9, 0.4 * 1.9)


@pytest.mark.parametrize(
    ("clip_norm", "factor"), [(0.0, 1.0), (1.0, 1 / NORM), (NORM + 1, 1.0)], ids=str
)
def test_clipping_is_by_the_global_norm(clip_norm, factor):
    optimizer = SGD(learning_rate=0.1, momentum=0.0, clip_norm=float(clip_norm))
    assert_updates(update(optimizer, GRADIENT), -0.3 * factor, 0.4 * factor)


NAMES = {
    "model": {
        "encoders": {"image": {"kernel": 0, "bias": 0}, "imagery": {"kernel": 0}},
        "heads": {"label": {"kernel": 0}},
    },
    "objectives": {"0": {"temperature": 0}},
}
TREE = jax.tree.map(lambda _: jnp.full((2, 2), 2.0), NAMES)


def plain(rate, **options):
    return SGD(learning_rate=rate, momentum=0.0, **options)


def updates_of(optimizer, gradient=1.0):
    """Dotted name -> the update of one of its equal numbers."""
    transformation = optimizer.build(STEPS)
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), TREE)
    updates, _ = transformation.update(gradients, transformation.init(TREE), TREE)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {n: float(leaf[0, 0]) for n, (_, leaf) in zip(names, leaves, strict=True)}


def test_each_part_has_its_own_optimizer_and_the_longest_beginning_counts():
    optimizer = PerPart(
        {
            "encoders": plain(0.1),
            "encoders.image": plain(0.2),
            "encoders.image.bias": plain(0.3),
            "objectives": plain(0.4),
        },
        others=plain(0.5),
    )
    assert updates_of(optimizer) == pytest.approx(
        {
            "model.encoders.image.bias": -0.3,
            "model.encoders.image.kernel": -0.2,
            "model.encoders.imagery.kernel": -0.1,  # of which `encoders.image` is no part
            "model.heads.label.kernel": -0.5,
            "objectives.0.temperature": -0.4,
        }
    )


def test_each_part_clips_its_own_gradient():
    optimizer = PerPart({"heads": plain(1.0, clip_norm=1.0)}, others=plain(1.0))
    found = updates_of(optimizer, gradient=3.0)
    assert found["model.heads.label.kernel"] == pytest.approx(-3 / 6)  # the norm of four threes
    assert found["model.encoders.image.kernel"] == -3


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (
            "encoder",
            r"PerPart, 'encoder': did you mean 'encoders.image'\? Available: encoders.image",
        ),
        ("encoders.imag", "did you mean 'encoders.image'"),
        (
            "model.encoders",
            "Available: encoders.image, encoders.imagery, heads.label, objectives.0",
        ),
    ],
)
def test_a_part_without_parameters_is_refused_with_the_nearest_name(part, sentence):
    with pytest.raises(ConfigError, match=sentence):
        PerPart({part: plain(0.1)}).build(STEPS).init(TREE)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: AdamW(epsilon=-1.0), "optimizer.epsilon is -1.0: it must be above 0"),
        (lambda: AdamW(epsilon=0.0), "optimizer.epsilon is 0.0: it must be above 0"),
        (lambda: Cosine(final=-5.0), "Cosine.final is -5.0: it must be 0 or more"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
