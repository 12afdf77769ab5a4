"""A model for alignment of any number of modalities: an encoder for each, into one space."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import Encoder
from mmjax.errors import ConfigError, check_sizes
from mmjax.models.model import Model, build_encoders, embeddings_of, encode, encoder_paths
from mmjax.structs import Batch, Modality, Outputs, Target


@dataclasses.dataclass(frozen=True)
class MultiEncoder(Model):
    """Encoders whose pooled features are the embeddings that a multi-view objective compares.

    Attributes:
        encoders: modality -> encoder, two or more.
        width: D of a common space, to which a linear layer projects each modality; 0 for no layer.
        frozen: modalities whose encoders are frozen (not trained). These run in evaluation mode,
            without dropout and with the running statistics, and their parameters stay constant.
    """

    encoders: Mapping[str, Encoder]
    width: int = 0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, "width", least=0)

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
    ) -> "MultiEncoderModule":
        """See `Model.build`."""
        return MultiEncoderModule(self, modalities, dtype=dtype, rngs=rngs)


class MultiEncoderModule(nnx.Module):
    """The module that `MultiEncoder` builds."""

    def __init__(
        self,
        config: MultiEncoder,
        modalities: Mapping[str, Modality],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        if len(config.encoders) < 2:
            raise ConfigError(
                f"MultiEncoder needs two or more encoders, but has {len(config.encoders)} "
                f"({', '.join(config.encoders)}): add encoders."
            )
        self.encoders = build_encoders(
            config.encoders, modalities, dtype=dtype, rngs=rngs, frozen=config.frozen
        )
        self.frozen = config.frozen
        projections = {}
        if config.width:
            projections = {
                name: nnx.Linear(encoder.features.width, config.width, dtype=dtype, rngs=rngs)
                for name, encoder in self.encoders.items()
            }
        self.project = nnx.Dict(projections)

    def __call__(
        self, batch: Batch, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Outputs:
        """Embeds all modalities."""
        features = encode(self.encoders, batch, train=train, rngs=rngs, frozen=self.frozen)
        embeddings, present = embeddings_of(features)
        for name, project in self.project.items():
            embeddings[name] = project(embeddings[name])
        return Outputs(embeddings=embeddings, present=present, features=features)
