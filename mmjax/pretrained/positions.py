"""Position embeddings for images or sound of another size than the weights were trained on."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import numpy as np

from mmjax.encoders import AST, CLIPImage, ViT
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


def sound_positions(
    tensors: Mapping[str, np.ndarray], config: AST, frames: int
) -> dict[str, np.ndarray]:
    """The tensors, with their positions for filter banks of `frames`.

    For fewer, the first are kept, since a clip that is too short lies at the beginning of those
    that the weights were trained on. For more, they are interpolated linearly over time, as the
    paper does (Gong, Chung and Glass 2021, section 2.2), with the ends repeated.

    Raises:
        DataError: the published positions are not those of config.json.
    """
    name = next(name for name in tensors if name.endswith("embeddings.position_embeddings"))
    positions, (of_time, of_bands) = tensors[name], config.grid
    if positions.shape != (1, 2 + of_time * of_bands, config.width):
        raise DataError(
            f"The positions {name} are {positions.shape}, but the {of_bands} x {of_time} patches "
            f"of config.json need {(1, 2 + of_time * of_bands, config.width)}: copy both again "
            "from where the weights were published."
        )
    new = dataclasses.replace(config, frames=frames).grid[0]
    if new == of_time:
        return dict(tensors)
    if new < of_time:
        weights = np.eye(new, of_time)
    else:
        centre = np.clip((np.arange(new) + 0.5) * of_time / new - 0.5, 0, of_time - 1)
        weights = np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(of_time)))
    patches = positions[:, 2:].reshape(1, of_bands, of_time, -1)
    flat = np.einsum("jb,nabd->najd", weights, patches).reshape(1, -1, config.width)
    return {**tensors, name: np.concatenate([positions[:, :2], flat], 1, dtype=np.float32)}
