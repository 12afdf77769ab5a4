"""Published architectures with random weights: mmjax beside PyTorch, tensor by tensor.

    python experiments/benchmarks/parity.py            # full sizes, every architecture
    python experiments/benchmarks/parity.py resnet50   # only these

Needs the packages of the extra `parity`. For each architecture, PyTorch's model is made with random
weights and running statistics, written as safetensors, loaded by `mmjax.pretrained.load`, and run
on the same inputs. A figure is the largest absolute difference over the largest absolute value of
PyTorch's tensor, in float32 on the CPU. Where one is above 1e-5, the first layer that differs is
named.
"""

import argparse
import contextlib
import functools
import json
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from parity_layers import first_difference
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import library as operators

import mmjax
from mmjax.pretrained.names import published
from mmjax.pretrained.published import leaves_of

kept: list[Any] = []  # definitions live as long as their library


class Case(NamedTuple):
    """One architecture.

    Attributes:
        make: gives PyTorch's model.
        description: of config.json.
        outputs: PyTorch's model and inputs -> {"tokens", "pooled", "logits"}, those that it has.
        size: height and width of the images; (words,) of texts.
        gradients: whether to compare the gradients of all parameters.
        end: the id of the end of a text, which is the padding too; 0: texts have no such id.
        of_images: whether a size of two numbers is that of images; else of filter banks.
    """

    make: Callable[[], Any]
    description: dict[str, Any]
    outputs: Callable[[Any, torch.Tensor, torch.Tensor | None], dict[str, torch.Tensor]]
    size: tuple[int, ...]
    gradients: bool = False
    end: int = 0
    of_images: bool = True


def torchvision() -> types.ModuleType:
    """The package, whose compiled operators are missing beside a PyTorch without CUDA."""
    names = operators.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # they are there
            names.define(f"{name}(Tensor a) -> Tensor")
    kept.append(names)
    import torchvision

    return torchvision


def of_map(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] to [B, H W, C]."""
    return x.flatten(2).transpose(1, 2)


def resnet_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of torchvision's and timm's ResNet."""
    after = getattr(model, "relu", None) or model.act1
    y = model.maxpool(after(model.bn1(model.conv1(x))))
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        y = layer(y)
    return {"tokens": of_map(y), "pooled": y.mean((2, 3)), "logits": model(x)}


def plain_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of torchvision's VGG and AlexNet."""
    y = model.features(x)
    pooled = model.classifier[:-1](model.avgpool(y).flatten(1))
    return {"tokens": of_map(y), "pooled": pooled, "logits": model(x)}


def features_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of the convolutions alone."""
    y = model.features(x)
    return {"tokens": of_map(y), "pooled": y.mean((2, 3))}


def timm_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of timm's models."""
    y = model.forward_features(x)
    pooled = model.forward_head(y, pre_logits=True)
    tokens = of_map(y) if y.ndim == 4 else y
    return {"tokens": tokens, "pooled": pooled, "logits": model(x)}


def lite_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of `efficientnet_lite_pytorch`."""
    y = model.extract_features(x)
    return {"tokens": of_map(y), "pooled": y.mean((2, 3)), "logits": model(x)}


def bert_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of transformers' BERT."""
    y = model(input_ids=x, attention_mask=mask)
    return {"tokens": y.last_hidden_state, "pooled": y.pooler_output}


def vit_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of transformers' ViT."""
    y = model(pixel_values=x, interpolate_pos_encoding=True)
    return {"tokens": y.last_hidden_state, "pooled": y.pooler_output}


def bert(**sizes: Any) -> Case:
    """BERT of transformers."""
    torchvision()  # which transformers imports
    from transformers import BertConfig, BertModel

    config = BertConfig(**sizes)
    return Case(lambda: BertModel(config), config.to_dict(), bert_outputs, (24,), True)


def vit(size: tuple[int, int], **sizes: Any) -> Case:
    """ViT of transformers, on images of a size."""
    torchvision()  # which transformers imports
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(**sizes)
    same = size == (config.image_size,) * 2
    return Case(lambda: ViTModel(config), config.to_dict(), vit_outputs, size, same)


def clip_image_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of transformers' CLIP."""
    y = model(pixel_values=x, interpolate_pos_encoding=True)
    return {"tokens": y.last_hidden_state, "pooled": y.image_embeds}


def clip_text_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of transformers' CLIP."""
    y = model(input_ids=x, attention_mask=mask)
    return {"tokens": y.last_hidden_state, "pooled": y.text_embeds}


def clip_image(size: tuple[int, int], **sizes: Any) -> Case:
    """The image tower of transformers' CLIP, on images of a size."""
    torchvision()  # which transformers imports
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**sizes)
    same = size == (config.image_size,) * 2
    make = lambda: CLIPVisionModelWithProjection(config)  # noqa: E731
    return Case(make, config.to_dict(), clip_image_outputs, size, same)


