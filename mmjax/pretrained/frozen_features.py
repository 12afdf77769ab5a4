"""The features of frozen encoders, computed once and kept."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.data.catalogue import fingerprint
from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Source, Target
from mmjax.errors import ConfigError, DataError, check_sizes
from mmjax.pretrained.files import sha256_of, weights_file
from mmjax.pretrained.published import Published, dotted
from mmjax.structs import unit_floats

SECONDS_BETWEEN_LINES = 30.0
VERSION = 1  # of the kept files; another one computes them again


@dataclasses.dataclass(frozen=True)
class FrozenFeatures(Dataset):
    """A data set whose modalities are the pooled features of published encoders: vectors [D].

    They are computed when a split is first opened, and kept in a file whose name is a hash of the
    data, the weights and the encoders. So a frozen backbone costs its forward pass once, for all
    runs, seeds and rows of a study. Equal inputs, such as a picture with five captions, are encoded
    once. A model reads the vectors, for example by `MLP`; the modalities without an encoder are
    left out. Transforms of the raw inputs have no place here.

    Attributes:
        data: the data set of the raw inputs.
        encoders: modality -> `mmjax.pretrained.load(folder).encoder`.
        folder: where the features are kept; empty: `mmjax/features` in the user's cache folder.
        batch_size: examples that are encoded at once; 1 or more.

    Raises:
        ConfigError: an encoder is of no modality of the data, or does not read its kind.
    """

    data: Dataset
    encoders: Mapping[str, Published]
    folder: str = ""
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "batch_size")
        known = self.data.modalities
        if not self.encoders or not set(self.encoders) <= set(known):
            raise ConfigError(
                f"FrozenFeatures.encoders is for {', '.join(self.encoders) or 'nothing'}, but "
                f"{self.data.name} has {', '.join(known)}: give encoders for some of them."
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the raw data, and `_features`."""
        return f"{self.data.name}_features"

    @property
    def about(self) -> About:  # type: ignore[override]
        """The entry of the raw data."""
        return self.data.about

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """The splits of the raw data."""
        return self.data.splits

    @functools.cached_property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        widths = {name: self._module(name).features.width for name in self.encoders}
        return {name: Modality("vector", (width,)) for name, width in widths.items()}

    @property
    def targets(self) -> dict[str, Target]:
        """The targets of the raw data."""
        return dict(self.data.targets)

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split, and computes its features if they are not kept; see `Dataset.load`."""
        self.check_split(split)
        file = self._file(split, folder)
        arrays = _read(file)
        if arrays is None:
            arrays = self._computed(self.data.load(split, folder), split)
            _write(file, arrays)
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            kind, _, name = key.partition("/")
            parts.setdefault(kind, {})[name] = array
        return ArraySource(
            parts["inputs"],
            parts.get("targets", {}),
            present=parts["present"],
            target_masks=parts.get("target_masks", {}),
        )

    def _file(self, split: str, folder: Path | None) -> Path:
        """Where the features of a split are kept."""
        what = {
            "version": VERSION,
            "split": split,
            "data": repr(self.data.as_config() if hasattr(self.data, "as_config") else self.data),
            "files": fingerprint(self.data, folder),
            "encoders": {
                name: {
                    "config": repr(_pooled(encoder)),
                    "weights": sha256_of(weights_file(Path(encoder.folder))),
                }
                for name, encoder in self.encoders.items()
            },
        }
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return (Path(self.folder) if self.folder else cache / "mmjax" / "features") / f"{key}.npz"

    def _module(self, name: str) -> Any:
        """The encoder's module, with shapes only."""
        encoder, modality = self.encoders[name], self.data.modalities[name]
        pooled = dataclasses.replace(encoder, encoder=_pooled(encoder))
        return nnx.eval_shape(
            lambda: pooled.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
        )

    def _computed(self, source: Source, split: str) -> dict[str, np.ndarray]:
        """The features, targets and presence of all examples."""
        print(
            f"mmjax: encoding {len(source):,} examples of the split {split!r} of {self.data.name}; "
            "the features are kept for the next time.",
            file=sys.stderr,
        )
        encoders = {
            name: _Once(self._module(name), encoder, self.data.modalities[name])
            for name, encoder in self.encoders.items()
        }
        parts: dict[str, list[np.ndarray]] = {}
        begun = shown = time.monotonic()
        for start in range(0, len(source), self.batch_size):
            if start and time.monotonic() - shown > SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                left = (shown - begun) * (len(source) - start) / start
                print(
                    f"mmjax: {start:,} of {len(source):,} examples are encoded; about "
                    f"{left / 60:.0f} minutes left",
                    file=sys.stderr,
                )
            rows = np.arange(start, min(start + self.batch_size, len(source)))
            batch = source.take(rows)
            for name, once in encoders.items():
                present = np.asarray(batch.present[name])
                found = once(np.asarray(batch.inputs[name]), batch.masks.get(name), present)
                parts.setdefault(f"inputs/{name}", []).append(found)
                parts.setdefault(f"present/{name}", []).append(present)
            for kind in ("targets", "target_masks"):
                for name, values in getattr(batch, kind).items():
                    parts.setdefault(f"{kind}/{name}", []).append(np.asarray(values))
        arrays = {key: np.concatenate(each) for key, each in parts.items()}
        for key, values in arrays.items():
            if key.startswith("inputs/") and not np.isfinite(values).all():
                raise DataError(
                    f"The features of {key.removeprefix('inputs/')!r} are not finite in the split "
                    f"{split!r} of {self.data.name}: check its values and the weights."
                )
        return arrays


