"""A source of pictures in files, each with several texts about it."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmjax.data.preprocessing import Pictures
from mmjax.structs import Batch

_BYTES = 2**29  # of decoded pictures that are kept in memory


class PicturesWithTexts:
    """Record i is text i with its picture; pictures are read when they are needed.

    Args:
        files: of the pictures.
        rows: [N] int, of each text, the place of its picture in `files`.
        pictures: resizes and crops.
        ids: {name of the modality of texts: [N, L] int32 ids, 0 for padding}.
        targets: name -> [N] values.
    """

    def __init__(
        self,
        files: Sequence[Path],
        rows: np.ndarray,
        pictures: Pictures,
        ids: Mapping[str, np.ndarray],
        targets: Mapping[str, np.ndarray],
    ) -> None:
        self._rows, self._ids, self._targets = rows, ids, targets
        kept = max(256, _BYTES // (3 * pictures.size[0] * pictures.size[1]))
        self._read = functools.lru_cache(kept)(lambda row: pictures.fitted(files[row])[0])

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: np.ndarray) -> Batch:
        """Gathers records; see `Source.take`."""
        indices = np.asarray(indices)
        ids = {name: every[indices] for name, every in self._ids.items()}
        images = np.stack([self._read(int(row)) for row in self._rows[indices]])
        return Batch.of(
            {"image": images, **ids},
            indices,
            targets={name: values[indices] for name, values in self._targets.items()},
            masks={name: values != 0 for name, values in ids.items()},
        )


def ids_of_bytes(texts: Sequence[str], length: int) -> np.ndarray:
    """[N, length] int32: the bytes of each text in UTF-8, plus 1, cut to `length`; then zeros."""
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts, strict=True):
        content = text.encode("utf-8")[:length]
        row[: len(content)] = np.frombuffer(content, np.uint8)
        row[: len(content)] += 1
    return ids
