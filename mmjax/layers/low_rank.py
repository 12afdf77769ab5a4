"""Low-rank adapters of linear layers, and the mark of parameters that are not trained."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

_FROZEN = "frozen"


def mark_frozen(module: nnx.Module) -> None:
    """Marks all parameters of a module: training leaves them as they are."""
    for _, variable in nnx.iter_graph(module):
        if isinstance(variable, nnx.Param):
            variable.set_metadata(**{_FROZEN: True})


def is_marked_frozen(variable: Any) -> bool:
    """Whether a parameter has the mark of `mark_frozen`."""
    return bool(isinstance(variable, nnx.Variable) and variable.get_metadata().get(_FROZEN))


class LowRankLinear(nnx.Linear):
    """y = W x + b + s B A x, with the kernel W and the bias b of another layer.

    A [input, r] starts at random with the variance 1 / input, and B [r, output] at 0, so that the
    output is that of the other layer until B is trained.

    Args:
        layer: the other layer.
        rank: r.
        scale: s.
        rngs: initialises A.
    """

    def __init__(self, layer: nnx.Linear, rank: int, scale: float, *, rngs: nnx.Rngs) -> None:
        super().__init__(**_sizes(layer), rngs=rngs)
        self.kernel = layer.kernel
        if layer.use_bias:
            self.bias = layer.bias
        start = jax.random.normal(rngs.params(), (layer.in_features, rank))
        self.adapter_in = nnx.Param(start / layer.in_features**0.5)
        self.adapter_out = nnx.Param(jnp.zeros((rank, layer.out_features)))
        self.scale = scale

    def __call__(self, inputs: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        """[..., input] to [..., output]."""
        y = super().__call__(inputs, *arguments, **options)
        down, up = self.adapter_in[...].astype(y.dtype), self.adapter_out[...].astype(y.dtype)
        return y + self.scale * ((inputs.astype(y.dtype) @ down) @ up)

    def merged(self) -> nnx.Linear:
        """One linear layer with the kernel W + s A B (in our order of axes): the same output."""
        layer = nnx.Linear(**_sizes(self), rngs=nnx.Rngs(0))
        change = self.scale * (self.adapter_in[...] @ self.adapter_out[...])
        layer.kernel = nnx.Param(self.kernel[...] + change)
        if self.use_bias:
            layer.bias = self.bias
        return layer


def adapt(
    module: nnx.Module, names: Collection[str], rank: int, scale: float, *, rngs: nnx.Rngs
) -> list[str]:
    """Replaces the linear layers with these names in a module by adapted ones.

    Returns:
        The names that linear layers of the module have.
    """
    layers = {path: layer for path, layer in _linear_layers(module) if path}
    for path, layer in layers.items():
        if path[-1] in names:
            _put(module, path, LowRankLinear(layer, rank, scale, rngs=rngs))
    return sorted({str(path[-1]) for path in layers})


def merge_adapters(module: nnx.Module) -> nnx.Module:
    """A copy of a module, such as `run.model`, whose adapted layers are linear layers again."""
    module = nnx.clone(module)
    for path, layer in _linear_layers(module):
        if isinstance(layer, LowRankLinear):
            _put(module, path, layer.merged())
    return module


def _sizes(layer: nnx.Linear) -> dict[str, Any]:
    names = ("in_features", "out_features", "use_bias", "dtype", "param_dtype", "precision")
    return {name: getattr(layer, name) for name in names}


def _linear_layers(module: nnx.Module) -> list[tuple[tuple[Any, ...], nnx.Linear]]:
    nodes = list(nnx.iter_graph(module))
    return [(path, node) for path, node in nodes if isinstance(node, nnx.Linear)]


def _put(module: Any, path: tuple[Any, ...], layer: nnx.Linear) -> None:
    for name in path[:-1]:
        module = module[name] if isinstance(name, int) else getattr(module, name)
    setattr(module, path[-1], layer)
