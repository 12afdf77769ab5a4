"""Geometric transformations of batches of images, on the host."""

import numpy as np


def rotate(images: np.ndarray, angles: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
    """Rotates images about their centre, then shifts them, with bilinear interpolation.

    Outside, images are zero. Equals `scipy.ndimage.rotate` with order 1 and mode `grid-constant`,
    but works on batches.

    Args:
        images: [B, S, S] float32.
        angles: [B] in radians; positive angles rotate counter-clockwise.
        shifts: [B, 2] in pixels, downwards and to the right; None for no shift.

    Returns:
        [B, S, S] float32.
    """
    count, side, _ = images.shape
    middle = (side - 1) / 2
    steps = np.arange(side, dtype=np.float32) - np.float32(middle)
    down, right = steps[None, :, None], steps[None, None, :]
    if shifts is not None:
        moved = shifts.astype(np.float32)[:, :, None, None]
        down, right = down - moved[:, 0], right - moved[:, 1]
    cos = np.cos(angles).astype(np.float32)[:, None, None]
    sin = np.sin(angles).astype(np.float32)[:, None, None]
    # A border of two zeros: coordinates outside are clipped into it, where all values are zero.
    framed = np.zeros((count, side + 4, side + 4), np.float32)
    framed[:, 2:-2, 2:-2] = images
    outermost = np.float32(side + 2)
    row = np.clip(cos * down + sin * right + np.float32(middle + 2), 0, outermost)
    column = np.clip(cos * right - sin * down + np.float32(middle + 2), 0, outermost)
    above, left = row.astype(np.int32), column.astype(np.int32)
    row -= above
    column -= left
    pixels = framed.reshape(-1)
    places = np.arange(count, dtype=np.int32)[:, None, None] * framed[0].size
    places = places + above * (side + 4) + left
    top = (1 - column) * pixels[places] + column * pixels[places + 1]
    places += side + 4
    bottom = (1 - column) * pixels[places] + column * pixels[places + 1]
    rotated: np.ndarray = (1 - row) * top + row * bottom
    return rotated
