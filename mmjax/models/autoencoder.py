"""Multi-view autoencoders: encoders, and decoders of their codes."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import Encoder
from mmjax.errors import ConfigError, unknown_name
from mmjax.models.decoders import Decoder, build_decoders
from mmjax.models.model import Model, build_encoders, embeddings_of, encode, encoder_paths
from mmjax.structs import Batch, Modality, Outputs, Target


@dataclasses.dataclass(frozen=True)
class Autoencoder(Model):
    """Encodes each view, and decodes views from the codes, which are the embeddings.

    With an encoder and a decoder for each of two views, the objective `SquaredReconstruction`, and
    in addition `DCCA`, `DimensionwiseCorrelation`, `RelativeDistance` or `UnitDistance`, this is
    DCCAE, CorrAE or DistAE. With the encoder of one view, set as `code`, and decoders of both views
    it is SplitAE.

    Attributes:
        encoders: modality -> encoder, one or more.
        decoders: modality -> decoder.
        code: the modality whose code all decoders read; if empty, each reads that of its own.
        frozen: modalities of frozen encoders; see `MultiEncoder`.

    Reference:
        Ngiam et al., Multimodal Deep Learning, ICML 2011 (SplitAE); Wang, Arora, Livescu, Bilmes,
        On Deep Multi-View Representation Learning, ICML 2015 (the others).
    """

    encoders: Mapping[str, Encoder]
    decoders: Mapping[str, Decoder]
    code: str = ""
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
    ) -> "AutoencoderModule":
        """See `Model.build`."""
        return AutoencoderModule(self, modalities, dtype=dtype, rngs=rngs)


class AutoencoderModule(nnx.Module):
    """The module that `Autoencoder` builds."""

    def __init__(
        self,
        config: Autoencoder,
        modalities: Mapping[str, Modality],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.encoders = build_encoders(
            config.encoders, modalities, dtype=dtype, rngs=rngs, frozen=config.frozen
        )
        self.frozen, self.code = config.frozen, config.code
        if config.code and config.code not in config.encoders:
            raise unknown_name("encoder for `code`,", config.code, config.encoders)
        for name in config.decoders:
            if name not in modalities:
                raise unknown_name("modality", name, modalities)
            if not config.code and name not in config.encoders:
                raise ConfigError(
                    f"The decoder of {name!r} has no code to read, because {name!r} has no "
                    "encoder: add one to `encoders`, or set `code` to the modality whose code all "
                    "decoders read."
                )
        widths = {
            name: self.encoders[config.code or name].features.width for name in config.decoders
        }
        self.decoders = build_decoders(config.decoders, widths, modalities, dtype=dtype, rngs=rngs)

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Embeds all views, and reconstructs those that have a decoder."""
        features = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        codes, present = embeddings_of(features)
        reconstructions = {}
        for name, decoder in self.decoders.items():
            source = self.code or name
            reconstructions[name] = decoder(codes[source], present[source], train=train, rngs=rngs)
        return Outputs(
            embeddings=codes, present=present, features=features, reconstructions=reconstructions
        )
