"""Masks over time and frequency of a spectrogram, against overfitting."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mmjax.errors import ConfigError, check_sizes


@dataclasses.dataclass(frozen=True)
class SpecAugment:
    """Sets bands and stretches of time of each spectrogram to 0, at random places.

    Every mask has a width drawn evenly from 0 to the greatest one, and a place drawn evenly from
    those where it fits; masks may overlap. Each example has masks of its own. Masks of time lie
    within the valid frames. Without the time warp of the paper, which helped least there.

    In an encoder, 0 is the mean of the clip, as its spectrogram is standardised before.

    Attributes:
        frequency_masks: number of masks over bands.
        frequency_width: greatest width F of one, in bands; at most all of them are masked.
        time_masks: number of masks over frames.
        time_width: greatest width T of one, in frames.
        time_share: greatest width of one as a share p of the valid frames, in [0, 1].

    Reference:
        Park et al. 2019, SpecAugment: A Simple Data Augmentation Method for Automatic Speech
        Recognition, section 2. The defaults are its policy LD, with p = 1.
    """

    frequency_masks: int = 2
    frequency_width: int = 27
    time_masks: int = 2
    time_width: int = 100
    time_share: float = 1.0

    def __post_init__(self) -> None:
        widths = ("frequency_width", "time_width")
        check_sizes(self, "frequency_masks", "time_masks", *widths, least=0)
        if not 0 <= self.time_share <= 1:
            raise ConfigError(
                f"SpecAugment.time_share is {self.time_share}: choose a share from 0 to 1."
            )

    def __call__(
        self,
        spectrogram: Float[Array, "B F M"],
        valid: Bool[Array, "B F"],
        key: Key[Array, ""],
    ) -> Float[Array, "B F M"]:
        """Masks a batch.

        Args:
            spectrogram: [B, F, M].
            valid: valid frames [B, F]; the others stay as they are.
            key: of the random numbers; the same key gives the same masks.
        """
        rows, _, bands = spectrogram.shape
        of_bands, of_frames = jax.random.split(key)
        masked = _spans(
            of_bands, self.frequency_masks, self.frequency_width, jnp.full(rows, bands), bands
        )[:, None, :]
        length = valid.sum(axis=1)
        widest = jnp.minimum(self.time_width, jnp.floor(self.time_share * length + 1e-4))
        spans = _spans(of_frames, self.time_masks, widest, length, valid.shape[1])
        place = jnp.cumsum(valid, axis=1) - 1  # of each frame among the valid ones
        masked |= jnp.take_along_axis(spans, jnp.maximum(place, 0), axis=1)[:, :, None]
        return jnp.where(masked & valid[:, :, None], 0, spectrogram)


def _spans(
    key: jax.Array, masks: int, widest: jax.Array | int, length: jax.Array, size: int
) -> jax.Array:
    """[B, size] bool: the union of `masks` random spans within the first `length` [B] places."""
    widest, length = jnp.broadcast_to(widest, length.shape)[:, None], length[:, None]
    of_width, of_start = jax.random.uniform(key, (2, len(length), masks))
    width = jnp.minimum(jnp.floor(of_width * (jnp.minimum(widest, length) + 1)), length)
    start = jnp.floor(of_start * (length - width + 1))
    place = jnp.arange(size)[None, None, :]
    inside = (start[:, :, None] <= place) & (place < (start + width)[:, :, None])
    return inside.any(axis=1)
