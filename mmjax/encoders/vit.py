"""Vision Transformer for images."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import ImageBackbone, ImageModule
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers.attention import Attention
from mmjax.layers.dropout import checked_dropout
from mmjax.structs import Features, Modality

# Width, blocks and heads: Table 1 of the paper (B, L), and of Touvron et al. 2021 (Ti, S).
SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}


@dataclasses.dataclass(frozen=True)
class ViT(ImageBackbone):
    """Pre-norm Transformer over square patches; class token, registers, then patches row by row.

    Dosovitskiy et al. 2021, An Image Is Worth 16x16 Words, equations 1 to 4; registers as in
    Darcet et al. 2024, Vision Transformers Need Registers. `ViT.of_size("B")` gives the sizes of
    the papers. An image's sides need to be multiples of `patch`.

    Attributes:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        hidden: width of the dense layers inside the blocks.
        patch: side of a patch, in pixels.
        pooling: what the summary is: `class`, the class token; `mean`, the mean of the patches;
            `pooler`, a dense layer with tanh over the class token.
        class_token: whether there is one.
        registers: number of register tokens, which have no position.
        dropout: rate on the embeddings and the residual branches, in [0, 1).
        epsilon: of the layer norms.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    patch: int = 16
    pooling: Literal["class", "mean", "pooler"] = "class"
    class_token: bool = True
    registers: int = 0
    dropout: float = 0.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "width", "layers", "heads", "hidden", "patch")
        check_sizes(self, "registers", least=0)
        if self.pooling not in ("class", "mean", "pooler"):
            raise unknown_name("pooling of ViT", self.pooling, ("class", "mean", "pooler"))
        if self.pooling != "mean" and not self.class_token:
            raise ConfigError(
                f'ViT(pooling="{self.pooling}") reads the class token: choose class_token=True, or '
                'pooling="mean".'
            )

    @classmethod
    def of_size(cls, size: Literal["Ti", "S", "B", "L"], **options: object) -> "ViT":
        """The config of a size of the papers, with other options as given."""
        if size not in SIZES:
            raise unknown_name("size of ViT", size, SIZES)
        width, layers, heads = SIZES[size]
        of_papers = {"width": width, "layers": layers, "heads": heads, "hidden": 4 * width}
        return cls(**(of_papers | options))  # type: ignore[arg-type]

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "ViTModule":
        """See `Encoder.build`."""
        self.check_image(modality)
        height, width = modality.shape[:2]
        if height % self.patch or width % self.patch:
            raise ConfigError(
                f"An image of {height} x {width} pixels cannot be cut into patches of {self.patch} "
                f"x {self.patch}: resize or crop it to multiples of {self.patch}."
            )
        return ViTModule(self, modality, dtype=dtype, rngs=rngs)


class ViTBlock(nnx.Module):
    """x + attention(norm(x)), then x + dense(norm(x)), dropout on both branches."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        dropout: float,
        epsilon: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.norm1 = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs, key_bias=True)
        self.norm2 = nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(dropout)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """[B, T, D] to [B, T, D]; every token attends to every one."""

        def drop(y: jax.Array) -> jax.Array:
            return self.dropout(y, deterministic=not train, rngs=rngs)

        normed = self.norm1(x)
        x = x + drop(self.attention(normed, normed, jnp.ones(x.shape[:2], bool)))
        return x + drop(self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False)))


class ViTModule(ImageModule):
    """The module that `ViT` builds."""

    def __init__(
        self, config: ViT, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        side, width = config.patch, config.width
        patches = (modality.shape[0] // side) * (modality.shape[1] // side)
        self.patch = nnx.Conv(
            *(modality.shape[-1], width, (side, side)),
            strides=side,
            padding="VALID",
            dtype=dtype,
            rngs=rngs,
        )

        def small(*shape: int) -> nnx.Param:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))

        self.class_token = small(1, 1, width) if config.class_token else None
        self.registers = small(1, config.registers, width) if config.registers else None
        # The class token has a position of its own, the first.
        self.positions = small(1, patches + config.class_token, width)
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
        self.pooling, self.before = config.pooling, config.class_token + config.registers
        if config.pooling == "pooler":
            self.pooler = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        if config.classes:
            self.classifier = nnx.Linear(width, config.classes, dtype=dtype, rngs=rngs)
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
        """[B, height, width, channels] to the class token, the registers and a token per patch."""
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])

        def repeated(token: nnx.Param) -> jax.Array:
            one = token[...].astype(x.dtype)
            return jnp.broadcast_to(one, (x.shape[0], *one.shape[1:]))

        positions = self.positions[...].astype(x.dtype)
        if self.class_token is not None:
            first = repeated(self.class_token) + positions[:, :1]
            x, front = x + positions[:, 1:], [first]
        else:
            x, front = x + positions, []
        front += [repeated(self.registers)] if self.registers is not None else []
        x = self.dropout(jnp.concatenate([*front, x], 1), deterministic=not train, rngs=rngs)
        for block in self.blocks:
            x = block(x, train=train, rngs=rngs)
        return Features(tokens=self.norm(x), mask=jnp.ones(x.shape[:2], bool))

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The summary [B, D] that `pooling` names."""
        if self.pooling == "mean":
            return features.tokens[:, self.before :].mean(1)
        if self.pooling == "pooler":
            return jnp.tanh(self.pooler(features.tokens[:, 0]))
        return features.tokens[:, 0]
