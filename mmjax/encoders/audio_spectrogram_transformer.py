"""The Audio Spectrogram Transformer (AST) with the sizes and the sound of its published weights."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.audio import frame_mask, frames, kaldi_fbank
from mmjax.encoders.backbone import Backbone, BackboneModule
from mmjax.encoders.encoder import FeatureShape
from mmjax.encoders.vit import ViTBlock
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers.dropout import checked_dropout
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class AST(Backbone):
    """Transformer over overlapping patches of a Kaldi filter bank; two tokens of the whole clip.

    Gong, Chung and Glass 2021, AST: Audio Spectrogram Transformer, section 2.1, with the class and
    the distillation token of Touvron et al. 2021. The tokens are these two, then the patches by
    band, then time. The summary is the mean of the two. As the weights were trained, a shorter clip
    has zeros in the place of the frames that it lacks, which are attended to as all others; of a
    longer one, the first `frames` are heard. A patch is valid if one of its frames is.

    Attributes:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        hidden: width of the dense layers inside the blocks.
        patch: frames, and bands, of a patch.
        stride: frames and bands between the starts of two patches.
        frames: of the filter bank, 10 ms each.
        bands: of the filter bank.
        mean: subtracted from the filter bank.
        std: the filter bank is divided by twice this; above 0.
        sample_rate: in Hz.
        dropout: rate on the embeddings and the residual branches, in [0, 1).
        epsilon: of the layer norms.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    patch: int = 16
    stride: tuple[int, int] = (10, 10)
    frames: int = 1024
    bands: int = 128
    mean: float = -4.2677393
    std: float = 4.5689974
    sample_rate: int = 16_000
    dropout: float = 0.0
    epsilon: float = 1e-12
    kinds: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "width", "layers", "heads", "hidden", "patch", "stride", "frames")
        check_sizes(self, "bands", "sample_rate")
        if not self.std > 0:
            raise ConfigError(f"AST.std is {self.std}: choose it above 0.")
        if min(self.frames, self.bands) < self.patch:
            raise ConfigError(
                f"AST has {self.frames} frames and {self.bands} bands, but its patches are of "
                f"{self.patch}: choose a smaller AST.patch, or more of both."
            )

    @property
    def frame_length(self) -> int:
        """Samples in a frame of 25 ms."""
        return round(0.025 * self.sample_rate)

    @property
    def hop(self) -> int:
        """Samples between the starts of two frames, 10 ms."""
        return round(0.01 * self.sample_rate)

    @property
    def samples(self) -> int:
        """Samples of a clip of exactly `frames` frames."""
        return self.frame_length + self.hop * (self.frames - 1)

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches over time and over bands."""
        of_time, of_bands = (
            1 + (whole - self.patch) // stride
            for whole, stride in zip((self.frames, self.bands), self.stride, strict=True)
        )
        return of_time, of_bands

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "ASTModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        if modality.sample_rate != self.sample_rate:
            raise ConfigError(
                f"AST hears sound at {self.sample_rate} Hz, but the modality has the sample rate "
                f"{modality.sample_rate}: resample it with mmjax.audio.resample."
            )
        frames(modality.shape[0], frame_length=self.frame_length, hop=self.hop)
        return ASTModule(self, dtype=dtype, rngs=rngs)

    def spectrogram(self, x: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """[B, S] waveforms to the filter bank [B, frames, bands], and the valid frames of it.

        Args:
            x: waveforms [B, S].
            mask: valid samples [B, S]; None: all. A frame is valid if all of its samples are.
        """
        length, hop = self.frame_length, self.hop
        x, mask = x[:, : self.samples], jnp.ones(x.shape, bool) if mask is None else mask
        mask = mask[:, : self.samples]
        bank = kaldi_fbank(
            x,
            sample_rate=self.sample_rate,
            frame_length=length,
            hop=hop,
            bands=self.bands,
            mask=mask,
        )
        valid = frame_mask(mask, frame_length=length, hop=hop)
        beyond = ((0, 0), (0, self.frames - valid.shape[1]))
        bank = jnp.pad(jnp.where(valid[:, :, None], bank, 0), (*beyond, (0, 0)))
        return (bank - self.mean) / (2 * self.std), jnp.pad(valid, beyond)


class ASTModule(BackboneModule):
    """The module that `AST` builds."""

    def __init__(self, config: AST, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width, patches = config.width, config.grid[0] * config.grid[1]
        self.patch = nnx.Conv(
            *(1, width, (config.patch, config.patch)),
            strides=config.stride[::-1],
            padding="VALID",
            dtype=dtype,
            rngs=rngs,
        )

        def small(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

        self.class_token, self.distillation_token = small(1, 1, width), small(1, 1, width)
        self.positions = small(1, patches + 2, width)
        self.dropout = checked_dropout(config.dropout)
        self.blocks = nnx.List(
            ViTBlock(
                *(width, config.heads, config.hidden),
                dropout=config.dropout,
                epsilon=config.epsilon,
                dtype=dtype,
                rngs=rngs,
            )
            for _ in range(config.layers)
        )
        self.norm = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        if config.classes:
            self.classifier_norm = nnx.LayerNorm(
                width, epsilon=config.epsilon, dtype=dtype, rngs=rngs
            )
            self.classifier = nnx.Linear(width, config.classes, dtype=dtype, rngs=rngs)
        self.config, self.dtype, self.output = config, dtype, config.output
        self.features = FeatureShape(patches + 2 if config.output == "tokens" else 1, width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """See `EncoderModule`; [B, S] waveforms."""
        bank, valid = self.config.spectrogram(x, mask)
        return super().__call__(bank.astype(self.dtype), valid, present, train=train, rngs=rngs)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """The filter bank [B, frames, bands], and its valid frames [B, frames], to tokens."""
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        patches = self.patch(x.swapaxes(1, 2)[..., None])  # [B, of_bands, of_time, D]
        starts = self.config.stride[0] * np.arange(patches.shape[2])[:, None]
        heard = mask[:, starts + np.arange(self.config.patch)].any(axis=2)
        whole = jnp.repeat(mask.any(axis=1, keepdims=True), 2, axis=1)
        valid = jnp.concatenate([whole, jnp.tile(heard, patches.shape[1])], axis=1)
        first = jnp.concatenate([self.class_token[...], self.distillation_token[...]], axis=1)
        first = jnp.broadcast_to(first.astype(patches.dtype), (len(x), *first.shape[1:]))
        x = jnp.concatenate([first, patches.reshape(len(x), -1, patches.shape[-1])], axis=1)
        x = x + self.positions[...].astype(x.dtype)
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return Features(tokens=self.norm(x), mask=valid)

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The mean [B, D] of the class and the distillation token."""
        return (features.tokens[:, 0] + features.tokens[:, 1]) / 2

    def logits(self, features: Features) -> jax.Array:
        """The classification layer's output [B, classes]."""
        return self.classifier(self.classifier_norm(self.pool(features, train=False, rngs=None)))
