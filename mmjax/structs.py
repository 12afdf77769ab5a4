"""The things that travel: `Modality`, `Target`, `Batch`, `Features`, `Fused` and `Outputs`.

Dimension letters, used in shapes, einsums and variable names all over mmjax:

    B batch          T tokens or time      D width of a feature     H attention heads
    C classes        V views               K canonical dimensions   N examples of a fit
    L words          S audio samples       F audio frames           M mel bands
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from mmjax.errors import ConfigError

_DTYPES = {"text": "int32"}  # of the kinds whose inputs are not float32


@dataclasses.dataclass(frozen=True)
class Modality:
    """What one modality of one example is: an array, or a small tree of arrays.

    Attributes:
        kind: an open word that encoders know: `vector` [D]; `image` [height, width, channels], in
            [0, 1]; `audio` [S] waveform in [-1, 1]; `text` [L] word ids, 0 where there is no word;
            `sequence` [T, D]; `video` [T, height, width, channels]; `table`; `graph`; or another.
        shape: of the array of one example; empty for a tree.
        dtype: of the array; empty for int32 of `text` and float32 of all others. Values of type
            uint8 (pictures, frames) stay so until they are on the device, where they are divided by
            255.
        vocabulary: number of ids, for `text` and other parts that hold ids (all are below it).
        sample_rate: samples a second, for `audio`.
        words: of a `text`, in the order of their ids; empty where they are not known.
        parts: name -> what one array of a tree is, for a modality of several arrays, such as the
            nodes and edges of a `graph`.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    vocabulary: int = 0
    sample_rate: int = 0
    words: tuple[str, ...] = ()
    parts: Mapping[str, "Modality"] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts and not self.dtype:
            object.__setattr__(self, "dtype", _DTYPES.get(self.kind, "float32"))

    def blank(self, rows: int) -> Any:
        """So many examples of zeros, as NumPy arrays: an array, or a dict of them for a tree."""
        if self.parts:
            return {name: part.blank(rows) for name, part in self.parts.items()}
        return np.zeros((rows, *self.shape), self.dtype)

    @property
    def size(self) -> int:
        """How many values one example has."""
        if self.parts:
            return sum(part.size for part in self.parts.values())
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Target:
    """What is to be predicted of one example. Not every example has every target.

    Attributes:
        kind: `class`, one of C, an integer from 0 to C - 1; `labels`, any of C, [C] of 0 and 1;
            `number`, real values of `shape`; `tokens`, ids [L] of a vocabulary of C, 0 where there
            is no token; or another word that heads and objectives know.
        classes: C; 0 for numbers.
        shape: of a `number` (empty for one value) or of `tokens` (L,).
        names: of the classes, labels or tokens, C of them; empty where they have no names.
        end: the id that ends a sequence of `tokens`, its last token; 0 where none does.
        dtype: of its arrays; empty for int32 of `class` and `tokens` and float32 of all others.
    """

    kind: str
    classes: int = 0
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    end: int = 0
    dtype: str = ""

    def __post_init__(self) -> None:
        if not self.dtype:
            whole = self.kind in ("class", "tokens")
            object.__setattr__(self, "dtype", "int32" if whole else "float32")
        if self.kind in ("class", "labels", "tokens") and self.classes < 1:
            raise ConfigError(
                f"A target of the kind {self.kind!r} has {self.classes} classes: say how many, as "
                f"in Target({self.kind!r}, 10)."
            )
        if self.names and len(self.names) != self.classes:
            raise ConfigError(
                f"A target of {self.classes} classes has {len(self.names)} names: give one for "
                "each class, or none."
            )
        if self.kind == "tokens" and len(self.shape) != 1:
            raise ConfigError(
                f"A target of tokens has the shape {self.shape}: give the number of tokens of the "
                f"longest sequence, as in Target('tokens', {self.classes}, (16,))."
            )
        if self.end and not (self.kind == "tokens" and 0 < self.end < self.classes):
            raise ConfigError(
                f"A target of the kind {self.kind!r} with {self.classes} classes ends with "
                f"{self.end}: give the id of a token, from 1 to {self.classes - 1}, to a target of "
                "tokens alone."
            )

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of the target of one example."""
        return (self.classes,) if self.kind == "labels" else self.shape

    def blank(self, rows: int) -> np.ndarray:
        """So many targets of zeros."""
        return np.zeros((rows, *self.example_shape), self.dtype)


# Fields hold jax or NumPy arrays, and, while JAX maps over the containers, whatever it puts in
# their place (shapes, shardings): so they are `Any`, and a comment gives the shape of each.


@struct.dataclass
class Batch:
    """One batch of examples. What is missing is a mask that says False, never a missing key.

    `ids` are the record numbers in the source that the rows came from, so that a bad batch can be
    named. `weight` is 0 for the rows that fill up the last batch of an evaluation, else 1.
    """

    inputs: Mapping[str, Any]  # modality -> [B, ...], or a dict of such arrays
    masks: Mapping[str, Any]  # modality -> [B, T] bool, valid positions of a sequence; absent: all
    present: Mapping[str, Any]  # modality -> [B] bool
    targets: Mapping[str, Any]  # name -> [B, ...]
    weight: Any  # [B] float32
    ids: Any  # [B] int32
    target_masks: Mapping[str, Any] = struct.field(default_factory=dict)
    # name -> [B], or [B, ...] for a part of each target: whether it is known; absent: all are

    @classmethod
    def of(
        cls,
        inputs: Mapping[str, Any],
        ids: np.ndarray,
        *,
        masks: Mapping[str, np.ndarray] | None = None,
        present: Mapping[str, np.ndarray] | None = None,
        targets: Mapping[str, np.ndarray] | None = None,
        target_masks: Mapping[str, np.ndarray] | None = None,
    ) -> "Batch":
        """Makes a batch of real rows (weight 1); a modality is present unless `present` says no."""
        rows = len(ids)
        everywhere = {name: np.ones(rows, bool) for name in inputs}
        return cls(
            inputs=dict(inputs),
            masks=dict(masks or {}),
            present=everywhere | dict(present or {}),
            targets=dict(targets or {}),
            weight=np.ones(rows, np.float32),
            ids=np.asarray(ids, np.int32),
            target_masks=dict(target_masks or {}),
        )


@struct.dataclass
class Features:
    """What every encoder returns and every fusion takes: tokens and which of them are there.

    A modality that is absent from an example has no valid token there.
    """

    tokens: Any  # [B, T, D]
    mask: Any  # [B, T] bool

    @classmethod
    def of_vector(cls, vector: jax.Array, present: jax.Array | None = None) -> "Features":
        """Wraps one vector an example, [B, D], as a sequence of one token."""
        if present is None:
            present = jnp.ones(vector.shape[:1], bool)
        return cls(tokens=vector[:, None, :], mask=present[:, None])

    @property
    def present(self) -> jax.Array:
        """[B] bool: the examples with at least one valid token."""
        return self.mask.any(axis=1)

    @property
    def pooled(self) -> jax.Array:
        """[B, D]: the mean of the valid tokens, summed in float32; zeros where there is none."""
        weight = self.mask.astype(jnp.float32)[:, :, None]
        total = jnp.sum(jnp.where(self.mask[:, :, None], self.tokens, 0) * weight, axis=1)
        mean = total / jnp.maximum(weight.sum(axis=1), 1.0)
        return mean.astype(self.tokens.dtype)


@struct.dataclass
class Fused:
    """What a fusion returns: the modalities as one, and what else came of fusing them."""

    features: Features
    streams: Mapping[str, Features] = struct.field(default_factory=dict)  # modality -> after fusing
    terms: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> Term, auxiliary losses


@struct.dataclass
class Prediction:
    """What a head says of one target."""

    values: Any  # [B, C] logits; [B, ...] numbers; [B, L, C] logits or [B, L] ids of a sequence
    mask: Any = None  # [B, L] bool, the valid positions of a sequence; None: all are


@struct.dataclass
class Term:
    """A loss or metric as a total and a count, so that batches, masks and hosts merge exactly.

    What is coupled over a batch, such as the correlations of a CCA, counts as one.
    """

    total: Any  # []
    count: Any  # []
    telemetry: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> [] to log beside it

    @classmethod
    def of_batch(cls, value: jax.Array, **telemetry: jax.Array) -> "Term":
        """Wraps a value that is of the batch as one."""
        return cls(value, jnp.ones((), value.dtype), telemetry)

    @classmethod
    def of_rows(cls, mean: jax.Array, weight: ArrayLike) -> "Term":
        """Wraps the mean over rows of the weights [B]."""
        count = jnp.sum(weight).astype(mean.dtype)
        return cls(mean * count, count)

    @property
    def mean(self) -> jax.Array:
        """Total over count; 0 where nothing counts."""
        return self.total / jnp.where(self.count > 0, self.count, 1)


@struct.dataclass
class Reconstruction:
    """What a decoder says of a modality, and for which examples it had a code to read."""

    values: Any  # [B, ...] in the shape of the modality: means, or logits of values in [0, 1]
    present: Any  # [B] bool


@struct.dataclass
class Posterior:
    """A Gaussian over K latent variables for every example, its covariance diagonal."""

    mean: Any  # [B, K]
    log_variance: Any  # [B, K]
    present: Any  # [B] bool


@struct.dataclass
class Outputs:
    """What a model returns: what objectives and evaluations read."""

    embeddings: Mapping[str, Any]  # modality -> [B, D]
    present: Mapping[str, Any]  # modality -> [B] bool
    features: Mapping[str, Features] = struct.field(default_factory=dict)  # modality -> Features
    fused: Any = None  # Features, of a model that fuses
    streams: Mapping[str, Features] = struct.field(default_factory=dict)  # of `Fused`
    predictions: Mapping[str, Prediction] = struct.field(default_factory=dict)  # target ->
    generated: Mapping[str, Prediction] = struct.field(default_factory=dict)  # target -> ids [B, L]
    reconstructions: Mapping[str, Any] = struct.field(default_factory=dict)  # -> Reconstruction
    posteriors: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> Posterior
    terms: Mapping[str, Term] = struct.field(default_factory=dict)  # name -> Term, of the fusion


def unit_floats(x: Any) -> Any:
    """Values of type uint8 over 255, in float32; any other array as it is."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
