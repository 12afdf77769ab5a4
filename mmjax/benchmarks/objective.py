"""Times losses with their gradients, and compares them with their matrix products alone."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mmjax.errors import ConfigError, unknown_name
from mmjax.objectives import (
    barlow_twins,
    dcca_loss,
    eckart_young_loss,
    info_nce,
    sigmoid_contrastive,
    squared_cca_loss,
    vicreg,
)
from mmjax.objectives.cca_solvers import ITERATIONS

WARM_UP = 2  # rounds that are not timed


@dataclasses.dataclass(frozen=True)
class TimedLoss:
    """A loss, and the matrix products that it and its gradient need.

    Attributes:
        value: from two views [B, D] to the loss.
        products: from two views [B, D] to the results of these products.
    """

    value: Callable[[jax.Array, jax.Array], jax.Array]
    products: Callable[[jax.Array, jax.Array], Any]


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """A matrix product in full precision, as in the losses."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def cca_products(
    h1: Float[Array, "B D"], h2: Float[Array, "B D"], square: int
) -> tuple[jax.Array, ...]:
    """The matrix products of a CCA loss: seven of 2 B D^2 FLOPs, and some of 2 D^3.

    Forward: C11 = h1'h1, C12 = h1'h2 and C22 = h2'h2. Backward, as in `view_gradients`: h2 G12',
    h1 G11, h1 G12 and h2 G22, here with the covariances instead of their gradients. Factorisations,
    triangular solves and decompositions are not included.

    Args:
        h1: first view.
        h2: second view.
        square: number of consecutive products of two [D, D] matrices.
    """
    C11, C12, C22 = matmul(h1.T, h1), matmul(h1.T, h2), matmul(h2.T, h2)
    root = C12 / len(h1)  # small enough that its powers do not overflow
    power = lax.fori_loop(0, square, lambda _, M: matmul(root, M), root)
    return matmul(h2, C12.T), matmul(h1, C11), matmul(h1, C12), matmul(h2, C22), power


def _within_products(h1: jax.Array, h2: jax.Array) -> tuple[jax.Array, ...]:
    # The covariances within the views and back: four of 2 B D^2.
    return matmul(h1, matmul(h1.T, h1)), matmul(h2, matmul(h2.T, h2))


def _between_products(h1: jax.Array, h2: jax.Array) -> tuple[jax.Array, ...]:
    # The covariance between the views and back: three of 2 B D^2.
    C12 = matmul(h1.T, h2)
    return matmul(h2, C12.T), matmul(h1, C12)


def _pair_products(h1: jax.Array, h2: jax.Array) -> tuple[jax.Array, ...]:
    # All pairs of rows and back: three of 2 B^2 D.
    S = matmul(h1, h2.T)
    return matmul(S, h2), matmul(S.T, h1)


LOSSES: Mapping[str, TimedLoss] = {
    # G12, G11 and G22 of `exact_correlations`.
    "dcca": TimedLoss(dcca_loss, lambda a, b: cca_products(a, b, 3)),
    # Two per iteration, three for the bound on the largest singular value, G11 and G22.
    "dcca_newton_schulz": TimedLoss(
        lambda a, b: dcca_loss(a, b, solver="newton_schulz"),
        lambda a, b: cca_products(a, b, 2 * ITERATIONS + 5),
    ),
    "squared_cca": TimedLoss(squared_cca_loss, lambda a, b: cca_products(a, b, 2)),
    "eckart_young": TimedLoss(lambda a, b: eckart_young_loss((a, b)), _within_products),
    "barlow_twins": TimedLoss(barlow_twins, _between_products),
    "vicreg": TimedLoss(vicreg, _within_products),
    "info_nce": TimedLoss(lambda a, b: info_nce(a, b, temperature=0.1), _pair_products),
    "sigmoid": TimedLoss(
        lambda a, b: sigmoid_contrastive(a, b, temperature=10.0, bias=-10.0), _pair_products
    ),
}


@dataclasses.dataclass(frozen=True)
class ObjectiveTimes:
    """Times of one loss at one width; medians over rounds, and quartiles.

    Attributes:
        loss: its name in `LOSSES`.
        width: D of both views.
        value: value of the loss on the timed views.
        ms: the loss with its gradient with respect to both views.
        ms_quartiles: first and third quartile of `ms`.
        products_ms: only the matrix products of both; see `LOSSES`.
        products_ms_quartiles: first and third quartile of `products_ms`.
        ratio: of `ms` to `products_ms` in the same round.
        ratio_quartiles: first and third quartile of `ratio`.
    """

    loss: str
    width: int
    value: float
    ms: float
    ms_quartiles: tuple[float, float]
    products_ms: float
    products_ms_quartiles: tuple[float, float]
    ratio: float
    ratio_quartiles: tuple[float, float]


