"""Centred views, covariances and Cholesky factors of a batch, finite for all finite inputs.

Finite inputs of any rank and scale give a finite value and a finite gradient, by three measures
that do not change the result for ordinary inputs:

1. Each view is divided by s = max(1, max|h|) and its ridge by s^2. This leaves correlations
   unchanged, and no square overflows.
2. What is added to the variance C_ii of coordinate i is not the ridge alone but

       max(ridge, d eps C_ii, (4 eps mean_i)^2, tiny),     eps that of the working dtype.

   The second entry keeps a view of low rank positive definite in floating point. The third is the
   variance that rounding alone can give to a constant column. In float32 a ridge of 1e-4 is above
   both while d C_ii < 800 and |mean_i| < 200. Beyond that the second raises variances by the
   fraction d eps (3e-5 for d = 256): correlations fall by at most this fraction divided by the
   smallest eigenvalue of the view's correlation matrix. In float64 it is below 1e-12 for d < 4,000.
3. Repeated columns in hundreds of dimensions can still make the factorisation fail, because the
   rounding errors of their covariances are not independent. Then d eps is multiplied by 16 until
   the factorisation succeeds.

Without a ridge the gradient at a constant coordinate is finite but huge, because the loss is
discontinuous there, and directions of rounding noise can show some correlation: keep a ridge.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float


def scaled_and_centred(h: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The view over its scale minus its weighted mean, [B, D]; that mean, [1, D]; the scale."""
    x = jnp.where(weight[:, None] > 0, h.astype(weight.dtype), 0)
    scale = jnp.maximum(jnp.max(jnp.abs(x)), 1)
    x = x / scale
    share = (weight / jnp.maximum(jnp.sum(weight), jnp.finfo(weight.dtype).tiny))[:, None]
    mean = _transposed_product(share, x)
    x = x - mean
    # A second pass removes the rounding error of the first mean.
    return x - _transposed_product(share, x), mean, scale


def covariance(
    x1: jax.Array, x2: jax.Array, weight: jax.Array, degrees: jax.Array
) -> Float[Array, "D1 D2"]:
    """The weighted covariance of two centred views."""
    return _transposed_product(x1 * weight[:, None], x2) / degrees


def _transposed_product(a: jax.Array, b: jax.Array) -> Float[Array, "D1 D2"]:
    """The product a'b of two matrices whose rows may be split over devices."""
    # On a batch sharded over explicit axes the sum is an all-reduce: its sharding must be given.
    mesh = jax.typeof(b).sharding.mesh
    everywhere = NamedSharding(mesh, PartitionSpec(None, None)) if _explicit(mesh) else None
    precision = lax.Precision.HIGHEST
    return jnp.einsum("bd,be->de", a, b, precision=precision, out_sharding=everywhere)


def ridged_cholesky(C: jax.Array, mean: jax.Array, ridge: jax.Array) -> Float[Array, "D D"]:
    """The Cholesky factor of a covariance plus its ridge, raised as the module docstring says."""
    info = jnp.finfo(C.dtype)
    variance = jnp.diagonal(C)
    # tiny / eps, not tiny: its inverse is in the gradient and must not overflow.
    least = jnp.maximum(jnp.square(4 * info.eps * mean[0]), info.tiny / info.eps)
    least = jnp.maximum(least, ridge)

    def factor(share: jax.Array) -> jax.Array:
        return jnp.linalg.cholesky(C + jnp.diag(jnp.maximum(least, share * variance)))

    def failed(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        share, lower = state
        # A share of len(C) makes the diagonal dominant: then only NaN in the views can fail.
        return jnp.isnan(lower).any() & (share < len(C))

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        share = 16 * state[0]
        return share, factor(share)

    share = jnp.asarray(len(C) * info.eps, C.dtype)
    return lax.while_loop(failed, again, (share, factor(share)))[1]


def on_every_device(x: jax.Array) -> jax.Array:
    """The array, whole on every device if its rows are split over explicit axes of a mesh.

    For the columns of a matrix of all pairs of rows, which cannot be split like its rows. Over
    other axes, the compiler does that by itself.
    """
    mesh = jax.typeof(x).sharding.mesh
    if not _explicit(mesh):
        return x
    return jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*[None] * x.ndim)))


def _explicit(mesh: AbstractMesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


def varying_together(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays, each with another value on each device (`jax.shard_map`) if one of them has.

    For functions with a derivative written by hand, which gives the gradients of all arguments
    this one type.
    """
    return tuple(
        x + sum(jnp.zeros_like(other, shape=(), dtype=x.dtype) for other in arrays) for x in arrays
    )


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product in the full precision of its dtype, on every device."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
