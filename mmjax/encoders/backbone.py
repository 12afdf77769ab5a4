"""What the encoders with published weights share: normalisation, pooled output, class logits."""

import abc
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.structs import Features, Modality

Output = Literal["tokens", "pooled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone(Encoder):
    """Base of the configs of architectures that have published weights.

    Attributes:
        output: `tokens` gives the feature map or the patches or words; `pooled` gives one token,
            the architecture's own summary.
        classes: number of classes of the classification layer; 0: no such layer. An experiment's
            head takes its place, so only `mmjax.pretrained` sets it.
    """

    output: Output = "tokens"
    classes: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "classes", least=0)
        if self.output not in ("tokens", "pooled"):
            raise unknown_name("output of an encoder", self.output, ("tokens", "pooled"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageBackbone(Backbone):
    """Base of the configs that read images.

    Attributes:
        mean: subtracted from images in [0, 1]; one number, or one for each channel.
        std: the images are divided by it afterwards; above 0.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    kinds: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(value > 0 for value in self.std):
            raise ConfigError(f"{type(self).__name__}.std is {self.std}: choose it above 0.")

    def check_image(self, modality: Modality) -> None:
        """Checks the kind, and that mean and std fit the channels."""
        self.check_kind(modality)
        channels = modality.shape[-1]
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, channels):
                raise ConfigError(
                    f"{type(self).__name__}.{name} has {len(getattr(self, name))} numbers, but the "
                    f"images have {channels} channels: give 1 or {channels}."
                )


class BackboneModule(nnx.Module):
    """Base of the modules of `Backbone` configs."""

    output: Output
    features: FeatureShape
    classifier: nnx.Linear  # only of a config with `classes`

    def normalise(self, x: jax.Array) -> jax.Array:
        """The inputs as the weights expect them."""
        return x

    @abc.abstractmethod
    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """Normalised inputs to tokens."""

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The architecture's summary [B, D] of its tokens; here the mean of the valid ones."""
        return mean_of_tokens(features)

    def logits(self, features: Features) -> jax.Array:
        """The classification layer's output [B, classes]."""
        return self.classifier(self.pool(features, train=False, rngs=None))

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """See `EncoderModule`."""
        features = self.encode(self.normalise(x), mask, present, train=train, rngs=rngs)
        if self.output == "tokens":
            return features
        pooled = self.pool(features, train=train, rngs=rngs)
        return Features(tokens=pooled[:, None], mask=jnp.ones((len(pooled), 1), bool))


class ImageModule(BackboneModule):
    """Base of the modules of `ImageBackbone` configs."""

    def finish(self, config: ImageBackbone, modality: Modality, dtype: jnp.dtype) -> None:
        """Notes the normalisation and the shape of the features; call it last in `__init__`.

        Raises:
            ConfigError: the images are too small for the architecture.
        """
        self.mean, self.std = config.mean, config.std
        self.output, self.dtype = config.output, dtype

        def shapes(x: jax.Array) -> Any:
            features = self.encode(x, None, jnp.ones(1, bool), train=False, rngs=None)
            if not features.tokens.size:
                return features.tokens, None
            return features.tokens, self.pool(features, train=False, rngs=None)

        tokens, pooled = jax.eval_shape(shapes, blank(modality, dtype))
        if pooled is None:
            height, width = modality.shape[:2]
            raise ConfigError(
                f"An image of {height} x {width} pixels is too small for {type(config).__name__}: "
                "nothing is left of it after the last pooling; enlarge the images."
            )
        if config.output == "pooled":
            self.features = FeatureShape(1, pooled.shape[-1])
        else:
            self.features = FeatureShape(*tokens.shape[1:])

    def normalise(self, x: jax.Array) -> jax.Array:
        """Images in [0, 1], with the weights' mean subtracted, over their deviation."""
        scale = np.reciprocal(np.asarray(self.std, np.float32))
        shifted = x.astype(jnp.float32) - np.asarray(self.mean, np.float32)
        return (shifted * scale).astype(self.dtype)


def mean_of_tokens(features: Features) -> jax.Array:
    """The mean [B, D] of the valid tokens; 0 for a row without any."""
    weight = features.mask[:, :, None]
    total = jnp.where(weight, features.tokens, 0).sum(1)
    return total / jnp.maximum(weight.sum(1), 1).astype(total.dtype)


def map_to_tokens(x: jax.Array) -> Features:
    """[B, H, W, C] to H W tokens, row by row."""
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    return Features(tokens=tokens, mask=jnp.ones(tokens.shape[:2], bool))


def blank(modality: Modality, dtype: jnp.dtype) -> jax.ShapeDtypeStruct:
    """The shape of one example, as a batch of 1."""
    return jax.ShapeDtypeStruct((1, *modality.shape), dtype)
