"""Analytic FLOP counts: matrix products and convolutions of the traced program."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr

from mmjax.models.model import encode
from mmjax.structs import Batch, Features
from mmjax.training.step import TrainState, loss_of, merged

# Device kind (JAX's name) -> precision -> dense peak of one chip in FLOP/s, without sparsity, from
# the vendors' data sheets. For float32 it is that of TF32, in which JAX multiplies float32 by
# default on these GPUs.
PEAKS = {
    "NVIDIA H200": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "float32": 494e12},
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312e12, "float32": 156e12},
    "NVIDIA A100-SXM4-40GB": {"bfloat16": 312e12, "float32": 156e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}


def matmul_flops(function: Callable[..., Any], *args: Any) -> int:
    """FLOPs of the matrix products and convolutions of a function, two for each multiply-add.

    Loops of known length count once per iteration, branches as the most expensive one. Everything
    else (elementwise operations, decompositions) does not count.

    Args:
        function: the function to trace.
        args: arrays or their shapes.

    Raises:
        ValueError: a while loop has a matrix product; its number of iterations is unknown.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def step_flops(state: TrainState, batch: Batch) -> int:
    """FLOPs of one train step: three times those of the loss (forward, and twice for backward).

    Frozen encoders have no backward pass and count once. Recomputation (remat) and the optimizer do
    not count.
    """
    frozen = tuple(state.frozen.get("model", {}).get("encoders", ()))

    def loss(state: TrainState, batch: Batch) -> jax.Array:
        return loss_of(state, state.params, batch, key=state.key)[0]

    def encode_frozen(state: TrainState, batch: Batch) -> dict[str, Features]:
        model = merged(state, state.params).model
        encoders = nnx.Dict({name: model.encoders[name] for name in frozen})
        return encode(encoders, batch, train=False, rngs=None)

    forward_only = matmul_flops(encode_frozen, state, batch) if frozen else 0
    return 3 * matmul_flops(loss, state, batch) - 2 * forward_only


def _count(jaxpr: Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        depth = math.prod(left[axis] for axis in contracted)
        return 2 * depth * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_feature = params["dimension_numbers"].rhs_spec[0]
        per_output = math.prod(kernel) // kernel[out_feature]
        return 2 * per_output * math.prod(equation.outvars[0].aval.shape)
    inner = [_count(part) for value in params.values() for part in _jaxprs(value)]
    if not any(inner):
        return 0
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "while":
        raise ValueError(
            "A while loop has a matrix product, but its number of iterations is unknown: use "
            "jax.lax.scan or a fixed number of iterations."
        )
    if name == "cond":
        return max(inner)
    # Calls (jit, custom derivatives, remat) have the function of the forward pass inside.
    return sum(inner)


def _jaxprs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    return []