def _pooled(encoder: Published) -> Any:
    return dataclasses.replace(encoder.encoder, output="pooled")


class _Once:
    """Encodes examples, equal ones once.

    Args:
        module: with shapes only.
        encoder: whose weights it gets.
        modality: that it reads.
    """

    def __init__(self, module: Any, encoder: Published, modality: Modality) -> None:
        values = encoder.values(modality.shape, modality.sample_rate)
        self._graph, state = nnx.split(module)
        self._state = jax.tree_util.tree_map_with_path(
            lambda at, _: jnp.asarray(values[dotted(at)]), state
        )
        self._width = module.features.width
        self._known: dict[bytes, np.ndarray] = {}

    def __call__(self, x: np.ndarray, mask: Any, present: np.ndarray) -> np.ndarray:
        """[B, ...] inputs, their masks and presence -> [B, D]; zeros where absent."""
        mask = None if mask is None else np.asarray(mask)
        keys = [
            hashlib.blake2b(
                x[row].tobytes() + (b"" if mask is None else mask[row].tobytes()), digest_size=16
            ).digest()
            for row in range(len(x))
        ]
        new = {key: row for row, key in enumerate(keys) if present[row] and key not in self._known}
        if new:
            # The next power of two: few shapes, so few compilations, and less than twice the work.
            rows = np.resize(list(new.values()), 1 << (len(new) - 1).bit_length())
            given = None if mask is None else jnp.asarray(mask[rows])
            found = np.asarray(_encode(self._graph, self._state, jnp.asarray(x[rows]), given))
            self._known |= dict(zip(new, found, strict=False))
        result = np.zeros((len(x), self._width), np.float32)
        for row in np.flatnonzero(present):
            result[row] = self._known[keys[row]]
        return result


@functools.partial(jax.jit, static_argnums=0)
def _encode(graph: Any, state: Any, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    module, present = nnx.merge(graph, state), jnp.ones(len(x), bool)
    return module(unit_floats(x), mask, present, train=False, rngs=None).tokens[:, 0]


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """The kept arrays; None if they are not there, or damaged."""
    if not file.exists():
        return None
    try:
        with open(file, "rb") as plain, np.load(plain, allow_pickle=False) as opened:
            return {key: opened[key] for key in opened.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        print(f"mmjax: {file} is damaged ({error}), so it is computed again.", file=sys.stderr)
        return None


def _write(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps the arrays: the file is there as a whole, or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with open(handle, "wb") as opened:
                np.savez(opened, **arrays)  # type: ignore[arg-type]
            os.replace(name, file)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    except OSError as error:
        raise DataError(
            f"The features cannot be kept in {file.parent} ({error.strerror}): set "
            "FrozenFeatures.folder to a folder with room."
        ) from None
