"""Losses of many views against NumPy in float64, the linear estimators, and known optima."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mmjax.objectives import (
    GCCA,
    MCCA,
    barlow_twins,
    canonical_correlations,
    dcca_loss,
    dgcca_loss,
    dmcca_loss,
    dtcca_loss,
    eckart_young_loss,
    vicreg,
)

N, WIDTHS = 60, (5, 4, 3)
# What the losses are in float64 is looked at, and not the code that the compiler makes of them.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
dcca = jit(dcca_loss, static_argnames="k")
correlations = jit(canonical_correlations)
dgcca, dmcca = (jit(f, static_argnames=("ridge", "k")) for f in (dgcca_loss, dmcca_loss))
dtcca = jit(dtcca_loss, static_argnames=("ridge", "k", "iterations"))
barlow = jit(barlow_twins, static_argnames="redundancy")
TERMS = ("invariance", "variance", "covariance", "target", "epsilon")
vic = jit(vicreg, static_argnames=TERMS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def views(widths=WIDTHS, seed=0):
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((N, 5))
    mixed = np.random.default_rng(8).standard_normal((5, 5))
    return [common[:, :d] @ mixed[:d, :d] + rng.standard_normal((N, d)) + d for d in widths]


def maps(seed, shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def mapped(whole, matrices):
    return [view @ A for view, A in zip(whole, matrices, strict=True)]


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_dgcca_is_the_maxvar_of_projections_over_examples(ridge):
    whole, k = views(), 2
    X = [v - v.mean(0) for v in whole]
    hats = [x @ np.linalg.solve(x.T @ x + (N - 1) * ridge * np.eye(x.shape[1]), x.T) for x in X]
    expected = 3 * k - np.linalg.eigvalsh(sum(hats))[::-1][:k].sum()
    np.testing.assert_allclose(dgcca(whole, ridge=ridge, k=k), expected, rtol=1e-10)
    theirs = 3 * k - GCCA(k, ridge).fit(*whole).eigenvalues_.sum()
    np.testing.assert_allclose(expected, theirs, rtol=1e-10)


def test_the_best_linear_maps_for_dgcca_are_those_of_gcca():
    whole, k = views(), 2
    gcca = GCCA(k, 0.0).fit(*whole)
    best = 3 * k - gcca.eigenvalues_.sum()
    np.testing.assert_allclose(dgcca(mapped(whole, gcca.weights_), ridge=0.0), best, rtol=1e-10)
    for seed in range(20):
        assert dgcca(mapped(whole, maps(seed, [(d, k) for d in WIDTHS])), ridge=0.0) > best + 1e-3


def test_dgcca_and_dtcca_do_not_see_invertible_maps():
    whole = views()
    turned = mapped(whole, maps(3, [(d, d) for d in WIDTHS]))
    shifted = [view + 5 for view in turned]
    for loss in (dgcca, lambda v, ridge: dtcca(v, ridge=ridge, iterations=200)):
        # 1e-8: float64 rounding times squared condition numbers of the maps, 1e4.
        np.testing.assert_allclose(loss(shifted, ridge=0.0), loss(whole, ridge=0.0), rtol=1e-8)


def test_equal_views_are_the_best_of_all_and_every_eigenvalue_is_repeated():
    view = views()[1]
    loss, gradients = jit(jax.value_and_grad(lambda v: dgcca_loss(v, ridge=0.0, k=2)))([view] * 3)
    np.testing.assert_allclose(loss, 0, atol=1e-10)
    assert all(np.abs(gradient).max() < 1e-10 for gradient in gradients)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("k", [2, None])
def test_dmcca_is_a_generalised_eigenproblem(ridge, k):
    whole = views((4, 4, 4))
    X = [v - v.mean(0) for v in whole]
    within = sum(x.T @ x for x in X) / (N - 1)
    between = sum(X[v].T @ X[w] for v in range(3) for w in range(3) if v != w) / (N - 1)
    rho = scipy.linalg.eigh(between, 2 * (within + 3 * ridge * np.eye(4)), eigvals_only=True)
    loss = dmcca(whole, ridge=ridge, k=k)
    np.testing.assert_allclose(loss, -rho[::-1][:k].mean(), rtol=1e-10)
    if ridge == 0:
        (A,) = maps(4, [(4, 4)])
        turned = dmcca(mapped(whole, [A] * 3), ridge=0.0, k=k)
        np.testing.assert_allclose(turned, loss, rtol=1e-8)


def test_dmcca_runs_from_equal_to_opposed_views():
    view = views()[0]
    np.testing.assert_allclose(dmcca([view] * 3, ridge=0.0), -1, atol=1e-10)
    np.testing.assert_allclose(dmcca([view, -view], ridge=0.0), 1, atol=1e-10)


@pytest.mark.parametrize("k", [1, 3])
def test_dtcca_of_two_views_is_cca(k):
    first, second = views()[:2]
    rho = correlations(first, second)[:k]
    np.testing.assert_allclose(rho.sum(), -dcca(first, second, k=k), rtol=1e-12)
    expected = jnp.sqrt(jnp.sum(jnp.square(rho)))
    np.testing.assert_allclose(dtcca([first, second], k=k), -expected, rtol=1e-10)


def test_dtcca_finds_the_best_rank_one_of_many_starts():
    whole = [view + 0.3 * view**2 for view in views()]
    Z = []
    for v in whole:
        x = v - v.mean(0)
        values, Q = np.linalg.eigh(np.cov(x.T) + 0.1 * np.eye(x.shape[1]))
        Z.append(x @ Q / np.sqrt(values) @ Q.T)
    M = np.einsum("na,nb,nc->abc", *Z) / (N - 1)
    rng, best = np.random.default_rng(0), 0.0
    for _ in range(50):
        b, c = rng.standard_normal(4), rng.standard_normal(3)
        for _ in range(100):
            a = np.einsum("abc,b,c->a", M, b, c)
            a /= np.linalg.norm(a)
            b = np.einsum("abc,a,c->b", M, a, c)
            b /= np.linalg.norm(b)
            c = np.einsum("abc,a,b->c", M, a, b)
            best = max(best, np.linalg.norm(c))
            c /= np.linalg.norm(c)
    # 1e-6: twenty sweeps come that near.
    np.testing.assert_allclose(dtcca(whole, ridge=0.1, k=1), -best, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_dtcca_sees_what_no_pair_of_views_shows(k):
    # Two triples of signs, each the product of the others: all pairs are uncorrelated.
    a, b, c, d = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1)
    whole = [np.stack(pair, 1) for pair in ((a, c), (b, d), (a * b, c * d))]
    turned = mapped(whole, maps(5, [(2, 2)] * 3))
    # Variances are 16/15, so that M is sqrt(15/16) (e1 o e1 o e1 + e2 o e2 o e2).
    expected = -np.sqrt(k * 15 / 16)
    loss = dtcca(turned, k=k, ridge=0.0, iterations=50)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(dgcca(turned, k=k, ridge=0.0), 2 * k, rtol=1e-10)


def test_more_rank_never_costs():
    whole = [view + 0.3 * view**2 for view in views()]
    assert dtcca(whole, ridge=0.1, k=3) < dtcca(whole, ridge=0.1, k=1) - 0.01


def test_the_best_linear_maps_for_eckart_young_are_those_of_mcca():
    whole, k = views(), 2
    C = np.cov(np.concatenate(whole, axis=1).T)
    ends = np.cumsum([0, *WIDTHS])
    blocks = [slice(*ends[i : i + 2]) for i in range(3)]
    within = scipy.linalg.block_diag(*(C[block, block] for block in blocks))
    values, E = scipy.linalg.eigh(C - within, within)
    top = E[:, ::-1][:, :k] * np.sqrt(values[::-1][:k])
    best = -np.square(MCCA(k, 0.0).fit(*whole).eigenvalues_).sum()
    run = jit(
        jax.value_and_grad(
            lambda matrices: eckart_young_loss(
                [jnp.asarray(v) @ A for v, A in zip(whole, matrices, strict=True)]
            )
        )
    )
    optimum = [jnp.asarray(top[block]) for block in blocks]
    loss, gradients = run(optimum)
    np.testing.assert_allclose(loss, best, rtol=1e-10)
    assert all(np.abs(gradient).max() < 1e-9 for gradient in gradients)
    for seed in range(20):
        noise = maps(seed, [(d, k) for d in WIDTHS])
        assert run([A + 0.1 * e for A, e in zip(optimum, noise, strict=True)])[0] > best


def test_barlow_twins_is_its_equation():
    z1, z2 = views((4, 4))
    R = np.corrcoef(z1.T, z2.T)[:4, 4:]
    on = np.square(1 - np.diag(R)).sum()
    off = np.square(R).sum() - np.square(np.diag(R)).sum()
    np.testing.assert_allclose(barlow(z1, z2, redundancy=0.1), on + 0.1 * off, rtol=1e-10)
    scaled = barlow(1e6 * z1 + 3, z2 * np.array([1e-6, 1, 2, 3]), redundancy=0.1)
    np.testing.assert_allclose(scaled, on + 0.1 * off, rtol=1e-8)


def test_a_constant_dimension_costs_barlow_twins_one_and_gives_no_gradient():
    z1, z2 = views((4, 4))
    z1[:, 2] = 7.3
    rest = [0, 1, 3]
    R = np.corrcoef(z1[:, rest].T, z2.T)[:3, 3:]
    across = np.square(R).sum() - sum(R[i, j] ** 2 for i, j in enumerate(rest))
    expected = 1 + sum((1 - R[i, j]) ** 2 for i, j in enumerate(rest)) + 5e-3 * across
    loss, gradient = jit(jax.value_and_grad(barlow_twins))(jnp.asarray(z1), jnp.asarray(z2))
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    assert (gradient[:, 2] == 0).all()


def test_vicreg_is_its_equations():
    z1, z2 = (0.7 * view for view in views((4, 4)))
    expected = 3 * np.square(z1 - z2).sum(1).mean()
    for z in (z1, z2):
        C = np.cov(z.T)
        expected += 5 * np.maximum(0, 2.5 - np.sqrt(np.diag(C) + 0.01)).mean()
        expected += 0.3 * (np.square(C).sum() - np.square(np.diag(C)).sum()) / 4
    ours = vic(z1, z2, invariance=3.0, variance=5.0, covariance=0.3, target=2.5, epsilon=0.01)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_vicreg_pushes_collapsed_views_apart_only_by_its_variance_term():
    flat = jnp.ones((N, 3))
    np.testing.assert_allclose(vic(flat, flat), 2 * 25 * (1 - 0.01), rtol=1e-10)
