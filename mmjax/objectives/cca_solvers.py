"""Two ways to compute the canonical correlations of two views, with gradients in closed form.

With T = L1^-1 C12 L2^-T of the whitened views:

- exact: a singular value decomposition T = U D V'.
- newton_schulz: the polar factor Q of T by matrix products only, and ||T||_tr = tr(T'Q). For
  accelerators, where a small decomposition is slow.

The gradient of the trace norm is Q = U V', so no decomposition is differentiated, and neither are
the iterations.
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
FLOOR = 1e-3  # relative to the largest singular value; well above float32 rounding
_MARGIN = 1.001  # keeps ratios below 1 if rounding is under 1e-3

Telemetry = dict[str, jax.Array]
_Residuals = tuple[Any, ...]  # a WhitenedPair, what the backward pass needs, two `_empty_like`


def _empty_like(*views: jax.Array) -> tuple[jax.Array, ...]:
    """Empty arrays with the dtypes of the views, which their gradients get."""
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
        weight: row weights, in the working dtype.
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
    rho = jnp.minimum(rho, 1)  # above 1 only by rounding
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
    """The sum of all canonical correlations by matrix products, within `newton_schulz_error`.

    The gradient is in closed form, with the computed polar factor: the gradient of a correlation
    too weak to have converged is scaled by q < 1. Arguments and telemetry are those of
    `exact_correlations`.
    """
    return _newton_schulz_forward(h1, h2, weight, ridge)[0]


def _newton_schulz_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[tuple[jax.Array, Telemetry], _Residuals]:
    pair = whitened_pair(h1, h2, weight, ridge)
    Q = polar_factor(pair.T)
    total = jnp.clip(jnp.sum(pair.T * Q), 0, min(pair.T.shape))  # outside only by rounding
    residuals = (pair, *covariance_gradients(pair, Q), *_empty_like(h1, h2))
    return (total, collapse_telemetry(pair)), residuals


@jax.custom_vjp
def squared_sum(
    h1: Float[Array, "B D1"],
    h2: Float[Array, "B D2"],
    weight: Float[Array, " B"],
    ridge: Float[Array, ""],
) -> Float[Array, ""]:
    """The sum of all squared canonical correlations, ||T||_F^2, without a decomposition.

    Arguments are those of `exact_correlations`.
    """
    return _squared_forward(h1, h2, weight, ridge)[0]


def _squared_forward(
    h1: jax.Array, h2: jax.Array, weight: jax.Array, ridge: jax.Array
) -> tuple[jax.Array, _Residuals]:
    pair = whitened_pair(h1, h2, weight, ridge)
    total = jnp.minimum(jnp.sum(jnp.square(pair.T)), min(pair.T.shape))  # as above
    # As `covariance_gradients(pair, 2 T)`, but T and 2 T share their triangular solves.
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

    maps singular values in [l, 1] into [next l, 1], and this choice of a is optimal. It starts from
    l = FLOOR and T divided by the bound (tr (T'T)^8)^(1/16), which is between the largest singular
    value and K^(1/16) times it. Singular values that are 0 stay 0.

    Args:
        T: any finite matrix.
        iterations: each costs two matrix products.

    Returns:
        U q(D) V' with q between 0 and 1, and close to 1 for D above FLOOR times the bound.

    Reference:
        Chen and Chow, A stable scaling of Newton-Schulz for improving the sign function
        computation of a Hermitian matrix, ANL/MCS-P5059-0114, 2014.
    """
    X = T.T if T.shape[0] < T.shape[1] else T  # so that X'X is the smaller Gram matrix
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
    """The largest error of one canonical correlation by Newton-Schulz, which underestimates it.

    A correlation rho is computed as rho q(rho / b), with q the iteration on a scalar and b the
    bound that T is divided by, at most 1.001 K^(1/16). q increases up to FLOOR, and from there to 1
    it is above q(FLOOR). So from c = b FLOOR on (0.0015 for K = 512) the error is at most
    1 - q(FLOOR); below, the largest rho (1 - q) is found on a fine grid. No correlation is
    overestimated: the loss is at least the exact one, and above it by at most K times this error.
    This holds in exact arithmetic; float32 adds its rounding.

    Args:
        smallest: the smallest correlation, from 0 to 1; with 0 the bound holds for all.
        width: K, the width of the narrower view.
        iterations: iterations of `polar_factor`.

    Returns:
        The bound for one correlation; the error of the sum of K is at most K times that.
    """
    scalings, reached = _schedule(iterations)
    error = 1 - reached
    bound = _MARGIN * width ** (1 / 16)
    if smallest < bound * FLOOR:
        edges = np.geomspace(max(smallest / bound, 1e-4 * FLOOR), FLOOR, 500)
        q = edges
        for a in scalings:
            q = a * q * (3 - np.square(a * q)) / 2
        # Between two edges rho is at most the upper edge, and q at least q of the lower edge.
        error = max(error, float(np.max(bound * edges[1:] * (1 - q[:-1]))))
        if smallest / bound < edges[0]:
            error = max(error, bound * edges[0])
    return float(error)


def _schedule(iterations: int) -> tuple[list[float], float]:
    """The scaling of each iteration, and the value that all iterations map FLOOR to."""
    scalings, low = [], FLOOR
    for _ in range(iterations):
        a = math.sqrt(3 / (1 + low + low * low))
        scalings.append(a)
        low = min(a * low * (3 - (a * low) ** 2) / 2, 1.0)
    return scalings, low
