"""The joint embedding loss: against loops; it collapses without a margin, and with one does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.objectives import joint_embedding

B, D = 7, 3


def views(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.array([0, 0, 1, 2, 2, 2, 3])
    return (
        rng.standard_normal((B, D)),
        rng.standard_normal((B, D)),
        (labels[:, None] == labels[None, :]) * rng.uniform(0.5, 2, (B, B)),
    )


def reference(f, g, s, regularization, margin, weight):
    close, close_count, far, far_count = 0.0, 0.0, 0.0, 0.0
    for i in range(B):
        for j in range(B):
            pair = weight[i] * weight[j]
            distance = np.linalg.norm(f[i] - g[j])
            close += pair * s[i, j] * distance**2
            close_count += pair * s[i, j]
            if s[i, j] == 0 and margin is not None:
                far += pair * max(0, margin - distance) ** 2
                far_count += pair
    norms = sum(weight[i] * (f[i] @ f[i] + g[i] @ g[i]) for i in range(B)) / weight.sum()
    return close / close_count + regularization * norms + (far / far_count if far_count else 0)


@pytest.mark.parametrize("margin", [None, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_loops(margin, weighted):
    f, g, s = views()
    weight = np.array([1, 0, 2, 1, 0.5, 1, 1]) if weighted else np.ones(B)
    expected = reference(f, g, s, 0.3, margin, weight)
    options = {"regularization": 0.3, "margin": margin, "weight": weight if weighted else None}
    with jax.enable_x64(True):
        np.testing.assert_allclose(joint_embedding(f, g, s, **options), expected, rtol=1e-12)
    single = joint_embedding(*map(jnp.float32, (f, g, s)), **options)
    np.testing.assert_allclose(single, expected, rtol=1e-5)  # float32 rounding


def test_plain_sum_is_the_documented_multiple():
    f, g, s = views()
    plain = sum(
        s[i, j] * np.sum(np.square(f[i] - g[j])) for i in range(B) for j in range(B)
    ) + 0.3 * (np.sum(f**2) + np.sum(g**2))
    with jax.enable_x64(True):
        ours = s.sum() * joint_embedding(f, g, s, regularization=0.3 * B / s.sum())
        np.testing.assert_allclose(ours, plain, rtol=1e-12)  # float64 rounding


def test_value_does_not_depend_on_the_size_of_the_batch():
    f, g, s = views()
    with jax.enable_x64(True):
        once = joint_embedding(f, g, s, regularization=0.3, margin=2.0)
        f, g, s = np.tile(f, (2, 1)), np.tile(g, (2, 1)), np.tile(s, (2, 2))
        twice = joint_embedding(f, g, s, regularization=0.3, margin=2.0)
        np.testing.assert_allclose(twice, once, rtol=1e-12)  # float64 rounding


def test_gradient_agrees_with_finite_differences():
    f, g, s = views()
    df, dg, _ = views(seed=1)
    with jax.enable_x64(True):

        @jax.jit
        def along(t):
            return joint_embedding(f + t * df, g + t * dg, s, regularization=0.3, margin=2.0)

        numeric = (along(1e-5) - along(-1e-5)) / 2e-5
        # 1e-8: step^2 times third derivatives of order 10, 1e-15 / step of rounding.
        np.testing.assert_allclose(jax.grad(along)(0.0), numeric, rtol=1e-8)


def descend(margin):
    f, g, s = (jnp.float32(a) for a in views())

    @jax.jit
    def run(pair):
        gradient = jax.grad(lambda p: joint_embedding(*p, s, regularization=0.05, margin=margin))
        move = lambda _, p: jax.tree.map(lambda z, d: z - 0.3 * d, p, gradient(p))  # noqa: E731
        return jax.lax.fori_loop(0, 3000, move, pair)

    return run((f, g))


def test_without_a_margin_everything_collapses_to_zero():
    f, g = descend(margin=None)
    assert jnp.linalg.norm(f, axis=1).max() < 0.05
    assert jnp.linalg.norm(g, axis=1).max() < 0.05


def test_with_a_margin_meanings_stay_apart():
    f, g = descend(margin=2.0)
    _, _, s = views()
    distance = np.linalg.norm(np.asarray(f)[:, None] - np.asarray(g)[None, :], axis=2)
    assert distance[s == 0].min() > 1
    assert distance[s > 0].max() < 0.2


def test_collapsed_embeddings_have_a_finite_gradient():
    zero = jnp.zeros((B, D))
    s = jnp.eye(B)
    value, gradients = jax.jit(
        jax.value_and_grad(
            lambda f, g: joint_embedding(f, g, s, regularization=0.1, margin=2.0), argnums=(0, 1)
        )
    )(zero, zero)
    assert value == 4
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("filler", [1e30, np.nan, np.inf])
def test_rows_of_weight_zero_are_not_there(filler):
    f, g, s = (np.float32(a) for a in views())
    kept = np.array([1, 1, 0, 1, 1, 1, 0], bool)
    loss = jax.jit(
        jax.value_and_grad(
            lambda f, g, s, w: joint_embedding(f, g, s, regularization=0.1, margin=2.0, weight=w),
            argnums=(0, 1),
        )
    )
    expected, others = loss(f[kept], g[kept], s[kept][:, kept], None)
    f[~kept], g[~kept], s[~kept], s[:, ~kept] = filler, filler, filler, filler
    value, gradients = loss(f, g, s, kept)
    np.testing.assert_allclose(value, expected, rtol=1e-6)  # float32 sums in another order
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient[kept], other, atol=1e-6)
        assert (np.asarray(gradient)[~kept] == 0).all()


def test_bfloat16_is_summed_in_float32():
    f, g, s = views()
    value = joint_embedding(
        jnp.bfloat16(f), jnp.bfloat16(g), jnp.float32(s), regularization=0.3, margin=2.0
    )
    assert value.dtype == jnp.float32
    # 2 %: the embeddings themselves keep 8 bits.
    np.testing.assert_allclose(value, reference(f, g, s, 0.3, 2.0, np.ones(B)), rtol=0.02)


def test_what_cannot_work_is_refused():
    f, g, s = (jnp.float32(a) for a in views())
    with pytest.raises(ValueError, match="one number for every pair"):
        joint_embedding(f, g, s[:3], regularization=0.1)
    with pytest.raises(ValueError, match="must be equal"):
        joint_embedding(f, g[:, :2], s, regularization=0.1)
    with pytest.raises(ValueError, match="regularization=-1"):
        joint_embedding(f, g, s, regularization=-1.0)
    with pytest.raises(ValueError, match="margin=0"):
        joint_embedding(f, g, s, regularization=0.1, margin=0.0)


def test_near_equal_negatives_are_pushed_apart_with_full_force():
    rng = np.random.default_rng(0)
    f, g, toward = rng.standard_normal((3, 2, 64))
    f, g = (24 * view / np.linalg.norm(view, axis=1)[:, None] for view in (f, g))
    g[1] = f[0] + 8e-4 * toward[0] / np.linalg.norm(toward[0])  # a negative pair, norms of 24

    def of_margin(f):
        # Both losses are means; of the two negative pairs one is within the margin.
        with_it, without = (
            joint_embedding(f, jnp.float32(g), jnp.eye(2), regularization=0.0, margin=margin)
            for margin in (1.0, None)
        )
        return 2 * (with_it - without)

    slope = jax.jit(jax.grad(of_margin))(jnp.float32(f))
    # d/dd (1 - d)^2 = -2 (1 - d), here 1.998; 1e-2: of the rounding of the views, 1e-6, over d.
    np.testing.assert_allclose(np.linalg.norm(slope[0]), 2 * (1 - 8e-4), rtol=1e-2)
    np.testing.assert_allclose(slope[1], 0, atol=1e-5)
