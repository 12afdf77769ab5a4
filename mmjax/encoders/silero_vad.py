"""Silero's voice activity detector: convolutions over short spectra, then an LSTM over chunks."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.encoders.backbone import Backbone, BackboneModule
from mmjax.encoders.encoder import FeatureShape
from mmjax.errors import ConfigError
from mmjax.structs import Features, Modality

RATE = 16_000  # Hz
CHUNK = 512  # samples, 32 ms
CONTEXT = 64  # samples of the chunk before, which a chunk is heard with
WINDOW, HOP = 256, 128  # of the spectra, in samples
WIDTH = 128
# Channels out and stride of the convolutions over the spectra of a chunk; kernels of 3.
CONVOLUTIONS = ((128, 1), (64, 2), (64, 2), (WIDTH, 1))


class Heard(NamedTuple):
    """What the detector keeps from one chunk to the next."""

    state: jax.Array  # [B, 128]
    memory: jax.Array  # [B, 128]
    context: jax.Array  # [B, 64], the last samples

    @classmethod
    def nothing(cls, rows: int) -> "Heard":
        """Before the first chunk."""
        return cls(*(jnp.zeros((rows, size)) for size in (WIDTH, WIDTH, CONTEXT)))


@dataclasses.dataclass(frozen=True)
class SileroVAD(Backbone):
    """Four convolutions over the magnitudes of a chunk, and an LSTM cell; one token per chunk.

    A chunk has 512 samples at 16 kHz (32 ms) and is heard with the 64 samples before it. The tokens
    are the LSTM's states [B, T, 128]; the summary is their mean over the valid chunks. The last
    chunk is filled up with zeros. A chunk is valid if one of its samples is; others keep the state.
    An untrained one begins with the spectra of a Hann window, as the published weights have them.

    Silero Team, Silero VAD, version 6, https://github.com/snakers4/silero-vad (the part for 16 kHz
    of its model). The cell is Hochreiter and Schmidhuber's (1997) with the forget gate of Gers et
    al. (2000).
    """

    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "SileroVADModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        (samples,) = modality.shape
        if modality.sample_rate != RATE:
            raise ConfigError(
                f"SileroVAD hears sound at {RATE} Hz, but the modality has the sample rate "
                f"{modality.sample_rate}: resample it with mmjax.audio.resample."
            )
        if samples < CHUNK:
            raise ConfigError(
                f"The clips have {samples} samples, fewer than the {CHUNK} of a chunk of "
                "SileroVAD: pad them with zeros."
            )
        return SileroVADModule(self, samples, dtype=dtype, rngs=rngs)


class SileroVADModule(BackboneModule):
    """The module that `SileroVAD` builds; with `classes=1` it tells speech from other sounds."""

    def __init__(
        self, config: SileroVAD, samples: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.spectra = nnx.Conv(
            *(1, WINDOW + 2, (WINDOW,)),
            strides=HOP,
            padding="VALID",
            use_bias=False,
            kernel_init=lambda *_: jnp.asarray(_fourier()),
            rngs=rngs,
        )
        channels = (WINDOW // 2 + 1, *(channels for channels, _ in CONVOLUTIONS))
        self.convs = nnx.List(
            nnx.Conv(
                *(channels[index], channels[index + 1], (3,)),
                strides=stride,
                padding=((1, 1),),
                dtype=dtype,
                rngs=rngs,
            )
            for index, (_, stride) in enumerate(CONVOLUTIONS)
        )
        self.from_input = nnx.Linear(WIDTH, 4 * WIDTH, dtype=dtype, rngs=rngs)
        self.from_state = nnx.Linear(
            *(WIDTH, 4 * WIDTH),
            kernel_init=nnx.initializers.orthogonal(),
            dtype=dtype,
            rngs=rngs,
        )
        if config.classes:
            self.classifier = nnx.Linear(WIDTH, config.classes, dtype=dtype, rngs=rngs)
        self.output = config.output
        tokens = -(-samples // CHUNK) if config.output == "tokens" else 1
        self.features = FeatureShape(tokens, WIDTH)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, S] waveforms to a token per chunk; valid if one of its samples is."""
        return self.listen(x, mask)[0]

    def listen(
        self, x: jax.Array, mask: jax.Array | None = None, heard: Heard | None = None
    ) -> tuple[Features, Heard]:
        """As `encode`, but going on from what was heard before, for sound that comes in pieces.

        Args:
            x: waveforms [B, S]; all pieces but the last have a multiple of 512 samples.
            mask: valid samples [B, S]; None: all.
            heard: what the piece before gave; None: this is the first.

        Returns:
            The states [B, T, 128] of the T chunks and which are valid, and what was heard.
        """
        heard = Heard.nothing(len(x)) if heard is None else heard
        mask = jnp.ones(x.shape, bool) if mask is None else mask
        x = jnp.where(mask, x, 0).astype(jnp.float32)  # NaN times a weight of 0 would be NaN
        x, mask = (jnp.pad(part, ((0, 0), (0, -x.shape[1] % CHUNK))) for part in (x, mask))
        chunks, valid = (part.reshape(len(x), -1, CHUNK) for part in (x, mask))
        ends = jnp.concatenate([heard.context[:, None], chunks[:, :, -CONTEXT:]], axis=1)
        inputs = self._inputs(jnp.concatenate([ends[:, :-1], chunks], axis=2))
        valid = valid.any(axis=2)
        kernel, bias = (part[...].astype(inputs.dtype) for part in self._recurrent)

        def step(
            carry: tuple[jax.Array, jax.Array], at: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            gates, there = at[0] + carry[0] @ kernel + bias, at[1][:, None]
            enter, forget, new, leave = jnp.split(gates, 4, axis=-1)
            memory = nnx.sigmoid(forget) * carry[1] + nnx.sigmoid(enter) * jnp.tanh(new)
            after = (nnx.sigmoid(leave) * jnp.tanh(memory), memory)
            kept = (jnp.where(there, after[0], carry[0]), jnp.where(there, after[1], carry[1]))
            return kept, kept[0]

        start = (heard.state.astype(inputs.dtype), heard.memory.astype(inputs.dtype))
        over_time = (inputs.swapaxes(0, 1), valid.T)
        (state, memory), states = jax.lax.scan(step, start, over_time)
        return Features(states.swapaxes(0, 1), valid), Heard(state, memory, ends[:, -1])

    def logits(self, features: Features) -> jax.Array:
        """The logit of speech in each chunk, [B, T]."""
        return self.classifier(nnx.relu(features.tokens))[..., 0]

    @property
    def _recurrent(self) -> tuple[nnx.Param, nnx.Param]:
        assert self.from_state.bias is not None
        return self.from_state.kernel, self.from_state.bias

    def _inputs(self, chunks: jax.Array) -> jax.Array:
        """[B, T, 576] samples to the products of the LSTM's inputs and weights, [B, T, 512]."""
        x = chunks.reshape(-1, chunks.shape[-1])
        x = jnp.pad(x, ((0, 0), (0, CONTEXT)), mode="reflect")
        parts = jnp.split(self.spectra(x[:, :, None]), 2, axis=-1)  # [B T, 4, 129] each
        energy = parts[0] ** 2 + parts[1] ** 2
        there = energy > 0  # the slope of a square root at 0 is infinite
        y = jnp.where(there, jnp.sqrt(jnp.where(there, energy, 1)), 0)
        for conv in self.convs:
            y = nnx.relu(conv(y))
        return self.from_input(y[:, 0]).reshape(*chunks.shape[:2], -1)


def _fourier() -> np.ndarray:
    """Cosines, then sines, of the frequencies, under a Hann window, [256, 1, 258] float32."""
    place = np.arange(WINDOW)
    angle = 2 * np.pi / WINDOW * np.outer(place, np.arange(WINDOW // 2 + 1))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * place / WINDOW)
    basis = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
    return (hann[:, None] * basis)[:, None].astype(np.float32)
