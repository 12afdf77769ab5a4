"""A Transformer of the size of BERT-base over two streams of tokens, for `mmjax bench step`.

    mmjax bench step experiments/benchmarks/transformer_step.py --steps 30

Two text encoders of width 768, each over 128 made-up word ids of a vocabulary of 30,522, and a
multimodal Transformer over the 256 tokens of both: six layers each. It needs an accelerator; with
`--training.batch-size 4` a step on 2 CPU cores takes seconds.

Measured on one NVIDIA H100: RESULTS.md beside this file.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from mmjax.data import About, Batch, Dataset, Modality, Target
from mmjax.encoders import TextTransformer
from mmjax.evaluation import Classification
from mmjax.fusion import MultimodalTransformer
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import AdamW, Experiment, Training

STREAMS = ("caption", "transcript")


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Word ids that are a function of the record number; the label is that of the first word."""

    words: int
    vocabulary: int
    classes: int

    def __len__(self) -> int:
        return 65_536

    def take(self, indices: np.ndarray) -> Batch:
        """Makes examples; see `Source.take`."""
        rng = np.random.default_rng(int(indices[0]))
        inputs = {
            name: rng.integers(1, self.vocabulary, (len(indices), self.words), dtype=np.int32)
            for name in STREAMS
        }
        label = (inputs[STREAMS[0]][:, 0] % self.classes).astype(np.int32)
        return Batch.of(inputs, indices, targets={"label": label})


@dataclasses.dataclass(frozen=True)
class MadeUpTokens(Dataset):
    """Two streams of random word ids, without padding."""

    words: int = 128
    vocabulary: int = 30_522
    classes: int = 16
    name: ClassVar[str] = "made_up_tokens"
    about: ClassVar[About] = About("Random word ids", "mmjax", "Apache-2.0")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Two texts."""
        return {
            name: Modality("text", (self.words,), vocabulary=self.vocabulary) for name in STREAMS
        }

    @property
    def targets(self) -> dict[str, Target]:
        """One label."""
        return {"label": Target("class", self.classes)}

    def load(self, split: str, folder=None) -> Tokens:
        """Opens a split."""
        self.check_split(split)
        return Tokens(self.words, self.vocabulary, self.classes)


experiment = Experiment(
    name="transformer-step",
    data=MadeUpTokens(),
    model=FusionModel(
        encoders={name: TextTransformer(width=768, layers=6, heads=12) for name in STREAMS},
        fusion=MultimodalTransformer(width=768, layers=6, heads=12),
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=1e-4),
    training=Training(steps=100, batch_size=128, precision="bfloat16"),
    evaluation=(Classification(),),
)
