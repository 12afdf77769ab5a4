"""Position embeddings of a vision transformer for images of another size than it was trained on."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from mmjax.encoders import CLIPImage, ViT
from mmjax.errors import DataError

NAMES = (
    "pos_embed",
    "embeddings.position_embeddings",
    "vit.embeddings.position_embeddings",
    "embeddings.position_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
)


def resized_positions(
    tensors: Mapping[str, np.ndarray], config: ViT | CLIPImage, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The tensors, with their positions interpolated for images of `size`.

    The cubic is that of the published code: with a = -0.75 and no low-pass for transformers' names,
    with a = -0.5 and a low-pass where the grid shrinks for timm's.

    Raises:
        DataError: the published positions are of no square grid.
    """
    name = next(name for name in NAMES if name in tensors)
    published, first = tensors[name], int(isinstance(config, CLIPImage) or config.class_token)
    positions = published[None] if published.ndim == 2 else published  # CLIP's have no batch axis
    grid = (size[0] // config.patch, size[1] // config.patch)
    side = math.isqrt(max(positions.shape[1] - first, 0))
    if positions.ndim != 3 or side * side != positions.shape[1] - first or not side:
        raise DataError(
            f"The positions {name} are {published.shape}, which is no square grid of patches: "
            "these weights are damaged, or of another architecture."
        )
    if grid == (side, side) or not all(grid):
        return dict(tensors)
    patches = positions[:, first:].reshape(1, side, side, -1)
    if name == "pos_embed":
        shape = (1, *grid, patches.shape[-1])
        patches = np.asarray(jax.image.resize(patches, shape, "bicubic", antialias=True))
    else:
        rows, columns = (_cubic(side, new) for new in grid)
        patches = np.einsum("ia,jb,nabd->nijd", rows, columns, patches)
    flat = patches.reshape(1, grid[0] * grid[1], positions.shape[-1])
    whole = np.concatenate([positions[:, :first], flat], 1, dtype=np.float32)
    return {**tensors, name: whole.reshape(*published.shape[:-2], *whole.shape[-2:])}


def _cubic(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """The weights [new, old] of cubic convolution (Keys 1981, equation 15), edges repeated."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        x = np.abs(centre - (first + offset))
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        np.add.at(
            weights,
            (np.arange(new), np.clip(first + offset, 0, old - 1)),
            np.where(x <= 1, near, np.where(x < 2, far, 0)),
        )
    return weights
