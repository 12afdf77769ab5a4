"""NOI: against NumPy in float64, towards the directions of linear CCA, and what it remembers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from awkward_views import awkward_view
from flax import nnx
from hypothesis import given, settings

from mmjax.errors import ConfigError
from mmjax.objectives import NOI, LinearCCA, RunningCovariance, noi_loss
from mmjax.structs import Batch, Outputs

B, D = 10, 3
WEIGHT = np.array([1, 0, 2, 1, 0.5, 1, 1, 0, 1, 1])


def views(rows=B, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, D))
    mixed = rng.standard_normal((2, D, D))
    return [common @ A + 0.5 * rng.standard_normal((rows, D)) + 2 for A in mixed]


def covariance(view, weight):
    centred = view - weight @ view / weight.sum()
    return centred.T @ (weight[:, None] * centred) / (weight.sum() - 1), centred


def reference(z1, z2, weight, covariances, ridge):
    """The loss by loops over the views, whitened by SciPy's root; rows of weight 0 are left out."""
    kept = weight > 0
    z1, z2, weight = z1[kept], z2[kept], weight[kept]
    loss = 0.0
    for ours, other, C in ((z1, z2, covariances[1]), (z2, z1, covariances[0])):
        root = scipy.linalg.sqrtm(np.linalg.inv(C + ridge * np.eye(D))).real
        apart = covariance(ours, weight)[1] - covariance(other, weight)[1] @ root
        loss += weight @ np.sum(apart**2, axis=1) / weight.sum()
    return loss


@functools.cache
def value_and_gradients(decay=0.99, ridge=1e-4):
    def run(z1, z2, weight, memory):
        return noi_loss(z1, z2, memory, decay=decay, ridge=ridge, weight=weight)

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_three_batches_agree_with_numpy(weighted):
    """Covariances are means over the batches so far, of which the newest counts most."""
    weight = WEIGHT if weighted else np.ones(B)
    memory, totals, count = None, [0.0, 0.0], 0.0
    with jax.enable_x64(True):
        for seed in range(3):
            z1, z2 = views(seed=seed)
            count = 0.7 * count + 1
            totals = [
                0.7 * total + covariance(z[weight > 0], weight[weight > 0])[0]
                for total, z in zip(totals, (z1, z2), strict=True)
            ]
            expected = reference(z1, z2, weight, [total / count for total in totals], 0.1)
            for z in (z1, z2):
                z[weight == 0] = np.nan
            (loss, memory), gradients = value_and_gradients(0.7, 0.1)(z1, z2, weight, memory)
            np.testing.assert_allclose(loss, expected, rtol=1e-10)  # float64 and a matrix root
            for running, total in zip(memory, totals, strict=True):
                np.testing.assert_allclose(running.mean, total / count, rtol=1e-12, atol=1e-12)
            for gradient in gradients:
                assert (np.asarray(gradient)[weight == 0] == 0).all()
                assert np.isfinite(gradient).all()


def test_the_gradient_is_that_of_the_distance_to_fixed_targets():
    (z1, z2), rng = views(), np.random.default_rng(1)
    with jax.enable_x64(True):
        run = value_and_gradients(0.0, 0.1)
        gradients = run(z1, z2, WEIGHT, None)[1]
        targets = [
            covariance(z, WEIGHT)[1]
            @ scipy.linalg.sqrtm(np.linalg.inv(covariance(z, WEIGHT)[0] + 0.1 * np.eye(D))).real
            for z in (z2, z1)
        ]

        def distance(z, target):
            apart = z - WEIGHT @ z / WEIGHT.sum() - target
            return WEIGHT @ np.sum(apart**2, axis=1) / WEIGHT.sum()

        for z, target, gradient in zip((z1, z2), targets, gradients, strict=True):
            along = rng.standard_normal(z.shape)
            ends = [distance(z + step * along, target) for step in (1e-4, -1e-4)]
            # 1e-8: the distance is a square, so only rounding over the step is left.
            np.testing.assert_allclose(np.sum(gradient * along), (ends[0] - ends[1]) / 2e-4, 1e-8)
        # Not that of the loss as a function of both views: the targets are held.
        moved = run(z1 + 1e-4 * along, z2, WEIGHT, None)[0][0]
        total = (moved - run(z1 - 1e-4 * along, z2, WEIGHT, None)[0][0]) / 2e-4
        assert abs(np.sum(gradients[0] * along) - total) > 1e-2


def test_no_memory_is_an_empty_one_and_decay_0_forgets():
    z1, z2 = map(np.float32, views())
    empty = tuple(RunningCovariance.empty(D) for _ in range(2))
    full = tuple(RunningCovariance(7.0 * jnp.eye(D), jnp.float32(3.0)) for _ in range(2))
    one = np.ones(B, np.float32)

    def loss(decay, memory):
        return value_and_gradients(decay)(z1, z2, one, memory)[0][0]

    assert loss(0.99, None) == loss(0.99, empty) == loss(0.0, full)
    assert abs(loss(0.99, full) - loss(0.99, None)) > 0.1