def clip_text(**sizes: Any) -> Case:
    """The text tower of transformers' CLIP; of `eos_token_id` 2, the end is the highest id."""
    torchvision()  # which transformers imports
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(**sizes)
    old = config.eos_token_id == 2
    end = config.vocab_size - 1 if old else config.eos_token_id
    make = lambda: CLIPTextModelWithProjection(config)  # noqa: E731
    return Case(make, config.to_dict(), clip_text_outputs, (24,), True, end)


def ast_outputs(model: Any, x: torch.Tensor, mask: Any) -> dict[str, torch.Tensor]:
    """Of transformers' AST with its classification layer."""
    y = model.audio_spectrogram_transformer(x)
    logits = model(x).logits
    return {"tokens": y.last_hidden_state, "pooled": y.pooler_output, "logits": logits}


def ast(**sizes: Any) -> Case:
    """AST of transformers, on filter banks."""
    torchvision()  # which transformers imports
    from transformers import ASTConfig, ASTForAudioClassification

    config = ASTConfig(**sizes)
    size = (config.max_length, config.num_mel_bins)
    make = lambda: ASTForAudioClassification(config)  # noqa: E731
    return Case(make, config.to_dict(), ast_outputs, size, True, of_images=False)


def timm_model(name: str, size: int, **options: Any) -> Case:
    """A model of timm."""
    torchvision()
    import timm

    return Case(
        lambda: timm.create_model(name, pretrained=False, **options),
        {"architecture": name},
        timm_outputs,
        (size, size),
        name.startswith("vit"),
    )


def torchvision_model(name: str, outputs: Callable[..., Any], size: int = 224) -> Case:
    """A model of torchvision."""
    make = getattr(torchvision().models, name)
    return Case(lambda: make(weights=None), {}, outputs, (size, size))


def lite0(size: int) -> Case:
    """EfficientNet-Lite0 of the package that published its weights for PyTorch."""
    from efficientnet_lite_pytorch import EfficientNet

    def make() -> Any:
        return EfficientNet.from_name("efficientnet-lite0", image_size=size)

    return Case(make, {}, lite_outputs, (size, size))


