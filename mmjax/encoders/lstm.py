"""Long short-term memory over word ids."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import recur
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class LSTM(Encoder):
    """Word embeddings and one LSTM layer; one token per word; masked words keep the state.

    The gates follow Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, whose
    bias starts at 1.

    Attributes:
        width: D of the word embeddings, the state and the tokens.
    """

    width: int = 64
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "LSTMEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return LSTMEncoder(self, modality, dtype=dtype, rngs=rngs)


class LSTMEncoder(nnx.Module):
    """The module that `LSTM` builds."""

    def __init__(
        self, config: LSTM, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        (words,) = modality.shape
        width = config.width
        self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        self.from_input = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.from_state = nnx.Linear(
            width,
            4 * width,
            use_bias=False,
            kernel_init=nnx.initializers.orthogonal(),
            dtype=dtype,
            rngs=rngs,
        )
        self.features = FeatureShape(tokens=words, width=width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] word ids to L tokens; id 0 is padding."""
        mask = (x != 0) if mask is None else mask
        inputs = self.from_input(self.embed(x))  # one matrix product for all words
        kernel = self.from_state.kernel[...].astype(inputs.dtype)
        return Features(tokens=recur("lstm", inputs, kernel, mask), mask=mask)
