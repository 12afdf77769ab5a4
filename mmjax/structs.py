"""Data structures of all parts: `Modality`, `Target`, `Batch`, `Features`, `Fused`, `Outputs`.

Dimension letters in shapes, einsums and variable names of mmjax:

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
    """The declaration of a modality: kind, shape and dtype of one example.

    An example is one array, or a dict of arrays (`parts`).

    Attributes:
        kind: a name that encoders know: `vector` [D]; `image` [height, width, channels], in
            [0, 1]; `audio` [S] waveform in [-1, 1]; `text` [L] word ids, 0 for padding;
            `sequence` [T, D]; `video` [T, height, width, channels]; `table`; `graph`; or any other.
        shape: shape of the array of one example; empty with `parts`.
        dtype: dtype of the array; if empty, int32 for `text` and float32 for all others. uint8
            values (images, frames) are moved to the device as uint8, and there divided by 255.
        vocabulary: number of ids, for `text` and other parts that hold ids (all are below it).
        sample_rate: samples per second, for `audio`.
        words: the words of a `text`, in the order of their ids; empty if unknown.
        parts: name -> declaration of one array, for a modality of several arrays, such as the
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
        """`rows` examples of zeros: a NumPy array, or a dict of them for a modality with parts."""
        if self.parts:
            return {name: part.blank(rows) for name, part in self.parts.items()}
        return np.zeros((rows, *self.shape), self.dtype)

    @property
    def size(self) -> int:
        """The number of values of one example."""
        if self.parts:
            return sum(part.size for part in self.parts.values())
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Target:
    """The declaration of a target, a value to predict for each example. It may be unknown for some.

    Attributes:
        kind: `class`, one of C, an integer from 0 to C - 1; `labels`, any of C, [C] of 0 and 1;
            `number`, real values of `shape`; `tokens`, ids [L] of a vocabulary of C, 0 for padding;
            or any other name that heads and objectives know.
        classes: C; 0 for numbers.
        shape: shape of a `number` (empty for one value) or of `tokens` (L,).
        names: the C names of the classes, labels or tokens; empty if they have no names.
        end: the id of the end token, the last one of a sequence of `tokens`; 0 for none.
        dtype: dtype of its arrays; if empty, int32 for `class` and `tokens`, else float32.
    """

    kind: str
    classes: int = 0
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    end: int = 0
    dtype: str = ""

    def __post_init__(self) -> None:
        if not self.dtype:
            integer = self.kind in ("class", "tokens")
            object.__setattr__(self, "dtype", "int32" if integer else "float32")
        if self.kind in ("class", "labels", "tokens") and self.classes < 1:
            raise ConfigError(
                f"A target of the kind {self.kind!r} has {self.classes} classes: give the number "
                f"of classes, as in Target({self.kind!r}, 10)."
            )
        if self.names and len(self.names) != self.classes:
            raise ConfigError(
                f"A target of {self.classes} classes has {len(self.names)} names: give one name "
                "for each class, or no names."
            )
        if self.kind == "tokens" and len(self.shape) != 1:
            raise ConfigError(
                f"A target of the kind 'tokens' has the shape {self.shape}: give the length of the "
                f"longest sequence, as in Target('tokens', {self.classes}, (16,))."
            )
        if self.end and not (self.kind == "tokens" and 0 < self.end < self.classes):
            raise ConfigError(
                f"A target of the kind {self.kind!r} with {self.classes} classes has "
                f"end={self.end}: for a target of tokens, choose an id from 1 to "
                f"{self.classes - 1}; for any other kind, leave it out."
            )

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of the target of one example."""
        return (self.classes,) if self.kind == "labels" else self.shape

    def blank(self, rows: int) -> np.ndarray:
        """The targets of `rows` examples, all zero."""
        return np.zeros((rows, *self.example_shape), self.dtype)


# Fields hold JAX or NumPy arrays or, when JAX maps over the containers, other leaves (shapes,
# shardings). So their type is `Any`, and a comment gives the shape of each.


@struct.dataclass
class Batch:
    """One batch of examples. Missing data is marked by a mask of False, not by a missing key.

    `ids` are the record numbers of the rows in the source, for error messages. `weight` is 0 for
    padding rows in the last batch of an evaluation, else 1.
    """

    inputs: Mapping[str, Any]  # modality -> [B, ...], or a dict of such arrays
    masks: Mapping[str, Any]  # modality -> [B, T] bool, valid positions of a sequence; default: all
    present: Mapping[str, Any]  # modality -> [B] bool
    targets: Mapping[str, Any]  # name -> [B, ...]
    weight: Any  # [B] float32
    ids: Any  # [B] int32
    target_masks: Mapping[str, Any] = struct.field(default_factory=dict)
    # name -> [B], or [B, ...] for each value: whether the target is known; default: all are

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
        """Makes a batch with weight 1; a modality without an entry in `present` is present."""
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
    """Tokens and their mask: the output of every encoder and the input of every fusion.

    For an example without the modality, no token is valid.
    """

    tokens: Any  # [B, T, D]
    mask: Any  # [B, T] bool

    @classmethod
    def of_vector(cls, vector: jax.Array, present: jax.Array | None = None) -> "Features":
        """Wraps one vector per example, [B, D], as a sequence of one token."""
        if present is None:
            present = jnp.ones(vector.shape[:1], bool)
        return cls(tokens=vector[:, None, :], mask=present[:, None])

    @property
    def present(self) -> jax.Array:
        """[B] bool: the examples with at least one valid token."""
        return self.mask.any(axis=1)

    @property
    def pooled(self) -> jax.Array:
        """[B, D]: the mean of the valid tokens, summed in float32; zeros without valid tokens."""
        weight = self.mask.astype(jnp.float32)[:, :, None]
        total = jnp.sum(jnp.where(self.mask[:, :, None], self.tokens, 0) * weight, axis=1)
        mean = total / jnp.maximum(weight.sum(axis=1), 1.0)
        return mean.astype(self.tokens.dtype)


@struct.dataclass
class Fused:
    """The output of a fusion: the fused features, and optional further results."""

    features: Features
    streams: Mapping[str, Features] = struct.field(default_factory=dict)  # modality, after fusion
    terms: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> Term, auxiliary losses
    shares: Mapping[str, Any] = struct.field(default_factory=dict)  # modality -> [B], its weight


@struct.dataclass
class Prediction:
    """The prediction of a head for one target."""

    values: Any  # [B, C] logits; [B, ...] numbers; [B, L, C] logits or [B, L] ids of a sequence
    mask: Any = None  # [B, L] bool, the valid positions of a sequence; None: all are valid


@struct.dataclass
class Term:
    """A loss or metric as a total and a count, so that batches, masks and hosts merge exactly.

    A value that is coupled over a batch, such as the correlations of a CCA, has a count of one.
    """

    total: Any  # []
    count: Any  # []
    telemetry: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> [] to log

    @classmethod
    def of_batch(cls, value: jax.Array, **telemetry: jax.Array) -> "Term":
        """Wraps a value of the complete batch, with a count of one."""
        return cls(value, jnp.ones((), value.dtype), telemetry)

    @classmethod
    def of_rows(cls, mean: jax.Array, weight: ArrayLike) -> "Term":
        """Wraps a mean over rows with the weights [B]."""
        count = jnp.sum(weight).astype(mean.dtype)
        return cls(mean * count, count)

    @property
    def mean(self) -> jax.Array:
        """Total over count; 0 if the count is 0."""
        return self.total / jnp.where(self.count > 0, self.count, 1)


@struct.dataclass
class Reconstruction:
    """A decoded modality, and the examples for which there was a code."""

    values: Any  # [B, ...] in the shape of the modality: means, or logits of values in [0, 1]
    present: Any  # [B] bool


@struct.dataclass
class Posterior:
    """For every example, a Gaussian over K latent variables with diagonal covariance."""

    mean: Any  # [B, K]
    log_variance: Any  # [B, K]
    present: Any  # [B] bool


@struct.dataclass
class Outputs:
    """The outputs of a model, which objectives and evaluations read."""

    embeddings: Mapping[str, Any]  # modality -> [B, D]
    present: Mapping[str, Any]  # modality -> [B] bool
    features: Mapping[str, Features] = struct.field(default_factory=dict)  # modality -> Features
    fused: Any = None  # Features, of a model with a fusion
    streams: Mapping[str, Features] = struct.field(default_factory=dict)  # of `Fused`
    predictions: Mapping[str, Prediction] = struct.field(default_factory=dict)  # target ->
    generated: Mapping[str, Prediction] = struct.field(default_factory=dict)  # target -> ids [B, L]
    reconstructions: Mapping[str, Any] = struct.field(default_factory=dict)  # -> Reconstruction
    posteriors: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> Posterior
    terms: Mapping[str, Term] = struct.field(default_factory=dict)  # name -> Term, of the fusion
    unimodal: Mapping[str, Any] = struct.field(default_factory=dict)
    # modality -> target -> Prediction, of heads that see only this modality
    shares: Mapping[str, Any] = struct.field(default_factory=dict)  # modality -> [B], of `Fused`
    statistics: Mapping[str, Any] = struct.field(default_factory=dict)  # name -> [] to log


def unit_floats(x: Any) -> Any:
    """uint8 values divided by 255, in float32; any other array unchanged."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