def test_a_batch_without_a_covariance_changes_no_memory():
    z1, z2 = map(np.float32, views())
    run = value_and_gradients()
    (_, memory), _ = run(z1, z2, np.ones(B, np.float32), None)
    for there in (0, 1):  # rows
        weight = np.float32(np.arange(B) < there)
        (loss, after), gradients = run(z1, z2, weight, memory)
        jax.tree.map(np.testing.assert_array_equal, after, memory)
        assert loss == 0
        assert all((gradient == 0).all() for gradient in gradients)
        (loss, after), _ = run(z1, z2, weight, None)
        assert loss == 0
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def linear_views(rows, seed=0):
    """Two data sets with three strong and some weak canonical correlations."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, 4))
    X = np.concatenate([common + 0.3 * rng.standard_normal((rows, 4)), common[:, :2]], axis=1)
    X[:, 4:] = rng.standard_normal((rows, 2))
    Y = np.concatenate([common + 0.3 * rng.standard_normal((rows, 4)), X[:, :1] ** 2], axis=1)
    Y[:, 3] = rng.standard_normal(rows)
    return X @ rng.standard_normal((6, 6)), Y @ rng.standard_normal((5, 5))


def angle(X, first, second):
    """The largest angle between two sets of directions, as seen on data."""
    return scipy.linalg.subspace_angles(X @ first, X @ second).max()


def test_least_squares_on_a_full_batch_reach_the_directions_of_linear_cca():
    """Each Newton step on the loss, quadratic in linear maps, is one orthogonal iteration."""
    X, Y = (view - view.mean(0) for view in linear_views(200))
    exact = LinearCCA(D, 0.0).fit(X, Y)
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((view.shape[1], D)) for view in (X, Y)]
    inverses = [np.linalg.inv(2 * view.T @ view / 200) for view in (X, Y)]
    with jax.enable_x64(True):

        @jax.jit
        def step(maps):
            def loss(maps):
                return noi_loss(X @ maps[0], Y @ maps[1], decay=0.0, ridge=1e-9)[0]

            gradients = jax.grad(loss)(maps)
            return [A - H @ g for A, H, g in zip(maps, inverses, gradients, strict=True)]

        begun = angle(X, maps[0], exact.weights_[0])
        for _ in range(20):
            maps = step(maps)
    maps = [np.asarray(A) for A in maps]
    assert begun > 0.3
    # Each turn shrinks the angle by the square of the ratio of correlations, here below 0.1.
    for view, found, wanted in zip((X, Y), maps, exact.weights_, strict=True):
        assert angle(view, found, wanted) < 1e-6


def test_small_batches_need_the_memory():
    """Of 3 rows and 3 dimensions: covariances of the batch alone lead to worse directions."""
    X, Y = (view - view.mean(0) for view in linear_views(2000))
    X, Y = (view @ scipy.linalg.sqrtm(np.linalg.inv(np.cov(view.T))).real for view in (X, Y))
    exact = LinearCCA(D, 0.0).fit(X, Y)
    rng = np.random.default_rng(0)
    start = [np.float32(rng.standard_normal((view.shape[1], D))) for view in (X, Y)]
    rows = rng.integers(0, 2000, (1000, 3))

    def run(decay):
        def step(carry, chosen):
            maps, memory = carry
            gradients, memory = jax.grad(
                lambda maps: noi_loss(
                    chosen[0] @ maps[0], chosen[1] @ maps[1], memory, decay=decay
                ),
                has_aux=True,
            )(maps)
            return ([A - 0.05 * g for A, g in zip(maps, gradients, strict=True)], memory), None

        memory = tuple(RunningCovariance.empty(D) for _ in range(2))
        batches = (np.float32(X[rows]), np.float32(Y[rows]))
        (maps, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, memory), batches))()
        sizes = np.linalg.svd(maps[0])[1]
        return angle(X, np.asarray(maps[0]), exact.weights_[0]), sizes.mean()

    (alone, small), (remembered, right) = run(0.0), run(0.99)
    assert remembered < 0.1
    assert alone > 2 * remembered
    # The fixed point is the canonical directions of white views times their correlations, 0.92.
    assert abs(right - 0.92) < 0.1
    assert small < 0.8


@settings(max_examples=40, deadline=None, derandomize=True)
@given(awkward_view(B, D, range(-8, 13)), awkward_view(B, D, range(-8, 13)))
def test_any_finite_views_give_finite_results(h1, h2):
    """Up to 1e17; above 1e18 a square overflows, as documented."""
    (loss, memory), gradients = value_and_gradients()(
        np.float32(h1), np.float32(h2), np.ones(B, np.float32), None
    )
    assert np.isfinite(loss)
    assert loss >= 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((memory, gradients)))


def test_the_rounding_of_a_large_view_is_not_whitened():
    z = np.float32(views()[0] * 1e6)
    z[:, 2] = z[:, 0] + z[:, 1]
    one = np.ones(B, np.float32)
    memory = value_and_gradients(0.0, 1e-10)(z, np.zeros_like(z), one, None)[0][1]
    (loss, _), _ = value_and_gradients(0.0, 1e-10)(np.zeros_like(z), z, one, None)
    # The whitened view has rank 2, and so has the squared length of its rows, up to (B - 1) / B.
    assert np.linalg.cond(memory[0].mean) > 1e5
    lengths = loss - np.mean(np.sum((z - z.mean(0)) ** 2, axis=1))
    assert abs(lengths) / loss < 1e-5
    z1 = z / np.float32(1e6)
    whitened = value_and_gradients(0.0, 1e-10)(np.zeros_like(z), z1, one, None)[0][0]
    rest = whitened - np.mean(np.sum((z1 - z1.mean(0)) ** 2, axis=1))
    np.testing.assert_allclose(rest, 2 * (B - 1) / B, atol=0.1)


@functools.partial(nnx.jit, static_argnames="train")
def run_module(module, outputs, batch, *, train):
    return module(outputs, batch, train=train, rngs=None)


def test_the_config_counts_the_rows_with_both_views():
    config = NOI(views=("image", "audio"), decay=0.7, ridge=0.1)
    whole = dict(zip(config.views, map(np.float32, views()), strict=True))
    present = {view: np.ones(B, bool) for view in config.views}
    present["image"][1] = present["audio"][7] = False
    kept = present["image"] & present["audio"]
    weight = np.float32(kept)
    run = value_and_gradients(0.7, 0.1)
    (expected, after), _ = run(*whole.values(), weight, None)
    whole["image"][1], whole["audio"][7] = np.nan, np.nan
    outputs = Outputs(embeddings=whole, present=present)
    batch = Batch.of({view: np.zeros((B, 1)) for view in whole}, np.arange(B), present=present)
    module = config.build(outputs, rngs=nnx.Rngs(0))
    assert [running.total.shape for running in module.covariances] == [(D, D), (D, D)]
    for train in (False, True):  # only training keeps what it saw
        first = module.covariances
        term = run_module(module, outputs, batch, train=train)
        np.testing.assert_allclose(term.mean, expected, rtol=1e-6)  # two programs in float32
        assert term.telemetry == {}
        found = after if train else first
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
        jax.tree.map(close, module.covariances, found)
    # The second batch meets the covariances of the first.
    other = dict(zip(config.views, map(np.float32, views(seed=1)), strict=True))
    (second, _), _ = run(*other.values(), weight, after)
    (alone, _), _ = run(*other.values(), weight, None)
    term = run_module(module, outputs.replace(embeddings=other), batch, train=False)
    np.testing.assert_allclose(term.mean, second, rtol=1e-5)
    assert abs(second - alone) > 1e-2
    assert config.name == "noi"
    with pytest.raises(ConfigError, match="'imagee': did you mean 'image'"):
        NOI(views=("audio", "imagee")).build(outputs, rngs=nnx.Rngs(0))


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: NOI(views=("a", "a")), "one view twice"),
        (lambda: NOI(views=("a", "b"), decay=1.0), "decay=1.0 must be from 0 to below 1"),
        (lambda: NOI(views=("a", "b"), decay=-0.1), "decay"),
        (lambda: NOI(views=("a", "b"), decay=float("nan")), "decay"),
        (lambda: NOI(views=("a", "b"), ridge=0.0), "ridge=0.0 must be above 0"),
        (lambda: noi_loss(zeros(4, 3), zeros(4, 2)), "widths 3, 2, which must be equal"),
        (lambda: noi_loss(zeros(4, 3), zeros(5, 3)), "the same examples"),
        (lambda: noi_loss(zeros(4, 3), zeros(4)), "flatten"),
        (lambda: noi_loss(zeros(4, 3), zeros(4, 3), ridge=-1), "ridge=-1"),
        (lambda: noi_loss(zeros(4, 3), zeros(4, 3), decay=2), "decay=2"),
        (lambda: noi_loss(zeros(4, 3), zeros(4, 3), weight=zeros(3)), "one weight a row"),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(make)  # nothing is computed before it is refused


def test_what_is_too_large_is_infinite_and_not_nan():
    large = np.random.default_rng(0).standard_normal((B, D)) * 1e25
    (loss, _), _ = value_and_gradients()(
        np.float32(large), np.float32(large[::-1]), np.ones(B, np.float32), None
    )
    assert loss == np.inf
