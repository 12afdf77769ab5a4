"""Variational CCA: views decoded from a latent variable that is inferred from one of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import Encoder
from mmjax.errors import ConfigError, unknown_name
from mmjax.models.decoders import Decoder, build_decoders
from mmjax.models.model import Model, build_encoders, encode, encoder_paths
from mmjax.structs import Batch, Features, Modality, Outputs, Posterior, Target


@dataclasses.dataclass(frozen=True)
class VariationalCCA(Model):
    """VCCA and, with `private` encoders, VCCA-private: the embedding of `view` is E[z | view].

        z ~ N(0, I),   h_v ~ N(0, I),   view v ~ p(. | z, h_v),   q(z | view), q(h_v | v)

    An encoder's output is split into two halves, the mean and the log variance of its Gaussian, so
    that a `width` of 2 K gives K latent variables. In training z and h_v are sampled from q with
    the reparametrisation trick; in evaluation they are its means. The bound of the paper is the sum
    of the objectives `KLDivergence` and, for each view, `BernoulliReconstruction`, or
    `SquaredReconstruction` with the weight 1 / (2 sigma^2) for a Gaussian with standard deviation
    sigma.

    Attributes:
        view: the modality from which z is inferred, and whose embedding the model gives.
        encoder: encoder of q(z | view), with an even width.
        decoders: modality -> decoder.
        private: modality -> encoder of q(h_v | v), with an even width; for modalities with a
            decoder, which then reads the concatenation of z and h_v.
        frozen: the view, to freeze its encoder, or empty; see `MultiEncoder`.

    Reference:
        Wang, Yan, Lee, Livescu, Deep Variational Canonical Correlation Analysis, 2016, section 3
        (VCCA) and 3.1 (VCCA-private).
    """

    view: str
    encoder: Encoder
    decoders: Mapping[str, Decoder]
    private: Mapping[str, Encoder] = dataclasses.field(default_factory=dict)
    frozen: tuple[str, ...] = ()

    @property
    def frozen_paths(self) -> tuple[tuple[str, ...], ...]:
        """See `Model.frozen_paths`."""
        return encoder_paths(self.frozen)

    def build(
        self,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Target],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> "VariationalCCAModule":
        """See `Model.build`."""
        return VariationalCCAModule(self, modalities, dtype=dtype, rngs=rngs)


class VariationalCCAModule(nnx.Module):
    """The module that `VariationalCCA` builds."""

    def __init__(
        self,
        config: VariationalCCA,
        modalities: Mapping[str, Modality],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.view, self.frozen = config.view, config.frozen
        self.encoders = build_encoders(
            {config.view: config.encoder},
            modalities,
            dtype=dtype,
            rngs=rngs,
            frozen=config.frozen,
        )
        for name in config.private:
            if name not in config.decoders:
                raise unknown_name("decoder for the private encoder of", name, config.decoders)
        self.private: nnx.Dict = nnx.Dict({})
        if config.private:
            self.private = build_encoders(config.private, modalities, dtype=dtype, rngs=rngs)
        latent = _latents(self.encoders[config.view], config.view)
        widths = dict.fromkeys(config.decoders, latent)
        for name, encoder in self.private.items():
            widths[name] += _latents(encoder, name)
        self.decoders = build_decoders(config.decoders, widths, modalities, dtype=dtype, rngs=rngs)

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """The mean of z, the posteriors, and the views decoded from them."""
        shared = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        posteriors = {"shared": _posterior(shared[self.view])}
        for name, features in encode(self.private, batch, train=train, rngs=rngs).items():
            posteriors[f"private_{name}"] = _posterior(features)
        z = _draw(posteriors["shared"], rngs if train else None)
        present = posteriors["shared"].present
        reconstructions = {}
        for name, decoder in self.decoders.items():
            code, has_code = z, present
            if name in self.private:
                own = posteriors[f"private_{name}"]
                code = jnp.concatenate([z, _draw(own, rngs if train else None)], axis=1)
                has_code = has_code & own.present
            reconstructions[name] = decoder(code, has_code, train=train, rngs=rngs)
        return Outputs(
            embeddings={self.view: posteriors["shared"].mean},
            present={self.view: present},
            reconstructions=reconstructions,
            posteriors=posteriors,
        )


def _latents(encoder: Any, name: str) -> int:
    width = encoder.features.width
    if width % 2:
        raise ConfigError(
            f"The encoder of {name!r} has a width of {width}, but VariationalCCA splits it into "
            "means and log variances: choose an even width."
        )
    return width // 2


def _posterior(features: Features) -> Posterior:
    mean, log_variance = jnp.split(features.pooled.astype(jnp.float32), 2, axis=1)
    return Posterior(mean, log_variance, features.present)


def _draw(posterior: Posterior, rngs: nnx.Rngs | None) -> jax.Array:
    """A sample of the latent variables, [B, K]; their means if `rngs` is None."""
    if rngs is None:
        return posterior.mean
    noise = jax.random.normal(rngs.dropout(), posterior.mean.shape, posterior.mean.dtype)
    return posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise
