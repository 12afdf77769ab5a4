"""Parameters and multiply-adds of the standard architectures, as published."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mmjax.benchmarks.flops import matmul_flops
from mmjax.encoders import (
    BERT,
    VGG,
    AlexNet,
    CLIPImage,
    CLIPText,
    EfficientNetLite0,
    ResNet,
    ViT,
)
from mmjax.structs import Modality

IMAGE = Modality("image", (224, 224, 3))
WORDS = Modality("text", (128,), vocabulary=30_522)
BYTE_PAIRS = Modality("text", (77,), vocabulary=49_408)


def module_of(encoder, modality):
    return nnx.eval_shape(
        lambda: encoder.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )


# Of torchvision, timm and transformers; images with 1,000 classes. Other sizes: encoder_steps.py.
@pytest.mark.parametrize(
    ("encoder", "modality", "parameters"),
    [
        (AlexNet(dense=True, classes=1000), IMAGE, 61_100_840),
        (VGG(16, dense=True, classes=1000), IMAGE, 138_357_544),
        (ResNet(18, classes=1000), IMAGE, 11_689_512),
        (ResNet(50, classes=1000), IMAGE, 25_557_032),
        (EfficientNetLite0(classes=1000), IMAGE, 4_652_008),
        (ViT.of_size("Ti", classes=1000), IMAGE, 5_717_416),
        (ViT.of_size("B", classes=1000), IMAGE, 86_567_656),
        (BERT(), WORDS, 109_482_240),
        (CLIPImage(), IMAGE, 87_849_216),
        (CLIPText(), BYTE_PAIRS, 63_428_096),
    ],
)
def test_parameters(encoder, modality, parameters):
    leaves = jax.tree.leaves(nnx.state(module_of(encoder, modality), nnx.Param))
    assert sum(leaf.size for leaf in leaves) == parameters


# 10^9 multiply-adds of an image of 224 x 224 pixels, as torchvision lists them.
@pytest.mark.parametrize(
    ("encoder", "giga"),
    [
        (AlexNet(dense=True, classes=1000), 0.71),
        (VGG(16, dense=True, classes=1000), 15.47),
        (ResNet(18, classes=1000), 1.81),
        (ResNet(50, classes=1000), 4.09),
        (ViT.of_size("B", classes=1000), 17.56),
    ],
)
def test_multiply_adds(encoder, giga):
    graph, state = nnx.split(module_of(encoder, IMAGE))

    def logits(state, x):
        module = nnx.merge(graph, state)
        return module.logits(module.encode(x, None, jnp.ones(1, bool), train=False, rngs=None))

    flops = matmul_flops(logits, state, jax.ShapeDtypeStruct((1, *IMAGE.shape), jnp.float32))
    assert flops / 2e9 == pytest.approx(giga, abs=0.006)
