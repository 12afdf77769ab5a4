"""Soft CCA: against NumPy in float64, and what its running covariances do to the gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from awkward_views import awkward_view
from flax import nnx
from hypothesis import given, settings

from mmjax.errors import ConfigError
from mmjax.objectives import RunningCovariance, SoftCCA, soft_cca_loss
from mmjax.structs import Batch, Outputs

B, D = 10, 3
WEIGHT = np.array([1, 0, 2, 1, 0.5, 1, 1, 0, 1, 1])


def views(seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((B, D))
    return [common @ rng.standard_normal((D, D)) + rng.standard_normal((B, D)) for _ in range(2)]


def normalised(z, weight):
    """Batch normalisation: columns of mean 0 and variance 1."""
    z = z - weight @ z / weight.sum()
    return z / np.sqrt(weight @ z**2 / weight.sum())


def reference(z1, z2, weight, totals, count, decorrelation):
    kept = weight > 0
    weight = weight[kept]
    n1, n2 = (normalised(z[kept], weight) for z in (z1, z2))
    loss = weight @ np.sum((n1 - n2) ** 2, axis=1) / (2 * weight.sum())
    after = []
    for n, total in zip((n1, n2), totals, strict=True):
        total = total + n.T @ (weight[:, None] * n) / weight.sum()
        C = total / (count + 1)
        loss += decorrelation * sum(abs(C[i, j]) for i in range(D) for j in range(D) if i != j)
        after.append(total)
    return loss, after


@functools.cache
def value_and_gradients(decay=0.9, decorrelation=0.3):
    def run(z1, z2, weight, memory):
        options = {"decay": decay, "decorrelation": decorrelation, "weight": weight}
        return soft_cca_loss(z1, z2, memory, **options)

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_three_batches_agree_with_numpy(weighted):
    weight = WEIGHT if weighted else np.ones(B)
    memory, totals, count = None, [np.zeros((D, D))] * 2, 0.0
    with jax.enable_x64(True):
        for seed in range(3):
            z1, z2 = views(seed)
            totals, count = [0.7 * total for total in totals], 0.7 * count
            expected, totals = reference(z1, z2, weight, totals, count, 0.3)
            count += 1
            for z in (z1, z2):
                z[weight == 0] = np.nan
            (loss, memory), gradients = value_and_gradients(0.7)(z1, z2, weight, memory)
            np.testing.assert_allclose(loss, expected, rtol=1e-12)  # float64 sums
            for running, total in zip(memory, totals, strict=True):
                np.testing.assert_allclose(running.mean, total / count, rtol=1e-12, atol=1e-14)
            for gradient in gradients:
                assert (np.asarray(gradient)[weight == 0] == 0).all()
                assert np.abs(gradient).max() > 1e-3


def test_the_gradient_goes_through_the_part_of_this_batch():
    (z1, z2), rng = views(), np.random.default_rng(1)
    with jax.enable_x64(True):
        run = value_and_gradients()
        memory = run(*views(1), WEIGHT, None)[0][1]
        for before in (None, memory):
            gradients = run(z1, z2, WEIGHT, before)[1]
            along = [rng.standard_normal((B, D)) for _ in range(2)]
            ends = [
                run(z1 + step * along[0], z2 + step * along[1], WEIGHT, before)[0][0]
                for step in (1e-5, -1e-5)
            ]
            promised = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
            # 1e-7: the step squared times a third derivative, and rounding over the step.
            np.testing.assert_allclose(promised, (ends[0] - ends[1]) / 2e-5, rtol=1e-7, atol=1e-7)

        # None of it goes to the memory, nor through it to the batch before.
        def of_two_batches(earlier):
            _, memory = soft_cca_loss(earlier, z2)
            return soft_cca_loss(z1, z2, memory)[0] + sum(m.total.sum() for m in memory)

        assert (jax.jit(jax.grad(of_two_batches))(views(1)[0]) == 0).all()


def test_decay_0_is_the_batch_alone_and_no_memory_an_empty_one():
    z1, z2 = map(np.float32, views())
    empty = tuple(RunningCovariance.empty(D) for _ in range(2))
    full = tuple(RunningCovariance(jnp.full((D, D), 0.5), jnp.float32(1.0)) for _ in range(2))
    one = np.ones(B, np.float32)

    def loss(decay, memory):
        return value_and_gradients(decay)(z1, z2, one, memory)[0][0]

    assert loss(0.9, None) == loss(0.9, empty) == loss(0.0, full)
    assert abs(loss(0.9, full) - loss(0.9, None)) > 1e-2
    # Equal views of uncorrelated dimensions are the least: 0.
    best = np.float32(np.linalg.qr(normalised(np.random.default_rng(0).random((B, D)), one))[0])
    assert value_and_gradients(0.0)(best, 3 * best + 1, one, empty)[0][0] < 1e-5


def test_a_batch_without_a_covariance_changes_no_memory():
    z1, z2 = map(np.float32, views())
    run = value_and_gradients()
    (_, memory), _ = run(z1, z2, np.ones(B, np.float32), None)
    for there in (0, 1):  # rows
        (loss, after), gradients = run(z1, z2, np.float32(np.arange(B) < there), memory)
        jax.tree.map(np.testing.assert_array_equal, after, memory)
        assert np.isfinite(loss)
        assert all((gradient == 0).all() for gradient in gradients)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(awkward_view(B, D, range(-8, 25)), awkward_view(B, D, range(-8, 25)))
def test_any_finite_views_give_finite_results(h1, h2):
    (loss, memory), gradients = value_and_gradients()(
        np.float32(h1), np.float32(h2), np.ones(B, np.float32), None
    )
    assert np.isfinite(loss)
    # Correlations of at most 1, and columns at most twice the length of one apart.
    assert 0 <= loss <= 2 * D + 2 * 0.3 * D * (D - 1) + 1e-4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((memory, gradients)))


def test_the_config_counts_the_rows_with_both_views():
    config = SoftCCA(views=("image", "audio"), decay=0.9, decorrelation=0.3)
    whole = dict(zip(config.views, map(np.float32, views()), strict=True))
    present = {view: np.ones(B, bool) for view in config.views}
    present["image"][1] = present["audio"][7] = False
    weight = np.float32(present["image"] & present["audio"])
    run = value_and_gradients()
    (expected, after), _ = run(*whole.values(), weight, None)
    whole["image"][1], whole["audio"][7] = np.nan, np.nan
    outputs = Outputs(embeddings=whole, present=present)
    batch = Batch.of({view: np.zeros((B, 1)) for view in whole}, np.arange(B), present=present)
    module = config.build(outputs, rngs=nnx.Rngs(0))
    term = nnx.jit(lambda module: module(outputs, batch, train=True, rngs=None))(module)
    np.testing.assert_allclose(term.mean, expected, rtol=1e-6)  # two programs in float32
    assert term.telemetry == {}
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, module.covariances, after)
    assert config.name == "soft_cca"


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SoftCCA(views=("a", "a")), "one view twice"),
        (lambda: SoftCCA(views=("a", "b"), decay=1.0), "decay=1.0 must be from 0 to below 1"),
        (lambda: SoftCCA(views=("a", "b"), decorrelation=-1.0), "decorrelation=-1.0 must not be"),
        (lambda: soft_cca_loss(zeros(4, 3), zeros(4, 2)), "must be equal"),
        (lambda: soft_cca_loss(zeros(4, 3), zeros(4, 3), decay=-1), "decay=-1"),
        (lambda: soft_cca_loss(zeros(4, 3), zeros(4, 3), weight=zeros(3)), "one weight a row"),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(make)  # nothing is computed before it is refused
