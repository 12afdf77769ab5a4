"""Deep CCA: minus the sum of the canonical correlations of two views, with a closed-form gradient.

`batch_covariance` says what keeps values and gradients finite, whatever the rank or scale of finite
inputs; the two ways to compute the correlations are in `cca_solvers`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError, unknown_name
from mmjax.objectives.batch_covariance import varying_together
from mmjax.objectives.batch_views import checked_k
from mmjax.objectives.cca_solvers import exact_correlations, newton_schulz_sum
from mmjax.objectives.objective import (
    CovarianceObjective,
    check_two_views,
    paired_views,
    pairs_of,
    working_dtype,
)
from mmjax.structs import Batch, Outputs, Term

Solver = Literal["exact", "newton_schulz"]


@dataclass(frozen=True, kw_only=True)
class DCCA(CovarianceObjective):
    """Deep CCA between two views: minus the sum of their canonical correlations.

    The rows with both views present count; `pairs`, their number, is logged beside the loss. The
    batch must have at least as many rows as the wider view has dimensions, and should have several
    times as many.

    Attributes:
        weight: factor of this term in the training loss.
        views: names of the two embeddings to correlate.
        k: how many of the largest correlations to sum; all of them if not given.
        ridge: added to every variance, in the units of the embeddings squared.
        solver: "exact", or "newton_schulz" for accelerators (`dcca_loss`).
        telemetry: whether to log the scalars of `dcca_loss_and_telemetry` at every step.
    """

    weight: float = 1.0
    views: tuple[str, str]
    k: int | None = None
    ridge: float = 1e-4
    solver: Solver = "exact"
    telemetry: bool = False

    def __post_init__(self) -> None:
        check_two_views(self.views)
        check_ridge(self.ridge)
        _check_solver(self.solver, self.k)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "dcca"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The DCCA loss of one batch, the number of its pairs, and what `telemetry` asks for."""
        h1, h2, weight = paired_views(outputs, batch, self.views)
        loss, telemetry = dcca_loss_and_telemetry(
            h1, h2, ridge=self.ridge, k=self.k, weight=weight, solver=self.solver
        )
        logged = telemetry if self.telemetry else {}
        return Term.of_batch(loss, pairs=pairs_of(weight), **logged)


def dcca_loss(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    k: int | None = None,
    weight: ArrayLike | None = None,
    solver: Solver = "exact",
) -> Float[Array, ""]:
    """Minus the sum of the (top k) canonical correlations of two views.

        loss = -||T||_tr = -sum_i D_i,    T = L1^-1 C12 L2^-T = U D V',    C_vv + R_v = L_v L_v'

    The gradient is written by hand: no derivative of a decomposition, hence no division by a
    difference of singular values. Where correlations are repeated or zero the loss may not be
    differentiable; there the gradient is one of its subgradients. It is for reverse mode alone
    (`jax.grad`, `jax.vjp`): JAX refuses `jax.jvp`, `jax.jacfwd` and `jax.hessian` of it.

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2], row i of the same example as row i of `h1`.
        ridge: added to every variance, in squared units of the views.
        k: how many of the largest correlations to sum; all min(D1, D2) if None.
        weight: [B], not negative; a row of weight 0 is ignored, even if it holds NaN. All 1
            if None. No gradient flows to it.
        solver: "exact" takes a singular value decomposition of T. "newton_schulz" takes matrix
            products only, with an error of at most `cca_solvers.newton_schulz_error` in each
            correlation; it gives only their sum, so it takes no `k`.

    Returns:
        The loss, between -k and 0, in float32 (float64 for float64 views).

    Raises:
        ConfigError: (a ValueError) shapes that do not match, B < max(D1, D2), a `k` outside
            1..min(D1, D2) or given with "newton_schulz", an unknown solver, or a negative ridge.

    Reference:
        Andrew, Arora, Bilmes, Livescu, Deep Canonical Correlation Analysis, ICML 2013, eq. 10-13.
    """
    return dcca_loss_and_telemetry(h1, h2, ridge=ridge, k=k, weight=weight, solver=solver)[0]


