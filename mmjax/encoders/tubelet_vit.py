"""Vision Transformer over tubelets: small blocks of a video in space and time."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import Transformer
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class TubeletViT(Encoder):
    """One token per tubelet, and a Transformer in which all of them attend to each other.

        token = E x + p     x: the t P P C values of a tubelet of t frames and P x P pixels
                            E: one linear layer for all; p: learned, one vector per position

    There are (T / t) (height / P) (width / P) tokens: first frames first, then row by row. The
    cost of attention grows with their square; `Frames(ViT(...), SequenceTransformer(...))` attends
    in space, then in time, at less cost. A tubelet is valid if one of its frames is; its masked
    frames are zero.

    Attributes:
        width: D of the tokens.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        patch: P, side of a tubelet, in pixels; divides the sides of the video.
        frames: t, length of a tubelet, in frames; divides the number of frames of the video.
        dropout: rate on the residual branches, in [0, 1).

    Reference:
        Arnab et al. 2021, ViViT: A Video Vision Transformer, section 3.2 (tubelet embedding) and
        3.3, model 1 (spatio-temporal attention).
    """

    width: int = 192
    layers: int = 4
    heads: int = 3
    patch: int = 16
    frames: int = 2
    dropout: float = 0.0
    kinds: ClassVar[tuple[str, ...]] = ("video",)

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads", "patch", "frames")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "TubeletViTModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        frames, height, width, _ = modality.shape
        if frames % self.frames or height % self.patch or width % self.patch:
            raise ConfigError(
                f"A video of {frames} frames of {height} x {width} pixels cannot be cut into "
                f"tubelets of {self.frames} frames of {self.patch} x {self.patch}: choose a number "
                f"of frames that is a multiple of {self.frames}, and sides that are multiples of "
                f"{self.patch}."
            )
        return TubeletViTModule(self, modality, dtype=dtype, rngs=rngs)


class TubeletViTModule(nnx.Module):
    """The module that `TubeletViT` builds."""

    def __init__(
        self, config: TubeletViT, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        frames, height, width, channels = modality.shape
        self.frames, self.patch = config.frames, config.patch
        self.in_space = (height // config.patch) * (width // config.patch)
        tokens = frames // config.frames * self.in_space
        self.tubelet = nnx.Linear(
            config.frames * config.patch**2 * channels, config.width, dtype=dtype, rngs=rngs
        )
        self.positions = nnx.Embed(tokens, config.width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.dropout, dtype=dtype, rngs=rngs
        )
        self.features = FeatureShape(tokens, config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, T, height, width, channels] to a token per tubelet."""
        batch, frames, height, width, channels = x.shape
        mask = jnp.ones((batch, frames), bool) if mask is None else mask
        x = jnp.where(mask[:, :, None, None, None], x, 0)
        time, side = self.frames, self.patch
        x = x.reshape(batch, -1, time, height // side, side, width // side, side, channels)
        x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)  # [B, T', H', W', t, P, P, C]
        tokens = self.tubelet(x.reshape(batch, self.features.tokens, -1))
        tokens = tokens + self.positions(jnp.arange(self.features.tokens))
        valid = jnp.repeat(mask.reshape(batch, -1, time).any(axis=2), self.in_space, axis=1)
        return Features(self.transformer(tokens, valid, train=train, rngs=rngs), valid)
