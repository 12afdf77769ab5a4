"""Recurrent layers over words or over a sequence of vectors."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape, valid_steps
from mmjax.errors import check_sizes
from mmjax.layers import Cell, Recurrent, Summary, check_summary, summarised
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class SequenceRNN(Encoder):
    """An LSTM, a GRU or a simple RNN, in one or both directions; one token per step.

    Words get an embedding each; vectors are read as they are. A masked step keeps the state, so
    that padding before or after a sequence, and gaps in it, change nothing. `mmjax.layers.recur`
    gives the equations.

    Attributes:
        width: D of the word embeddings and the tokens; with `bidirectional` even, half of it for
            each direction.
        cell: `lstm`, `gru` or `rnn`.
        layers: number of recurrent layers.
        bidirectional: whether each layer also goes from the last step to the first.
        dropout: rate on the input of every layer, in [0, 1).
        output: `tokens`, one per step; or one token: their `mean` or `max` over the valid steps, or
            the `last` state of each direction (backwards, that is the one at the first step).

    Reference:
        Elman 1990, Finding Structure in Time; Hochreiter and Schmidhuber 1997; Cho et al. 2014
        (cells). Schuster and Paliwal 1997, Bidirectional Recurrent Neural Networks.
    """

    width: int = 64
    cell: Cell = "lstm"
    layers: int = 1
    bidirectional: bool = False
    dropout: float = 0.0
    output: Summary = "tokens"
    kinds: ClassVar[tuple[str, ...]] = ("text", "sequence")

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers")
        check_summary(self, self.output)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "SequenceRNNModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return SequenceRNNModule(self, modality, dtype=dtype, rngs=rngs)


class SequenceRNNModule(nnx.Module):
    """The module that `SequenceRNN` builds."""

    def __init__(
        self, config: SequenceRNN, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.of_words, width = modality.kind == "text", config.width
        if self.of_words:
            self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        self.recurrent = Recurrent(
            width if self.of_words else modality.shape[-1],
            width,
            cell=config.cell,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            dtype=dtype,
            rngs=rngs,
        )
        self.forwards = width // 2 if config.bidirectional else width
        self.output: Summary = config.output
        self.features = FeatureShape(modality.shape[0] if self.output == "tokens" else 1, width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] word ids, of which 0 is padding, or [B, T, D_in] vectors to tokens."""
        mask = valid_steps(x, mask)
        x = self.embed(x) if self.of_words else x
        states = self.recurrent(x, mask, train=train, rngs=rngs)
        if self.output != "last":
            return summarised(states, mask, self.output)
        # The last step has the last valid state, as masked steps keep it; backwards, the first.
        last = jnp.concatenate(
            [states[:, -1, : self.forwards], states[:, 0, self.forwards :]], axis=-1
        )
        return Features.of_vector(last, mask.any(axis=1))
