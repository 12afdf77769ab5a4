"""Two ways to the canonical correlations of two views, and one backward pass for both.

With T = L1^-1 C12 L2^-T of the whitened views:

- exact: T = U D V', a singular value decomposition.
- newton_schulz: the polar factor Q of T by matrix products only, and ||T||_tr = tr(T'Q). For
  accelerators, where a small decomposition is slow.

The trace norm has the gradient Q = U V', so neither way differentiates a decomposition, and the
second does not differentiate its iterations.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from mmjax.objectives.batch_covariance import matmul
from mmjax.objectives.cca_gradients import (
    WhitenedPair,
    covariance_gradients,
    view_gradients,
    whitened_pair,
)
from mmjax.objectives.cca_telemetry import collapse_telemetry

ITERATIONS = 11  # after these a ratio of FLOOR has grown to 1 - 2e-11
FLOOR = 1e-3  # of the largest singular value; a smaller one would meet float32 rounding at the edge
_MARGIN = 1.001  # keeps ratios below 1, where rounding is under 1e-3

Telemetry = dict[str, jax.Array]
_Residuals = tuple[Any, ...]  # a WhitenedPair, what the backward pass needs, two `_empty_like`


def _empty_like(*views: jax.Array) -> tuple[jax.Array, ...]:
    """Empty arrays that carry the types of the views, to which the gradients go back."""
    return tuple(jnp.zeros((0,), h.dtype) for h in views)


def _cotangents(
    gradients: tuple[jax.Array, jax.Array], likes: Sequence[jax.Array], pair: WhitenedPair
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    first, second = (g.astype(like.dtype) for g, like in zip(gradients, likes, strict=True))
    return first, second, jnp.zeros_like(pair.weight), jnp.zeros_like(pair.scale1)


@jax.custom_vjp
def exact_correlations(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> tuple[Float[Array, " K"], Telemetry]:
    """All canonical correlations, largest first, and the telemetry of the views.

    No gradient flows through the telemetry, nor to `weight` and `ridge`.

    Args:
        h1: first view.
        h2: second view.
        weight: of the rows, in the type to work in.
        ridge: added to every variance.

    Returns:
        The correlations, each between 0 and 1, and `collapse_telemetry`.
    """
    rho, telemetry = _exact_forward(h1, h2, weight, ridge)[0]
    return rho, telemetry


def _exact_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[tuple[jax.Array, Telemetry], _Residuals]:
    pair = whitened_pair(h1, h2, weight, ridge)
    U, rho, Vt = jnp.linalg.svd(pair.T, full_matrices=False)
    rho = jnp.minimum(rho, 1)  # only rounding goes above
    A1 = solve_triangular(pair.lower1, U, lower=True, trans=1)  # [D1, K], canonical directions
    A2 = solve_triangular(pair.lower2, Vt.T, lower=True, trans=1)
    return (rho, collapse_telemetry(pair)), (pair, A1, A2, rho, *_empty_like(h1, h2))


def _exact_backward(
    residuals: _Residuals, cotangents: tuple[jax.Array, Telemetry]
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    # d rho_i = a1_i' dC12 a2_i - rho_i/2 (a1_i' dC11 a1_i + a2_i' dC22 a2_i).
    pair, A1, A2, rho, *likes = residuals
    rho_bar = cotangents[0]
    G12 = matmul(A1 * rho_bar[None, :], A2.T)
    G11 = matmul(A1 * (rho_bar * rho)[None, :], A1.T)
    G22 = matmul(A2 * (rho_bar * rho)[None, :], A2.T)
    return _cotangents(view_gradients(pair, G12, G11, G22), likes, pair)


exact_correlations.defvjp(_exact_forward, _exact_backward)


@jax.custom_vjp
def newton_schulz_sum(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> tuple[Float[Array, ""], Telemetry]:
    """The sum of all canonical correlations by matrix products; within `newton_schulz_error`.

    The gradient is closed form with the polar factor as computed: a correlation too weak to have
    converged pulls with the factor q < 1. Arguments and telemetry are those of
    `exact_correlations`.
    """
    return _newton_schulz_forward(h1, h2, weight, ridge)[0]


def _newton_schulz_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[tuple[jax.Array, Telemetry], _Residuals]:
    pair = whitened_pair(h1, h2, weight, ridge)
    Q = polar_factor(pair.T)
    total = jnp.clip(jnp.sum(pair.T * Q), 0, min(pair.T.shape))  # only rounding goes beyond
    residuals = (pair, *covariance_gradients(pair, Q), *_empty_like(h1, h2))
    return (total, collapse_telemetry(pair)), residuals


@jax.custom_vjp
def squared_sum(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> Float[Array, ""]:
    """The sum of all squared canonical correlations, ||T||_F^2: nothing is decomposed.

    Arguments are those of `exact_correlations`.
    """
    return _squared_forward(h1, h2, weight, ridge)[0]


def _squared_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[jax.Array, _Residuals]:
    pair = whitened_pair(h1, h2, weight, ridge)
    total = jnp.minimum(jnp.sum(jnp.square(pair.T)), min(pair.T.shape))  # rounding, as above
    # `covariance_gradients(pair, 2 T)`, without solving for 2 T what is solved for T.
    T, d1 = pair.T, len(pair.T)
    T1 = solve_triangular(pair.lower1, T, lower=True, trans=1)
    left = solve_triangular(pair.lower2, jnp.hstack([T1.T, T.T]), lower=True, trans=1)
    G12, T2 = left[:, :d1].T, left[:, d1:]
    gradients = (2 * G12, 2 * matmul(T1, T1.T), 2 * matmul(T2, T2.T))
    return total, (pair, *gradients, *_empty_like(h1, h2))


def _backward(
    residuals: _Residuals, bar: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    pair, G12, G11, G22, *likes = residuals
    return _cotangents(view_gradients(pair, bar * G12, bar * G11, bar * G22), likes, pair)


newton_schulz_sum.defvjp(
    _newton_schulz_forward, lambda kept, cotangents: _backward(kept, cotangents[0])
)
squared_sum.defvjp(_squared_forward, _backward)


def polar_factor(
    T: Float[Array, "D1 D2"], *, iterations: int = ITERATIONS
) -> Float[Array, "D1 D2"]:
    """The polar factor U V' of T = U D V', by a scaled Newton-Schulz iteration of degree 3.

        X <- a/2 (3 X - a^2 X X'X),    a^2 = 3 / (1 + l + l^2),    l <- a l (3 - a^2 l^2) / 2

    maps singular values between l and 1 to such between the next l and 1, and no choice of a does
    better. It starts from T over the bound (tr (T'T)^8)^(1/16), which is between the largest
    singular value and K^(1/16) times it, and from l = FLOOR. Directions in which T is 0 stay 0.

    Args:
        T: any finite matrix.
        iterations: each costs two matrix products.

    Returns:
        U q(D) V' with q between 0 and 1 and, from FLOOR times the bound on, next to 1.

    Reference:
        Chen and Chow, A stable scaling of Newton-Schulz for improving the sign function
        computation of a Hermitian matrix, ANL/MCS-P5059-0114, 2014.
    """
    X = T.T if T.shape[0] < T.shape[1] else T  # then X'X is the small one
    X = X / jnp.maximum(jnp.max(jnp.abs(X)), jnp.finfo(X.dtype).tiny)
    # The largest entry is 1, so the bound is 1 or more, unless T is zero.
    gram = matmul(X.T, X)
    size = jnp.maximum(jnp.linalg.norm(gram), 1)
    eighth = matmul(gram / size, gram / size)
    eighth = matmul(eighth, eighth)
    bound = jnp.sqrt(size) * jnp.linalg.norm(eighth) ** (1 / 8)
    X = X / (_MARGIN * jnp.maximum(bound, 1))

    def step(X: jax.Array, a: jax.Array) -> tuple[jax.Array, None]:
        return a / 2 * (3 * X - a * a * matmul(X, matmul(X.T, X))), None

    scalings = jnp.asarray(_schedule(iterations)[0], X.dtype)
    X, _ = lax.scan(step, X, scalings)
    return X.T if T.shape[0] < T.shape[1] else X


def newton_schulz_error(smallest: float, *, width: int, iterations: int = ITERATIONS) -> float:
    """How much at most one canonical correlation comes out too small by Newton-Schulz.

    A correlation rho comes out as rho q(rho / b), with q the iteration on a number and b the bound
    that T was divided by, at most 1.001 K^(1/16). Below FLOOR q grows, and from there to 1 it is
    above q(FLOOR). So from c = b FLOOR on (0.0015 for K = 512) at most 1 - q(FLOOR) is lost; below,
    the largest rho (1 - q) is found on a fine grid. None comes out too large: the loss is the exact
    one or up to K times this above it. This is for exact arithmetic; float32 adds its rounding.

    Args:
        smallest: the smallest correlation, from 0 to 1; 0 holds for all.
        width: K, the dimensions of the narrower view.
        iterations: of `polar_factor`.

    Returns:
        The bound for one correlation; the sum of K is off by at most K times that.
    """
    scalings, reached = _schedule(iterations)
    error = 1 - reached
    bound = _MARGIN * width ** (1 / 16)
    if smallest < bound * FLOOR:
        edges = np.geomspace(max(smallest / bound, 1e-4 * FLOOR), FLOOR, 500)
        q = edges
        for a in scalings:
            q = a * q * (3 - np.square(a * q)) / 2
        # Between two edges rho is at most the upper one, and q at least that of the lower one.
        error = max(error, float(np.max(bound * edges[1:] * (1 - q[:-1]))))
        if smallest / bound < edges[0]:
            error = max(error, bound * edges[0])
    return float(error)


def _schedule(iterations: int) -> tuple[list[float], float]:
    """The scaling of each iteration, and to what the last one has brought FLOOR."""
    scalings, low = [], FLOOR
    for _ in range(iterations):
        a = math.sqrt(3 / (1 + low + low * low))
        scalings.append(a)
        low = min(a * low * (3 - (a * low) ** 2) / 2, 1.0)
    return scalings, low
