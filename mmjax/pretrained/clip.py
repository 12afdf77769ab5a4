"""CLIP: the tables of names of its two towers, and both of them together."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from mmjax.encoders import CLIPImage, CLIPText
from mmjax.errors import DataError
from mmjax.pretrained.architecture import Architecture, Description, Tensors, count, needed
from mmjax.pretrained.names import Rule, convolution, layer_norm, linear

if TYPE_CHECKING:
    from mmjax.pretrained.pretrained import Pretrained

SCALE = "logit_scale"
# What transformers takes where the part of a tower in config.json leaves it out.
DEFAULTS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
TEXT = DEFAULTS | {"num_attention_heads": 8, "eos_token_id": 49407}
IMAGE = DEFAULTS | {"num_attention_heads": 12}
OLD_END = 2  # as the older config.json says, where the end is the highest id


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedCLIP:
    """Both towers of CLIP, ready for use.

    Attributes:
        image: the tower of images; its `pooled` are embeddings in the shared space, not yet
            divided by their norm.
        text: the tower of texts, likewise.
        logit_scale: the learned logarithm of 1 / temperature.
        where: the file that they were read from.
    """

    image: "Pretrained"
    text: "Pretrained"
    logit_scale: np.ndarray
    where: Path

    @property
    def temperature(self) -> float:
        """The learned temperature, exp(-logit_scale), that divides cosines before a softmax."""
        return float(np.exp(-self.logit_scale.astype(np.float64)))

    def logits(self, images: Any, texts: Any, mask: Any = None) -> jax.Array:
        """Cosines [B_images, B_texts] of preprocessed images and texts, over the temperature."""
        ours = [self.image.pooled(images), self.text.pooled(texts, mask)]
        ours = [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in ours]
        return jnp.exp(self.logit_scale) * jnp.matmul(ours[0], ours[1].T, precision="highest")

    def export(self, file: str | Path) -> None:
        """Writes both towers to a safetensors file with the published names; see `Pretrained`."""
        scale = {SCALE: self.logit_scale}
        save_file(self.image.published() | self.text.published() | scale, str(file))


def both_towers(tensors: Tensors, description: Description) -> bool:
    """Whether the weights are of a whole CLIP."""
    return _is_image(tensors, description) and _is_text(tensors, description)


def split(tensors: Tensors, where: str) -> tuple[Tensors, Tensors, np.ndarray]:
    """The tensors of the image tower, of the text tower, and the scale.

    Names that belong to none go to the image tower, whose table then does not know them.

    Raises:
        DataError: there is no scale, or it is no number.
    """
    scale = tensors.get(SCALE)
    if scale is None or scale.size != 1 or not np.isfinite(scale).all():
        raise DataError(
            f"The weights in {where} are of a CLIP without the number {SCALE!r}, the logarithm of "
            "1 / temperature: give the whole weights, or each tower in a file of its own."
        )
    text = {name: x for name, x in tensors.items() if name.startswith("text_")}
    image = {name: x for name, x in tensors.items() if name not in text and name != SCALE}
    return image, text, scale


def _has(tensors: Tensors, ending: str) -> bool:
    return any(name.endswith(ending) for name in tensors)


def _named(description: Description, *names: str) -> bool:
    return description.get("model_type", "clip") in ("clip", *names)


def _is_image(tensors: Tensors, description: Description) -> bool:
    named = _named(description, "clip_vision_model")
    return named and _has(tensors, "embeddings.class_embedding") and _has(tensors, "q_proj.weight")


def _is_text(tensors: Tensors, description: Description) -> bool:
    named = _named(description, "clip_text_model")
    words = _has(tensors, "embeddings.token_embedding.weight")
    return named and words and _has(tensors, "q_proj.weight")


def _settings(
    description: Description, key: str, defaults: Description, where: str
) -> dict[str, Any]:
    """What config.json says of a tower, which stands at its top if there is no other tower."""
    if needed(description, "model_type", where) != "clip":
        settings = {**defaults, **description}
    else:
        settings = {**defaults, **(description.get(key) or {})}
        if (old := description.get(f"{key}_dict")) is not None:  # it replaced all, defaults too
            settings |= {**defaults, **old}
    if settings["hidden_act"] not in ("quick_gelu", "gelu"):
        raise DataError(
            f"The weights in {where} are of a CLIP with the activation "
            f"{settings['hidden_act']!r}: mmjax loads those with 'quick_gelu' or 'gelu'."
        )
    return settings


def _image(tensors: Tensors, description: Description, where: str) -> CLIPImage:
    settings = _settings(description, "vision_config", IMAGE, where)
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    kernel = bare["embeddings.patch_embedding.weight"]
    return CLIPImage(
        width=len(kernel),
        layers=count(bare, r"encoder\.layers\.(\d+)\."),
        heads=settings["num_attention_heads"],
        hidden=len(bare["encoder.layers.0.mlp.fc1.weight"]),
        patch=kernel.shape[-1],
        projection=len(bare.get("visual_projection.weight", ())),
        activation=settings["hidden_act"],
        epsilon=settings["layer_norm_eps"],
    )


def _text(tensors: Tensors, description: Description, where: str) -> CLIPText:
    settings = _settings(description, "text_config", TEXT, where)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    positions, width = bare["embeddings.position_embedding.weight"].shape
    words, end = len(bare["embeddings.token_embedding.weight"]), settings["eos_token_id"]
    if not isinstance(end, int) or end == OLD_END or not 0 < end < words:
        end = 0
    return CLIPText(
        width=width,
        layers=count(bare, r"encoder\.layers\.(\d+)\."),
        heads=settings["num_attention_heads"],
        hidden=len(bare["encoder.layers.0.mlp.fc1.weight"]),
        positions=positions,
        projection=len(bare.get("text_projection.weight", ())),
        end=end,
        activation=settings["hidden_act"],
        epsilon=settings["layer_norm_eps"],
    )


def _block_rules(prefix: str) -> list[Rule]:
    block, ours = prefix + r"encoder\.layers\.(\d+)\.", r"blocks.\1."
    return [
        *linear(block + r"self_attn\.q_proj", ours + "attention.query"),
        *linear(block + r"self_attn\.k_proj", ours + "attention.key"),
        *linear(block + r"self_attn\.v_proj", ours + "attention.value"),
        *linear(block + r"self_attn\.out_proj", ours + "attention.out"),
        *layer_norm(block + "layer_norm1", ours + "norm1"),
        *layer_norm(block + "layer_norm2", ours + "norm2"),
        *linear(block + r"mlp\.fc1", ours + "up"),
        *linear(block + r"mlp\.fc2", ours + "down"),
        Rule(prefix + r"embeddings\.position_ids", ""),
    ]


def _image_rules(config: CLIPImage) -> list[Rule]:
    prefix = r"(?:vision_model\.)?"
    return [
        Rule(prefix + r"embeddings\.class_embedding", "class_token"),
        Rule(prefix + r"embeddings\.position_embedding\.weight", "positions"),
        *convolution(prefix + r"embeddings\.patch_embedding", "patch"),
        *layer_norm(prefix + "pre_layrnorm", "norm_before"),  # its published spelling
        *layer_norm(prefix + "post_layernorm", "norm"),
        *linear("visual_projection", "projection"),
        *_block_rules(prefix),
    ]


def _text_rules(config: CLIPText) -> list[Rule]:
    prefix = r"(?:text_model\.)?"
    return [
        Rule(prefix + r"embeddings\.token_embedding\.weight", "embed.embedding"),
        Rule(prefix + r"embeddings\.position_embedding\.weight", "positions.embedding"),
        *layer_norm(prefix + "final_layer_norm", "norm"),
        *linear("text_projection", "projection"),
        *_block_rules(prefix),
    ]


CLIP_IMAGE = Architecture(_is_image, _image, _image_rules)
CLIP_TEXT = Architecture(_is_text, _text, _text_rules)
