"""Counter-based random numbers for `shapes`: SplitMix64, with random access to each number.

Exact integer arithmetic, so the numbers are the same on every machine and in every batch.

Reference:
    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 17.
"""

import numpy as np


def bits(key: np.uint64, rows: np.ndarray, count: int) -> np.ndarray:
    """Random bits of some rows of the table with `count` columns that a key defines.

    Args:
        key: start of the stream, which fills the table row by row.
        rows: [B] row numbers, 0 or more.
        count: number of columns of the table.

    Returns:
        [B, count] uint64.
    """
    step = np.uint64(0x9E3779B97F4A7C15)
    first = np.asarray(rows, np.uint64)[:, None] * np.uint64(count)
    mixed: np.ndarray = key + step * (first + np.arange(1, count + 1, dtype=np.uint64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def uniform(key: np.uint64, rows: np.ndarray, count: int) -> np.ndarray:
    """[B, count] float32 in [0, 1), multiples of 2^-24; arguments as those of `bits`."""
    return (bits(key, rows, count) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def hiss(key: np.uint64, rows: np.ndarray, count: int) -> np.ndarray:
    """[B, count] float32: uniform noise of mean 0 and standard deviation 1, 16 bits per value."""
    words = bits(key, rows, -(-count // 4)).astype("<u8", copy=False)
    values = words.view("<u2")[:, :count].astype(np.float32)
    scale = np.float32(12**0.5)
    return (values + np.float32(0.5)) * (scale * np.float32(2**-16)) - scale / 2
