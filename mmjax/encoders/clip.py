"""The two towers of CLIP: a Transformer over patches of an image, and one over word pieces."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import Backbone, BackboneModule, ImageBackbone, ImageModule
from mmjax.encoders.encoder import FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers.attention import Attention
from mmjax.structs import Features, Modality

Activation = Literal["quick_gelu", "gelu"]


def quick_gelu(x: jax.Array) -> jax.Array:
    """GELU as x s(1.702 x), s the logistic function (Hendrycks and Gimpel 2016)."""
    return x * nnx.sigmoid(1.702 * x)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU."""
    return nnx.gelu(x, approximate=False)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}


@dataclasses.dataclass(frozen=True)
class CLIPImage(ImageBackbone):
    """CLIP's Vision Transformer: class token and patches, a layer norm before the blocks.

    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision,
    section 2.4. The tokens are those after the last block, without a layer norm. The summary is the
    class token after a layer norm, projected to the space that images and texts share. An image's
    sides need to be multiples of `patch`.

    Attributes:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        hidden: width of the dense layers inside the blocks.
        patch: side of a patch, in pixels.
        projection: width of the shared space; 0: no projection.
        activation: of the blocks, `quick_gelu` (OpenAI's weights) or `gelu` (some of OpenCLIP's).
        epsilon: of the layer norms.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    patch: int = 32
    projection: int = 512
    activation: Activation = "quick_gelu"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "width", "layers", "heads", "hidden", "patch")
        check_sizes(self, "projection", least=0)
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation of CLIPImage", self.activation, ACTIVATIONS)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "CLIPImageModule":
        """See `Encoder.build`."""
        self.check_image(modality)
        height, width = modality.shape[:2]
        if height % self.patch or width % self.patch:
            raise ConfigError(
                f"An image of {height} x {width} pixels cannot be cut into patches of {self.patch} "
                f"x {self.patch}: resize or crop it to multiples of {self.patch}."
            )
        return CLIPImageModule(self, modality, dtype=dtype, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class CLIPText(Backbone):
    """CLIP's text Transformer: each word piece sees those before it; one token per word piece.

    Radford et al. 2021, section 2.4. Valid are the word pieces up to the end of the text; where a
    mask is given, only those of them that it has. So padding after the end may be any id. The
    summary is the last valid token, which is the end of the text, projected to the space that
    images and texts share.

    Attributes:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        hidden: width of the dense layers inside the blocks.
        positions: the largest number of word pieces of a text.
        projection: width of the shared space; 0: no projection.
        end: id of the end of a text, of which the first counts; 0: the first of the highest id of
            the text, as in the original code, where the end is the last of the vocabulary. A text
            without an end ends with its last id that is not 0.
        activation: of the blocks, `quick_gelu` (OpenAI's weights) or `gelu` (some of OpenCLIP's).
        epsilon: of the layer norms.
    """

    width: int = 512
    layers: int = 12
    heads: int = 8
    hidden: int = 2048
    positions: int = 77
    projection: int = 512
    end: int = 0
    activation: Activation = "quick_gelu"
    epsilon: float = 1e-5
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "width", "layers", "heads", "hidden", "positions")
        check_sizes(self, "projection", "end", least=0)
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation of CLIPText", self.activation, ACTIVATIONS)

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "CLIPTextModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        (words,) = modality.shape
        if words > self.positions:
            raise ConfigError(
                f"The texts have {words} words, but CLIPText has {self.positions} positions: "
                "shorten the texts, or choose more positions."
            )
        if self.end >= modality.vocabulary:
            raise ConfigError(
                f"CLIPText.end is {self.end}, but the vocabulary has {modality.vocabulary} ids: "
                "choose the id of the end of a text, or 0 for the highest id of each."
            )
        return CLIPTextModule(self, modality, dtype=dtype, rngs=rngs)


class _Block(nnx.Module):
    """x + attention(norm(x)), then x + dense(norm(x))."""

    def __init__(self, config: CLIPImage | CLIPText, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.norm1 = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, config.heads, dtype=dtype, rngs=rngs, key_bias=True)
        self.norm2 = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, config.hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(config.hidden, width, dtype=dtype, rngs=rngs)
        self.activation = config.activation

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """[B, T, D] and the pairs of tokens that may attend, [#B, #T, T]."""
        normed = self.norm1(x)
        x = x + self.attention.attend(normed, self.attention.keys_values(normed), mask)
        return x + self.down(ACTIVATIONS[self.activation](self.up(self.norm2(x))))


class CLIPImageModule(ImageModule):
    """The module that `CLIPImage` builds."""

    def __init__(
        self, config: CLIPImage, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        side, width = config.patch, config.width
        patches = (modality.shape[0] // side) * (modality.shape[1] // side)
        self.patch = nnx.Conv(
            *(modality.shape[-1], width, (side, side)),
            strides=side,
            padding="VALID",
            use_bias=False,
            dtype=dtype,
            rngs=rngs,
        )
        self.class_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (patches + 1, width)))
        self.norm_before = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(_Block(config, dtype=dtype, rngs=rngs) for _ in range(config.layers))
        self.norm = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.projection = _projection(config, dtype, rngs)
        self.finish(config, modality, dtype)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, height, width, channels] to the class token and a token per patch, row by row."""
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = jnp.broadcast_to(self.class_token[...].astype(x.dtype), (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([first, x], 1) + self.positions[...].astype(x.dtype)
        x = self.norm_before(x)
        for block in self.blocks:
            x = block(x, jnp.ones((1, 1, x.shape[1]), bool))
        return Features(tokens=x, mask=jnp.ones(x.shape[:2], bool))

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The class token [B, D] after a layer norm, projected to the shared space."""
        pooled = self.norm(features.tokens[:, 0])
        return pooled if self.projection is None else self.projection(pooled)