FULL: dict[str, Callable[[], Case]] = {
    "bert-base": bert,
    "vit-base (transformers)": lambda: vit((224, 224)),
    "vit-base (transformers) at 192 x 256": lambda: vit((192, 256)),
    "clip-vit-base-patch32, images": lambda: clip_image((224, 224)),
    "clip-vit-base-patch32, images of 256 x 192": lambda: clip_image((256, 192)),
    "clip-vit-base-patch32, texts": clip_text,
    "clip-vit-base-patch32, texts (older config)": lambda: clip_text(eos_token_id=2),
    "clip-vit-large-patch14, images": lambda: clip_image(
        (224, 224),
        **{"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
        **{"num_attention_heads": 16, "patch_size": 14, "projection_dim": 768},
    ),
    "ast (10-10, AudioSet's 527 classes)": lambda: ast(num_labels=527),
    "vit_base_patch16_224 (timm)": lambda: timm_model("vit_base_patch16_224", 224),
    "vit_tiny_patch16_224 (timm)": lambda: timm_model("vit_tiny_patch16_224", 224),
    "vit_large_patch16_224 (timm)": lambda: timm_model("vit_large_patch16_224", 224),
    **{
        f"resnet{depth}": lambda depth=depth: torchvision_model(f"resnet{depth}", resnet_outputs)
        for depth in (18, 34, 50, 101, 152)
    },
    "resnet50 (timm)": lambda: timm_model("resnet50", 224),
    **{
        f"vgg{depth}{norm}": lambda name=f"vgg{depth}{norm}": torchvision_model(name, plain_outputs)
        for depth in (11, 13, 16, 19)
        for norm in ("", "_bn")
    },
    "vgg16 (timm)": lambda: timm_model("vgg16", 224),
    "vgg16 at 256 x 256": lambda: torchvision_model("vgg16", plain_outputs, 256),
    "alexnet": lambda: torchvision_model("alexnet", plain_outputs),
    "efficientnet-lite0": lambda: lite0(224),
    "tf_efficientnet_lite0 (timm)": lambda: timm_model("tf_efficientnet_lite0", 224),
}


def randomised(model: Any) -> Any:
    """The model in evaluation mode, its biases, norms and statistics away from 0 and 1."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            noise = torch.rand(value.shape, generator=draw) if value.is_floating_point() else None
            if noise is None:
                continue
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(0.75 + 0.5 * noise)
            elif value.ndim == 1 or name.endswith(("cls_token", "pos_embed")):
                value.copy_(0.2 * (noise - 0.5))
    return model.eval()


def written(model: Any, folder: Path) -> dict[str, np.ndarray]:
    """Writes a model's tensors under their published names, and reads them."""
    if hasattr(model, "save_pretrained") and hasattr(model, "config"):  # transformers
        model.save_pretrained(folder)
    else:
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
    return load_file(folder / "model.safetensors")


def compare(case: Case, folder: Path) -> dict[str, float]:
    """Output -> largest difference, relative to the largest value; `export` is exact."""
    torch.manual_seed(0)
    model = randomised(case.make())
    tensors = written(model, folder)
    (folder / "config.json").write_text(json.dumps(case.description))
    of_images, of_sound = len(case.size) == 2 and case.of_images, not case.of_images
    ours = mmjax.pretrained.load(folder, image_size=case.size if of_images else None)
    random, mask = np.random.default_rng(0), None
    if of_images:
        inputs = random.standard_normal((2, *case.size, 3)).astype(np.float32)
        theirs_in = torch.tensor(inputs.transpose(0, 3, 1, 2)).contiguous()
    elif of_sound:
        inputs = random.standard_normal((2, *case.size)).astype(np.float32)
        theirs_in = torch.tensor(inputs)
    else:
        inputs = random.integers(1, case.description["vocab_size"], (3, *case.size), dtype=np.int32)
        mask = np.arange(case.size[0]) < np.array([[case.size[0]], [7], [1]])
        if case.end:
            inputs[inputs >= case.end] = 1
            inputs[~mask | ~np.roll(mask, -1, axis=1)] = case.end
            inputs[0, :-1], inputs[0, -1] = np.minimum(inputs[0, :-1], case.end - 1), case.end
        theirs_in = torch.tensor(inputs).long()
    theirs_mask = None if mask is None else torch.tensor(mask).long()
    theirs = case.outputs(model, theirs_in, theirs_mask)
    errors = {}
    for name, expected in theirs.items():
        found = np.asarray(getattr(ours, name)(inputs, mask))
        expected, weight = expected.detach().numpy(), 1
        if name == "tokens" and mask is not None:
            weight = mask[:, :, None]
        errors[name] = float(np.abs((found - expected) * weight).max() / np.abs(expected).max())
    if max(errors.values()) > 1e-5:
        run = functools.partial(case.outputs, model, theirs_in, theirs_mask)
        print(first_difference(ours, inputs, mask, model, run), file=sys.stderr)
    if case.gradients:
        errors["gradients"] = _gradient_error(ours, model, theirs, inputs, mask, folder)
    ours.export(folder / "again.safetensors")
    again = load_file(folder / "again.safetensors")
    errors["export"] = float(
        again.keys() != tensors.keys()
        or any(
            (again[name] != value).any()
            for name, value in tensors.items()
            if again[name].shape == value.shape  # else interpolated positions
        )
    )
    return errors


def _gradient_error(
    ours: Any, model: Any, theirs: Any, inputs: Any, mask: Any, folder: Path
) -> float:
    """The largest difference of the gradient of a random sum of valid tokens.

    Relative to the largest gradient of the layer: that of a key's bias is 0 in exact numbers.
    """
    shape = theirs["tokens"].shape
    weight = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    weight *= 1 if mask is None else mask[:, :, None]
    total = (theirs["tokens"] * torch.tensor(weight)).sum()
    if "pooled" in theirs and hasattr(model, "pooler"):
        total = total + theirs["pooled"].sum()
    model.zero_grad()
    total.backward()
    graph, params, rest = nnx.split(ours.module, nnx.Param, ...)

    @jax.jit
    def gradients(params: Any) -> Any:
        def objective(params: Any) -> jax.Array:
            module = nnx.merge(graph, params, rest)
            present = jnp.ones(len(inputs), bool)
            valid = None if mask is None else jnp.asarray(mask)
            features = module.encode(jnp.asarray(inputs), valid, present, train=False, rngs=None)
            value = (features.tokens * weight).sum()
            if "pooled" in theirs and hasattr(model, "pooler"):
                value += module.pool(features, train=False, rngs=None).sum()
            return value

        return jax.grad(objective)(params)

    placed = {name: one for name, one in ours.placed.items() if one.paths}
    named = published(leaves_of(nnx.merge(graph, gradients(params), rest)), placed, {})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    (folder / "gradients").mkdir()
    expected = written(model, folder / "gradients")
    largest: dict[str, float] = {}
    for name in named:
        layer = name.rpartition(".")[0]
        largest[layer] = max(largest.get(layer, 0.0), float(np.abs(expected[name]).max()))
    differences = {
        name: float(np.abs(value - expected[name]).max()) / (largest[name.rpartition(".")[0]] or 1)
        for name, value in named.items()
    }
    return max(differences.values())


def main(names: list[str]) -> Iterator[str]:
    """Lines of a table."""
    for name, case in FULL.items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            errors = compare(case(), Path(folder))
        exact = "exact" if errors.pop("export") == 0 else "DIFFERS"
        cells = [f"{errors[key]:.1e}" if key in errors else "–" for key in COLUMNS]
        yield f"| {name} | {' | '.join(cells)} | {exact} |"


COLUMNS = ("tokens", "pooled", "logits", "gradients")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(FULL)}")
    chosen = parser.parse_args().names
    if unknown := sorted(set(chosen) - set(FULL)):
        sys.exit(f"Unknown: {', '.join(unknown)}. Choose from {', '.join(FULL)}.")
    print("| architecture | " + " | ".join(COLUMNS) + " | export |")
    print("|---|" + "---|" * (len(COLUMNS) + 1))
    for line in main(chosen):
        print(line, flush=True)
