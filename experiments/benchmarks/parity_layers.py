"""The first layer in which an mmjax module and the PyTorch module of the same weights differ."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from mmjax.pretrained import Pretrained


def first_difference(
    ours: Pretrained,
    inputs: np.ndarray,
    mask: np.ndarray | None,
    model: torch.nn.Module,
    run: Callable[[], Any],
    tolerance: float = 1e-5,
) -> str:
    """A sentence that names the first layer whose outputs differ, in the order of PyTorch's calls.

    Layers are compared that have a weight of their own and are called once: convolutions, linear
    layers, embeddings, norms. Padded positions of texts are left out.

    Args:
        ours: the loaded weights.
        inputs: of ours.
        mask: of the word pieces of texts [B, L]; None for other inputs.
        model: PyTorch's.
        run: runs PyTorch's model on the same inputs.
        tolerance: largest difference over the largest value of PyTorch's output.
    """
    places = {}
    for published, placed in ours.placed.items():
        if published.endswith(".weight") and len(placed.paths) == 1:
            places[published.removesuffix(".weight")] = placed.paths[0].rpartition(".")[0]
    theirs: dict[str, np.ndarray] = {}
    hooks = []
    for name, layer in model.named_modules():
        matching = [key for key in places if key == name or key.endswith(f".{name}")]
        if name and len(matching) == 1:

            def keep(_: Any, __: Any, output: Any, place: str = places[matching[0]]) -> None:
                theirs.setdefault(place, output.detach().clone().numpy())  # before a ReLU in place

            hooks.append(layer.register_forward_hook(keep))
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    found = _outputs(ours.module, inputs, mask, set(theirs))
    for place, expected in theirs.items():
        if place not in found:
            return f"{place} is not called by mmjax."
        value = found[place]
        if expected.ndim == 4:  # [B, C, H, W]
            expected = expected.transpose(0, 2, 3, 1)
        if value.size != expected.size:
            return f"{place} gives {value.shape}, but PyTorch {expected.shape}."
        value = value.reshape(expected.shape)
        if mask is not None and expected.shape[: mask.ndim] == mask.shape:
            value, expected = value[mask], expected[mask]
        error = float(np.abs(value - expected).max() / np.abs(expected).max())
        if not error <= tolerance:
            return f"{place} is the first layer that differs, by {error:.1e}."
    return (
        f"No layer of {len(theirs)} differs by more than {tolerance:.0e}; what follows them does."
    )


def _outputs(
    module: Any, inputs: np.ndarray, mask: np.ndarray | None, wanted: set[str]
) -> dict[str, np.ndarray]:
    """Dotted path of a layer -> what it gives when it is called first."""
    module = nnx.clone(module)
    found: dict[str, np.ndarray] = {}
    for path, node in list(nnx.iter_graph(module)):
        place = ".".join(map(str, path))
        if place in wanted:
            node.__class__ = _recording(type(node), place, found)
    valid = None if mask is None else jnp.asarray(mask)
    present = jnp.ones(len(inputs), bool)
    with jax.disable_jit():
        features = module.encode(jnp.asarray(inputs), valid, present, train=False, rngs=None)
        module.pool(features, train=False, rngs=None)
        if hasattr(module, "classifier"):
            module.logits(features)
    return found


def _recording(kind: type, place: str, found: dict[str, np.ndarray]) -> type:
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        output = kind.__call__(self, *arguments, **options)  # type: ignore[operator]
        found.setdefault(place, np.asarray(output))
        return output

    return type(kind.__name__, (kind,), {"__call__": call})