class CLIPTextModule(BackboneModule):
    """The module that `CLIPText` builds."""

    def __init__(
        self, config: CLIPText, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        (words,), width = modality.shape, config.width
        self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Embed(config.positions, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(_Block(config, dtype=dtype, rngs=rngs) for _ in range(config.layers))
        self.norm = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.projection = _projection(config, dtype, rngs)
        self.end, self.output = config.end, config.output
        if config.output == "tokens":
            self.features = FeatureShape(words, width)
        else:
            self.features = FeatureShape(1, config.projection or width)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] ids of word pieces to L tokens, valid up to the end of the text."""
        valid, place = self._valid(x, mask), jnp.arange(x.shape[1])
        tokens = self.embed(x) + self.positions(place)
        before = place[:, None] >= place  # [L, L], a word piece and those that it sees
        for block in self.blocks:
            tokens = block(tokens, before & valid[:, None, :])
        return Features(tokens=self.norm(tokens), mask=valid)

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The last valid token [B, D], projected to the shared space."""
        last = features.mask.shape[1] - 1 - jnp.argmax(features.mask[:, ::-1], axis=1)
        pooled = jnp.take_along_axis(features.tokens, last[:, None, None], axis=1)[:, 0]
        return pooled if self.projection is None else self.projection(pooled)

    def _valid(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """[B, L] word pieces of the text, up to the first end."""
        ids = x if mask is None else jnp.where(mask, x, 0)
        end = (ids == self.end) if self.end else (ids == ids.max(1, keepdims=True))
        end &= ids > 0
        until = jnp.cumsum(end, axis=1) - end == 0  # no end before it
        padding = (x != 0) if mask is None else mask  # of a text without an end
        given = jnp.ones(x.shape, bool) if mask is None else mask
        return jnp.where(end.any(1, keepdims=True), until & given, padding)


def _projection(
    config: CLIPImage | CLIPText, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Linear | None:
    if not config.projection:
        return None
    return nnx.Linear(config.width, config.projection, use_bias=False, dtype=dtype, rngs=rngs)