def dcca_loss_and_telemetry(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    k: int | None = None,
    weight: ArrayLike | None = None,
    solver: Solver = "exact",
) -> tuple[Float[Array, ""], dict[str, jax.Array]]:
    """`dcca_loss`, and scalars that show a collapse, from the intermediate results of the loss.

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2].
        ridge: as `dcca_loss`.
        k: as `dcca_loss`; the telemetry is always of all correlations.
        weight: as `dcca_loss`.
        solver: as `dcca_loss`.

    Returns:
        The loss, and as constants (stop-gradient): `deviation_1`, `effective_rank_1`, `condition_1`
        and the same of view 2 (`cca_telemetry.collapse_telemetry`); `correlation_mean`; with the
        exact solver also `correlation_largest` and `correlation_smallest`.

    Raises:
        ConfigError: as `dcca_loss`.
    """
    arrays = checked_views(h1, h2, ridge, weight)
    narrowest = min(arrays[0].shape[1], arrays[1].shape[1])
    if k is not None:
        checked_k(k, arrays[:2])
    _check_solver(solver, k)
    if solver == "newton_schulz":
        total, telemetry = newton_schulz_sum(*arrays)
        correlations = {"correlation_mean": total / narrowest}
    else:
        rho, telemetry = exact_correlations(*arrays)
        total = jnp.sum(rho[:k])
        correlations = {
            "correlation_mean": jnp.mean(rho),
            "correlation_largest": rho[0],
            "correlation_smallest": rho[-1],
        }
    return -total, jax.lax.stop_gradient({**telemetry, **correlations})


def canonical_correlations(
    h1: ArrayLike,
    h2: ArrayLike,
    *,
    ridge: float | int = 1e-4,
    weight: ArrayLike | None = None,
) -> Float[Array, " K"]:
    """The canonical correlations of two views, largest first; differentiable like `dcca_loss`.

    The covariances are weighted and normalised by max(sum(weight) - 1, 1). Like that of
    `dcca_loss`, the gradient is for reverse mode alone.

    Args:
        h1: first view [B, D1].
        h2: second view [B, D2].
        ridge: added to every variance, in squared units of the views.
        weight: [B], not negative; all 1 if None.

    Returns:
        [K], K = min(D1, D2), each between 0 and 1.

    Raises:
        ConfigError: as `dcca_loss`.

    Reference:
        Hotelling, Relations between two sets of variates, Biometrika 1936.
    """
    return exact_correlations(*checked_views(h1, h2, ridge, weight))[0]


def checked_views(
    h1: ArrayLike, h2: ArrayLike, ridge: float | int, weight: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The views, weights and ridge as the solvers take them: the last two in the working dtype.

    Raises:
        ConfigError: shapes that do not match, too few rows, or a negative ridge.
    """
    h1, h2 = jnp.asarray(h1), jnp.asarray(h2)
    _check_views(h1, h2)
    check_ridge(ridge)
    dtype = working_dtype(h1, h2)
    rows = jnp.ones(len(h1), dtype) if weight is None else jnp.asarray(weight, dtype)
    if rows.shape != h1.shape[:1]:
        raise ConfigError(
            f"weight has the shape {rows.shape}, but the views have {len(h1)} rows: give one "
            "weight a row"
        )
    h1, h2, rows, added = varying_together(h1, h2, rows, jnp.asarray(ridge, dtype))
    return h1, h2, rows, added


def _check_views(h1: jax.Array, h2: jax.Array) -> None:
    if h1.ndim != 2 or h2.ndim != 2:
        raise ConfigError(
            f"CCA needs views of the shape [batch, width], but they have {h1.shape} and "
            f"{h2.shape}: flatten or pool them first"
        )
    if len(h1) != len(h2):
        raise ConfigError(
            f"the views have {len(h1)} and {len(h2)} rows: give both the same examples"
        )
    rows, widest = len(h1), max(h1.shape[1], h2.shape[1])
    if rows < max(widest, 2):
        raise ConfigError(
            f"a batch of {rows} examples cannot give the covariance of {widest} dimensions: use "
            f"batch_size >= {widest + 1} or fewer output dimensions"
        )
    if min(h1.shape[1], h2.shape[1]) == 0:
        raise ConfigError("CCA needs at least one dimension in each view, but one view has none")


def check_ridge(ridge: float | int) -> None:
    """Refuses a ridge that is negative or NaN; a traced ridge is not checked."""
    if isinstance(ridge, int | float) and not ridge >= 0:
        raise ConfigError(f"ridge={ridge} must not be negative: use 0 or a small positive number")


def _check_solver(solver: str, k: int | None) -> None:
    if solver not in get_args(Solver):
        raise unknown_name("solver", solver, get_args(Solver))
    if solver == "newton_schulz" and k is not None:
        raise ConfigError(
            f"solver='newton_schulz' sums all correlations and cannot select the k={k} largest: "
            "leave out k or use solver='exact'"
        )
