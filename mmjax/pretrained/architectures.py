"""Which architecture some weights are of, with which sizes, and the table of its names."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from mmjax.encoders import BERT, VGG, AlexNet, EfficientNetLite0, ResNet, ViT
from mmjax.encoders.backbone import Backbone
from mmjax.encoders.efficientnet import GROUPS as EFFICIENTNET_GROUPS
from mmjax.encoders.resnet import DEPTHS
from mmjax.encoders.vgg import GROUPS as VGG_GROUPS
from mmjax.errors import DataError
from mmjax.pretrained.architecture import (
    Architecture,
    Description,
    Tensors,
    classes_of,
    count,
    needed,
)
from mmjax.pretrained.clip import CLIP_IMAGE, CLIP_TEXT
from mmjax.pretrained.names import Rule, batch_norm, convolution, layer_norm, linear
from mmjax.pretrained.sound import AUDIO_SPECTROGRAM, SILERO_VAD


def find(
    tensors: Tensors, description: Description, where: str
) -> tuple[Backbone, Callable[[Any], list[Rule]]]:
    """The encoder of some weights, and what gives the table of names of such an encoder.

    Args:
        tensors: published name -> array.
        description: of `config.json`; empty where there is none.
        where: the file, for the error.

    Raises:
        DataError: no architecture that mmjax loads, or its sizes cannot be told.
    """
    for architecture in ARCHITECTURES.values():
        if architecture.recognises(tensors, description):
            try:
                return architecture.config(tensors, description, where), architecture.rules
            except KeyError as error:
                raise DataError(
                    f"The weights in {where} have no tensor {error}, from which the sizes of their "
                    "architecture are read: give the whole weights."
                ) from None
    said = description.get("model_type") or description.get("architecture")
    raise DataError(
        f"The weights in {where} are of no architecture that mmjax loads"
        f"{f' (config.json says {said!r})' if said else ''}: it loads {', '.join(ARCHITECTURES)}."
    )


# BERT: transformers' names, with or without the prefix `bert.` of its models with a head.


def _is_bert(tensors: Tensors, description: Description) -> bool:
    words = any(name.endswith("embeddings.word_embeddings.weight") for name in tensors)
    return words and description.get("model_type", "bert") == "bert"


def _bert(tensors: Tensors, description: Description, where: str) -> BERT:
    bare = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    if description.get("hidden_act", "gelu") != "gelu":
        raise DataError(
            f"The weights in {where} are of a BERT with the activation "
            f"{description['hidden_act']!r}: mmjax loads those with 'gelu'."
        )
    relative = description.get("position_embedding_type", "absolute") != "absolute"
    if relative or description.get("is_decoder"):
        raise DataError(
            f"The weights in {where} are of a BERT with relative positions or of a decoder: mmjax "
            "loads encoders with absolute positions."
        )
    heads = needed(description, "num_attention_heads", where)
    positions, width = bare["embeddings.position_embeddings.weight"].shape
    return BERT(
        width=width,
        layers=count(bare, r"encoder\.layer\.(\d+)\."),
        heads=heads,
        hidden=len(bare["encoder.layer.0.intermediate.dense.weight"]),
        positions=positions,
        segments=len(bare["embeddings.token_type_embeddings.weight"]),
        dropout=description.get("hidden_dropout_prob", 0.1),
        epsilon=needed(description, "layer_norm_eps", where),
        pooling="pooler" if "pooler.dense.weight" in bare else "class",
        classes=classes_of(tensors, "classifier.weight"),
    )


def _bert_rules(config: BERT) -> list[Rule]:
    block, ours = r"(?:bert\.)?encoder\.layer\.(\d+)\.", r"blocks.\1."
    embeddings = r"(?:bert\.)?embeddings\."
    return [
        Rule(embeddings + r"word_embeddings\.weight", "embed.embedding"),
        Rule(embeddings + r"position_embeddings\.weight", "positions.embedding"),
        Rule(embeddings + r"token_type_embeddings\.weight", "segments.embedding"),
        Rule(embeddings + r"position_ids", ""),
        *layer_norm(embeddings + "LayerNorm", "norm_before"),
        *linear(block + r"attention\.self\.query", ours + "attention.query"),
        *linear(block + r"attention\.self\.key", ours + "attention.key"),
        *linear(block + r"attention\.self\.value", ours + "attention.value"),
        *linear(block + r"attention\.output\.dense", ours + "attention.out"),
        *layer_norm(block + r"attention\.output\.LayerNorm", ours + "norm1"),
        *linear(block + r"intermediate\.dense", ours + "up"),
        *linear(block + r"output\.dense", ours + "down"),
        *layer_norm(block + r"output\.LayerNorm", ours + "norm2"),
        *(
            linear(r"(?:bert\.)?pooler\.dense", "pooler")
            if config.pooling == "pooler"
            else [Rule(r"(?:bert\.)?pooler\.dense\..*", "")]  # a sentence encoder does not use it
        ),
        *linear("classifier", "classifier"),
        Rule(r"cls\..*", ""),  # of the tasks that it was trained on
    ]


# ViT: transformers' names (with the prefix `vit.` of its models with a head), and timm's.


def _is_vit(tensors: Tensors, description: Description) -> bool:
    if "patch_embed.proj.weight" in tensors:
        return "blocks.0.attn.qkv.weight" in tensors and "pos_embed" in tensors
    patches = any(
        name.endswith("embeddings.patch_embeddings.projection.weight") for name in tensors
    )
    return patches and description.get("model_type", "vit") == "vit"


def _vit(tensors: Tensors, description: Description, where: str) -> ViT:
    if "patch_embed.proj.weight" in tensors:
        kernel = tensors["patch_embed.proj.weight"]
        name = str(needed(description, "architecture", where))
        if not re.match(r"vit_(tiny|small|base|large)_patch\d+_(reg\d+_)?\d+$", name):
            raise DataError(
                f"The weights in {where} are of timm's {name!r}: of its vision transformers, mmjax "
                "loads vit_tiny, vit_small, vit_base and vit_large without variants."
            )
        registers = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0
        pooling = str(description.get("global_pool", "token"))
        if registers or pooling not in ("token", ""):
            raise DataError(
                f"The weights in {where} are of timm's {name!r} with registers or another pooling "
                f"than of the class token ({pooling!r}): mmjax does not load these yet."
            )
        return ViT(
            width=len(kernel),
            layers=count(tensors, r"blocks\.(\d+)\."),
            heads=len(kernel) // 64,
            hidden=len(tensors["blocks.0.mlp.fc1.weight"]),
            patch=kernel.shape[-1],
            epsilon=1e-6,
            classes=classes_of(tensors, "head.weight"),
        )
    bare = {name.removeprefix("vit."): tensor for name, tensor in tensors.items()}
    kernel = bare["embeddings.patch_embeddings.projection.weight"]
    if description.get("hidden_act", "gelu") != "gelu":
        raise DataError(
            f"The weights in {where} are of a ViT with the activation "
            f"{description['hidden_act']!r}: mmjax loads those with 'gelu'."
        )
    return ViT(
        width=len(kernel),
        layers=count(bare, r"encoder\.layer\.(\d+)\."),
        heads=needed(description, "num_attention_heads", where),
        hidden=len(bare["encoder.layer.0.intermediate.dense.weight"]),
        patch=kernel.shape[-1],
        pooling="pooler" if "pooler.dense.weight" in bare else "class",
        dropout=description.get("hidden_dropout_prob", 0.0),
        epsilon=needed(description, "layer_norm_eps", where),
        classes=classes_of(tensors, "classifier.weight"),
    )


def _vit_rules(config: ViT) -> list[Rule]:
    block, ours = r"(?:vit\.)?encoder\.layer\.(\d+)\.", r"blocks.\1."
    embeddings, timm = r"(?:vit\.)?embeddings\.", r"blocks\.(\d+)\."
    names = [ours + f"attention.{one}" for one in ("query", "key", "value")]
    return [
        Rule(embeddings + "cls_token|cls_token", "class_token"),
        Rule(embeddings + "position_embeddings|pos_embed", "positions"),
        *convolution(embeddings + r"patch_embeddings\.projection", "patch"),
        *linear(block + r"attention\.attention\.query", ours + "attention.query"),
        *linear(block + r"attention\.attention\.key", ours + "attention.key"),
        *linear(block + r"attention\.attention\.value", ours + "attention.value"),
        *linear(block + r"attention\.output\.dense", ours + "attention.out"),
        *layer_norm(block + "layernorm_before", ours + "norm1"),
        *layer_norm(block + "layernorm_after", ours + "norm2"),
        *linear(block + r"intermediate\.dense", ours + "up"),
        *linear(block + r"output\.dense", ours + "down"),
        *layer_norm(r"(?:vit\.)?layernorm", "norm"),
        *linear(r"(?:vit\.)?pooler\.dense", "pooler"),
        *linear("(?:classifier|head)", "classifier"),
        *convolution(r"patch_embed\.proj", "patch"),
        Rule(timm + r"attn\.qkv\.weight", "|".join(f"{one}.kernel" for one in names), "linear"),
        Rule(timm + r"attn\.qkv\.bias", "|".join(f"{one}.bias" for one in names)),
        *linear(timm + r"attn\.proj", ours + "attention.out"),
        *layer_norm(timm + "norm1", ours + "norm1"),
        *layer_norm(timm + "norm2", ours + "norm2"),
        *linear(timm + r"mlp\.fc1", ours + "up"),
        *linear(timm + r"mlp\.fc2", ours + "down"),
        *layer_norm("norm", "norm"),
    ]


# ResNet: torchvision's names, which are timm's too.


def _is_resnet(tensors: Tensors, description: Description) -> bool:
    first = tensors.get("conv1.weight")
    return "layer4.0.conv1.weight" in tensors and first is not None


def _resnet(tensors: Tensors, description: Description, where: str) -> ResNet:
    counts = tuple(count(tensors, rf"layer{group}\.(\d+)\.") for group in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in tensors
    for depth, plan in DEPTHS.items():
        if plan == (counts, bottleneck):
            return ResNet(depth=depth, classes=classes_of(tensors, "fc.weight"))  # type: ignore[arg-type]
    raise DataError(
        f"The weights in {where} are of a residual network with {counts} blocks: mmjax loads "
        f"ResNet-{', -'.join(map(str, DEPTHS))}."
    )


def _resnet_rules(config: ResNet) -> list[Rule]:
    rules = [
        *convolution("conv1", "stem.conv"),
        *batch_norm("bn1", "stem.norm"),
        *linear("fc", "classifier"),
    ]
    for group in range(4):
        block, ours = rf"layer{group + 1}\.(\d+)\.", rf"groups.{group}.\1."
        for layer in range(3):
            rules += convolution(f"{block}conv{layer + 1}", f"{ours}layers.{layer}.conv")
            rules += batch_norm(f"{block}bn{layer + 1}", f"{ours}layers.{layer}.norm")
        rules += convolution(block + r"downsample\.0", ours + "shortcut.conv")
        rules += batch_norm(block + r"downsample\.1", ours + "shortcut.norm")
    return rules


# VGG and AlexNet: torchvision's names; timm's VGG, whose dense layers are convolutions.


def _is_plain(tensors: Tensors, description: Description) -> bool:
    first = tensors.get("features.0.weight")
    return first is not None and first.ndim == 4 and first.shape[-1] in (3, 11)


def _plain(tensors: Tensors, description: Description, where: str) -> VGG | AlexNet:
    classes = classes_of(tensors, "classifier.6.weight", "head.fc.weight")
    dense = "classifier.0.weight" in tensors or "pre_logits.fc1.weight" in tensors
    if tensors["features.0.weight"].shape[-1] == 11:
        return AlexNet(dense=dense or "classifier.1.weight" in tensors, classes=classes)
    batch_norm = "features.1.running_mean" in tensors
    convolutions = sum(name.startswith("features.") and x.ndim == 4 for name, x in tensors.items())
    for depth, groups in VGG_GROUPS.items():
        if sum(groups) == convolutions:
            return VGG(depth=depth, batch_norm=batch_norm, dense=dense, classes=classes)  # type: ignore[arg-type]
    raise DataError(
        f"The weights in {where} are of a VGG with {convolutions} convolutions: mmjax loads "
        f"VGG-{', -'.join(map(str, VGG_GROUPS))}."
    )


def _plain_rules(config: VGG | AlexNet) -> list[Rule]:
    rules = []
    if isinstance(config, AlexNet):
        for index, place in enumerate((0, 3, 6, 8, 10)):
            rules += convolution(rf"features\.{place}", f"convs.{index}.conv")
        first, second, side = 1, 4, 6
    else:
        place = index = 0
        for repeats in VGG_GROUPS[config.depth]:
            for _ in range(repeats):
                rules += convolution(rf"features\.{place}", f"convs.{index}.conv")
                if config.batch_norm:
                    rules += batch_norm(rf"features\.{place + 1}", f"convs.{index}.norm")
                place, index = place + (3 if config.batch_norm else 2), index + 1
            place += 1
        first, second, side = 0, 3, 7
    return [
        *rules,
        Rule(rf"classifier\.{first}\.weight", "dense.0.kernel", f"dense {side}x{side}"),
        Rule(rf"classifier\.{first}\.bias", "dense.0.bias"),
        *linear(rf"classifier\.{second}", "dense.1"),
        *linear(r"classifier\.6|head\.fc", "classifier"),
        Rule(r"pre_logits\.fc1\.weight", "dense.0.kernel", "convolved dense 7x7"),
        Rule(r"pre_logits\.fc1\.bias", "dense.0.bias"),
        Rule(r"pre_logits\.fc2\.weight", "dense.1.kernel", "convolved dense"),
        Rule(r"pre_logits\.fc2\.bias", "dense.1.bias"),
    ]


# EfficientNet-Lite0: the names of `efficientnet_lite_pytorch`, and timm's of TensorFlow's weights.


def _is_efficientnet(tensors: Tensors, description: Description) -> bool:
    if "_conv_stem.weight" in tensors:
        return not any("_se_reduce" in name for name in tensors)
    return description.get("architecture") == "tf_efficientnet_lite0"


def _efficientnet(tensors: Tensors, description: Description, where: str) -> EfficientNetLite0:
    return EfficientNetLite0(classes=classes_of(tensors, "_fc.weight", "classifier.weight"))


def _efficientnet_rules(config: EfficientNetLite0) -> list[Rule]:
    rules = [
        *convolution("_?conv_stem", "stem.conv"),
        *batch_norm("_bn0|bn1", "stem.norm"),
        *convolution("_?conv_head", "top.conv"),
        *batch_norm("_bn1|bn2", "top.norm"),
        *linear("_fc|classifier", "classifier"),
    ]
    index = 0
    for group, (repeats, _, _, expansion, _) in enumerate(EFFICIENTNET_GROUPS):
        for block in range(repeats):
            ours, timm = f"blocks.{index}.layers", rf"blocks\.{group}\.{block}\."
            lite = rf"_blocks\.{index}\."
            skip = 0 if expansion > 1 else 1  # the first layer, which widens, is not there
            layers = (
                ("_expand_conv", "_bn0"),
                ("_depthwise_conv", "_bn1"),
                ("_project_conv", "_bn2"),
            )
            timms = ("conv_pw", "conv_dw", "conv_pwl") if expansion > 1 else ("conv_dw", "conv_pw")
            for place, (conv, norm) in enumerate(layers[skip:]):
                rules += convolution(f"{lite}{conv}|{timm}{timms[place]}", f"{ours}.{place}.conv")
                rules += batch_norm(f"{lite}{norm}|{timm}bn{place + 1}", f"{ours}.{place}.norm")
            index += 1
    return rules


ARCHITECTURES: Mapping[str, Architecture] = {
    "BERT": Architecture(_is_bert, _bert, _bert_rules),
    "ViT": Architecture(_is_vit, _vit, _vit_rules),
    "ResNet": Architecture(_is_resnet, _resnet, _resnet_rules),
    "VGG and AlexNet": Architecture(_is_plain, _plain, _plain_rules),
    "CLIP's image tower": CLIP_IMAGE,
    "CLIP's text tower": CLIP_TEXT,
    "EfficientNet-Lite0": Architecture(_is_efficientnet, _efficientnet, _efficientnet_rules),
    "AST": AUDIO_SPECTROGRAM,
    "silero-vad": SILERO_VAD,
}
