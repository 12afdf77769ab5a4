"""Any image encoder over the frames of a video, and any sequence encoder over what it gives."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class Frames(Encoder):
    """Every frame as an image, pooled to one vector, then an encoder of the sequence of these.

    A masked frame is zero, counts in no batch statistics, and changes no token of another frame.
    All frames of a batch go through the image encoder at once, so B examples of T frames need the
    memory of B T images.

    Attributes:
        image: encoder of one frame.
        over_time: encoder of the sequence of frames, such as
            `SequenceRNN(bidirectional=True)` or `SequenceTransformer()`; None: one token per
            frame, of which the mean is pooled.

    Reference:
        Donahue et al. 2015, Long-Term Recurrent Convolutional Networks for Visual Recognition and
        Description (an LSTM over frames). Arnab et al. 2021, ViViT, section 3.3, model 2 (a
        Transformer over those of the frames).
    """

    image: Encoder
    over_time: Encoder | None = None
    kinds: ClassVar[tuple[str, ...]] = ("video",)

    def __post_init__(self) -> None:
        for field, kind in (("image", "image"), ("over_time", "sequence")):
            encoder = getattr(self, field)
            if encoder is not None and kind not in encoder.kinds:
                raise ConfigError(
                    f"Frames.{field} is {type(encoder).__name__}, which encodes "
                    f"{' or '.join(encoder.kinds)}: choose an encoder of the kind {kind}."
                )

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "FramesModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return FramesModule(self, modality, dtype=dtype, rngs=rngs)


class FramesModule(nnx.Module):
    """The module that `Frames` builds."""

    def __init__(
        self, config: Frames, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        frames, *frame = modality.shape
        image = Modality("image", tuple(frame), modality.dtype)
        self.image = config.image.build(image, dtype=dtype, rngs=rngs)
        self.features, over_time = FeatureShape(frames, self.image.features.width), None
        if config.over_time is not None:
            sequence = Modality("sequence", tuple(self.features))
            over_time = config.over_time.build(sequence, dtype=dtype, rngs=rngs)
            self.features = over_time.features
        self.over_time = over_time

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, T, height, width, channels] to one token per frame, or to those of `over_time`."""
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        images = jnp.where(mask[:, :, None, None, None], x, 0).reshape(-1, *x.shape[2:])
        there = (mask & present[:, None]).reshape(-1)
        encoded = self.image(images, None, there, train=train, rngs=rngs)
        frames = encoded.pooled.reshape(*mask.shape, -1)
        if self.over_time is None:
            return Features(frames, mask)
        return self.over_time(frames, mask, present, train=train, rngs=rngs)
