"""Parameters, FLOPs and throughput of the standard encoders: forward pass and train step.

    python experiments/benchmarks/encoder_steps.py                        # an accelerator
    python experiments/benchmarks/encoder_steps.py --batch-size 4 --steps 3 --precision float32

Each encoder reads random images of 224 x 224 pixels, videos of 16 x 112 x 112 pixels (uint8 until
they are on the device), 128 word pieces (CLIP: 77), 1 second of sound (AST: 10.24), or 50 steps
of 74 numbers, with a linear head for 1,000 classes. The train step is what
`mmjax bench step` measures. FLOPs are those of matrix products and convolutions, two for each
multiply-add, of one example's forward pass. Figures: RESULTS.md beside this file.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.benchmarks.flops import matmul_flops
from mmjax.benchmarks.step import bench_step
from mmjax.data import About, Batch, Dataset, Modality, Target
from mmjax.encoders import (
    AST,
    BERT,
    CRNN,
    MFCCGRU,
    VGG,
    AlexNet,
    AudioTransformer,
    BagOfWords,
    CLIPImage,
    CLIPText,
    EfficientNetLite0,
    Encoder,
    Frames,
    LeNet,
    LogMelCNN,
    ResNet,
    SequenceCNN,
    SequenceRNN,
    SequenceTransformer,
    TextTransformer,
    TubeletViT,
    ViT,
)
from mmjax.fusion import Concat
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import AdamW, Experiment, Training

CLASSES = 1000
IMAGE = Modality("image", (224, 224, 3), dtype="uint8")
TEXT = Modality("text", (128,), vocabulary=30_522)
WORDS = Modality("text", (77,), vocabulary=49_408)
SOUND = Modality("audio", (16_000,), sample_rate=16_000)
CLIP = Modality("audio", (163_840,), sample_rate=16_000)
VIDEO = Modality("video", (16, 112, 112, 3), dtype="uint8")
SEQUENCE = Modality("sequence", (50, 74))


class Case(NamedTuple):
    """An encoder, what it reads, and its published parameters in millions where there are any.

    Those of images are the ones of torchvision and timm with a layer for 1,000 classes, the others
    those of transformers without such a layer.
    """

    encoder: Encoder
    modality: Modality = IMAGE
    published: float | None = None


ENCODERS = {
    "lenet": Case(LeNet()),
    "alexnet": Case(AlexNet(dense=True, output="pooled"), published=61.1),
    "vgg16": Case(VGG(16, dense=True, output="pooled"), published=138.4),
    "resnet18": Case(ResNet(18, output="pooled"), published=11.7),
    "resnet50": Case(ResNet(50, output="pooled"), published=25.6),
    "resnet152": Case(ResNet(152, output="pooled"), published=60.2),
    "efficientnet-lite0": Case(EfficientNetLite0(output="pooled"), published=4.65),
    "vit-ti/16": Case(ViT.of_size("Ti", output="pooled"), published=5.7),
    "vit-s/16": Case(ViT.of_size("S", output="pooled"), published=22.1),
    "vit-b/16": Case(ViT.of_size("B", output="pooled"), published=86.6),
    "vit-l/16": Case(ViT.of_size("L", output="pooled"), published=304.3),
    "clip-vit-b/32": Case(CLIPImage(output="pooled")),
    "bert-base": Case(BERT(output="pooled"), TEXT, 109.5),
    "clip-text": Case(CLIPText(output="pooled"), WORDS),
    "text-transformer": Case(TextTransformer(), TEXT),
    "bag-of-words": Case(BagOfWords(), TEXT),
    "log-mel-cnn": Case(LogMelCNN(batch_norm=True), SOUND),
    "crnn": Case(CRNN(batch_norm=True), SOUND),
    "mfcc-gru": Case(MFCCGRU(), SOUND),
    "audio-transformer": Case(AudioTransformer(), SOUND),
    "ast": Case(AST(output="pooled"), CLIP),
    "frames-resnet18-gru": Case(
        Frames(ResNet(18, output="pooled"), SequenceRNN(cell="gru")), VIDEO
    ),
    "tubelet-vit": Case(TubeletViT(), VIDEO),
    "sequence-lstm": Case(SequenceRNN(bidirectional=True), SEQUENCE),
    "sequence-gru": Case(SequenceRNN(cell="gru", bidirectional=True), SEQUENCE),
    "sequence-cnn": Case(SequenceCNN(), SEQUENCE),
    "sequence-transformer": Case(SequenceTransformer(), SEQUENCE),
}


@dataclasses.dataclass(frozen=True)
class Random:
    """Examples that are a function of the record number."""

    modality: Modality

    def __len__(self) -> int:
        return 65_536

    def take(self, indices: np.ndarray) -> Batch:
        """Makes examples; see `Source.take`."""
        random = np.random.default_rng(int(indices[0]))
        shape = (len(indices), *self.modality.shape)
        if self.modality.dtype == "float32":
            x = random.standard_normal(shape, np.float32)
        else:
            top = self.modality.vocabulary or 256
            x = random.integers(1, top, shape, dtype=np.dtype(self.modality.dtype))
        label = random.integers(0, CLASSES, len(indices), dtype=np.int32)
        return Batch.of({"x": x}, indices, targets={"label": label})


@dataclasses.dataclass(frozen=True)
class MadeUp(Dataset):
    """Random images or texts with random labels."""

    modality: Modality = IMAGE
    name: ClassVar[str] = "made_up"
    about: ClassVar[About] = About("Random images or word pieces", "mmjax", "Apache-2.0")

    @property
    def modalities(self) -> dict[str, Modality]:
        """The one modality."""
        return {"x": self.modality}

    @property
    def targets(self) -> dict[str, Target]:
        """One label."""
        return {"label": Target("class", CLASSES)}

    def load(self, split: str, folder=None) -> Random:
        """Opens a split."""
        self.check_split(split)
        return Random(self.modality)


def measure(name: str, batch_size: int, steps: int, precision: str, deterministic: bool) -> str:
    """A line of the table."""
    started = time.perf_counter()
    encoder, modality, published = ENCODERS[name]
    dtype = jnp.dtype(precision)
    graph, abstract = nnx.split(
        nnx.eval_shape(lambda: encoder.build(modality, dtype=dtype, rngs=nnx.Rngs(0)))
    )
    random = np.random.default_rng(0)
    module = jax.tree.map(
        lambda leaf: jnp.asarray(0.05 * random.random(leaf.shape, np.float32)), abstract
    )
    params = sum(leaf.size for leaf in jax.tree.leaves(module.filter(nnx.Param)))
    width = nnx.merge(graph, module).features.width
    if published is not None and modality is IMAGE:
        params += (width + 1) * CLASSES

    @jax.jit
    def forward(state: nnx.State, x: jax.Array) -> jax.Array:
        if modality.dtype == "uint8":
            x = (x / 255).astype(dtype)
        elif modality.dtype == "float32":
            x = x.astype(dtype)
        present = jnp.ones(len(x), bool)
        return nnx.merge(graph, state)(x, None, present, train=False, rngs=None).tokens

    x = jnp.asarray(Random(modality).take(np.arange(batch_size)).inputs["x"])
    flops = matmul_flops(forward, module, x) / batch_size / 1e9
    times = []
    for _ in range(steps + 3):
        begun = time.perf_counter()
        forward(module, x).block_until_ready()
        times.append(time.perf_counter() - begun)
    rate = batch_size / statistics.median(times[3:])
    del module
    trained = bench_step(
        Experiment(
            name=name.replace("/", "-"),
            data=MadeUp(modality),
            model=FusionModel(encoders={"x": encoder}, fusion=Concat()),
            objectives=(CrossEntropy(),),
            optimizer=AdamW(learning_rate=1e-4),
            training=Training(
                steps=10, batch_size=batch_size, precision=precision, deterministic=deterministic
            ),
        ),
        None,
        steps,
    )
    low, high = trained.step_ms_quartiles
    said = "–" if published is None else f"{published}"
    return (
        f"| {name} | {params / 1e6:.2f} | {said} | {flops:.2f} | {rate:,.0f} | "
        f"{trained.examples_per_second:,.0f} | {trained.step_ms:.1f} ({low:.1f} to {high:.1f}) | "
        f"{100 * trained.mfu:.0f} % | {trained.memory_mb / 1024:.1f} | "
        f"{trained.compile_seconds:.0f} | {time.perf_counter() - started:.0f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(ENCODERS)}")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(ENCODERS)):
        sys.exit(f"Unknown: {', '.join(unknown)}. Choose from {', '.join(ENCODERS)}.")
    device = jax.devices()[0].device_kind
    print(
        f"{device}, batch {options.batch_size}, {options.precision}, {options.steps} steps"
        f"{'' if options.deterministic else ', not deterministic'}\n"
    )
    print(
        "| encoder | M parameters | published | forward GFLOP/example | forward examples/s | "
        "trained examples/s | ms/step (quartiles) | MFU | GiB | compile s | all s |"
    )
    print("|---|" + "---:|" * 10)
    for one in options.names or ENCODERS:
        print(
            measure(
                *(one, options.batch_size, options.steps, options.precision),
                options.deterministic,
            ),
            flush=True,
        )
