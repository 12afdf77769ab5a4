"""Modality dropout: in training, some examples lose a modality."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Features


@dataclasses.dataclass(frozen=True)
class ModalityDropout:
    """In each training step, hides modalities of some examples from the fusion.

    Each modality of each example is hidden with its rate, independently of the others. An example
    that would lose all its modalities keeps one of them, chosen evenly; so the realised rate is a
    little below the given one (with two modalities at rate p, it is p - p^2 / 2). The run logs it
    with what the data lacks, as `missing/MODALITY`.

    Encoders, embeddings and objectives of alignment still see the complete example, and so do heads
    of one modality (`FusionModel.unimodal`). With the rate 0, training is the same to the bit as
    without dropout.

    Attributes:
        rate: probability of hiding a modality, from 0 to 1.
        rates: modality -> its own rate, instead of `rate`.

    Reference:
        Neverova, Wolf, Taylor and Nebout, ModDrop, PAMI 2016, section 4.2. There, an example may
        lose all its modalities.
    """

    rate: float = 0.0
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rate in {"rate": self.rate, **self.rates}.items():
            if not 0 <= rate <= 1:
                raise ConfigError(f"ModalityDropout: {name} is {rate}; choose it from 0 to 1.")

    def of(self, modalities: Mapping[str, object]) -> dict[str, float]:
        """Modality -> its rate, by sorted names; ConfigError for a rate of no modality."""
        for name in self.rates:
            if name not in modalities:
                raise unknown_name("modality of the model, for a dropout,", name, modalities)
        return {name: self.rates.get(name, self.rate) for name in sorted(modalities)}


def dropped(
    features: Mapping[str, Features], rates: Mapping[str, float], rngs: nnx.Rngs
) -> dict[str, Features]:
    """The features, without the tokens of the hidden modalities.

    Args:
        features: modality -> features [B, T, D].
        rates: modality -> probability of hiding it.
        rngs: with the stream `dropout`.
    """
    names = sorted(features)
    there = jnp.stack([features[name].present for name in names], axis=1)
    key, of_one = jax.random.split(rngs.dropout())
    chances = jnp.array([rates[name] for name in names], jnp.float32)
    kept = there & (jax.random.uniform(key, there.shape) >= chances)
    # The largest of uniform numbers falls on each of the modalities that are there equally often.
    drawn = jnp.where(there, jax.random.uniform(of_one, there.shape), -1)
    one = jax.nn.one_hot(jnp.argmax(drawn, axis=1), len(names), dtype=bool) & there
    kept = jnp.where(kept.any(axis=1, keepdims=True), kept, one)
    return {
        name: Features(features[name].tokens, features[name].mask & kept[:, place, None])
        for place, name in enumerate(names)
    }
