"""Position embeddings that are not learned."""

import numpy as np


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sines and cosines of the position, with wavelengths from 2 pi to 10,000 times that.

        p[t, 2 i] = sin(t / 10000^(2 i / D)),   p[t, 2 i + 1] = cos(t / 10000^(2 i / D))

    Args:
        length: T, number of positions, from 0.
        width: D.

    Returns:
        [T, D] float32.

    Reference:
        Vaswani et al. 2017, Attention Is All You Need, section 3.5.
    """
    rates = 10_000.0 ** (-(np.arange(width) // 2 * 2) / width)
    angles = np.arange(length)[:, None] * rates
    return np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