def bench_objective(
    losses: Sequence[str] = tuple(LOSSES),
    widths: Sequence[int] = (64, 256, 1024),
    *,
    batch_size: int = 4096,
    precision: str = "float32",
    rounds: int = 20,
) -> list[ObjectiveTimes]:
    """Times losses on the first device, in alternation, so that noise affects all in the same way.

    The views share half of their variance, and are on the device. They have the dtype `precision`;
    losses and products always compute in float32.

    Args:
        losses: names in `LOSSES`.
        widths: D of the views.
        batch_size: B.
        precision: dtype of the views, "float32" or "bfloat16".
        rounds: timed calls of each, after `WARM_UP` untimed ones.

    Returns:
        The times, ordered by width.

    Raises:
        ConfigError: unknown loss or precision, a width or number of rounds that is too small, or a
            batch too small for a loss; before anything is timed.
    """
    for name in losses:
        if name not in LOSSES:
            raise unknown_name("loss", name, LOSSES)
    if precision not in ("float32", "bfloat16"):
        raise unknown_name("precision", precision, ("float32", "bfloat16"))
    for option, least, sizes in (
        ("--rounds", 2, [rounds]),
        ("--batch-size", 2, [batch_size]),
        ("--width", 1, widths),
    ):
        if min(sizes) < least:
            raise ConfigError(f"{option} is {min(sizes)}: it must be {least} or more.")
    losses, widths = list(dict.fromkeys(losses)), list(dict.fromkeys(widths))
    for width in widths:
        shape = jax.ShapeDtypeStruct((batch_size, width), precision)
        for name in losses:
            jax.eval_shape(LOSSES[name].value, shape, shape)  # raises for impossible shapes
    return [
        times
        for width in widths
        for times in _at_width(losses, width, batch_size, precision, rounds)
    ]


def _at_width(
    losses: Sequence[str], width: int, batch_size: int, precision: str, rounds: int
) -> list[ObjectiveTimes]:
    views = _views(batch_size, width)
    given = tuple(view.astype(precision) for view in views)
    values, calls = {}, {}
    for name in losses:
        full = _compiled(jax.value_and_grad(LOSSES[name].value, argnums=(0, 1)), given)
        alone = _compiled(LOSSES[name].products, views)
        values[name] = float(full(*given)[0])
        calls[name] = ((full, given), (alone, views))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in losses}
    for _ in range(WARM_UP + rounds):
        for name, ((full, arrays), (alone, others)) in calls.items():
            taken[name].append((_milliseconds(full, arrays), _milliseconds(alone, others)))
    return [_times(name, width, values[name], taken[name][WARM_UP:]) for name in losses]


def _views(batch_size: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Two views [B, D] of unit variance; each pair of coordinates has a correlation of 0.5."""
    shared, *own = (
        jax.random.normal(key, (batch_size, width))
        for key in jax.random.split(jax.random.key(0), 3)
    )
    first, second = ((shared + noise) / 2**0.5 for noise in own)
    return first, second


def _compiled(function: Callable[..., Any], arrays: tuple[jax.Array, ...]) -> Callable[..., Any]:
    compiled = jax.jit(function).lower(*arrays).compile()
    return compiled


def _milliseconds(function: Callable[..., Any], arrays: tuple[jax.Array, ...]) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(function(*arrays))
    return 1e3 * (time.perf_counter() - begun)


def _times(
    name: str, width: int, value: float, taken: Sequence[tuple[float, float]]
) -> ObjectiveTimes:
    full, alone = zip(*taken, strict=True)
    ratios = [loss_ms / products_ms for loss_ms, products_ms in taken]
    return ObjectiveTimes(
        loss=name,
        width=width,
        value=value,
        ms=statistics.median(full),
        ms_quartiles=quartiles(full),
        products_ms=statistics.median(alone),
        products_ms_quartiles=quartiles(alone),
        ratio=statistics.median(ratios),
        ratio_quartiles=quartiles(ratios),
    )


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile of two or more values."""
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
