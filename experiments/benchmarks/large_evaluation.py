"""Memory of an evaluation over many examples: accuracy of 10,000,000 made-up ones.

    python experiments/benchmarks/large_evaluation.py --examples 10000000

prints the accuracy, the time and the highest memory of the process, first of 100,000 test examples
and then of so many. The examples are computed when they are asked for, and the evaluation keeps
none of them, so the memory stays as it is.

Expected: accuracy 0.73 of both; on 2 cores of an Intel Xeon 30 s for 10,000,000 examples, and a
highest memory of 413 MiB after the small split and 437 MiB after the large one.
"""

import argparse
import dataclasses
import resource
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

import mmjax
from mmjax.data import About, Batch, Dataset, Modality, Target
from mmjax.encoders import MLP
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import AdamW, Experiment, Training

WIDTH, CLASSES = 8, 4
_FACTORS = np.random.default_rng(0).integers(1 << 62, 1 << 63, WIDTH, np.uint64) | 1


@dataclasses.dataclass(frozen=True)
class Rows:
    """Noisy one-hot vectors whose label and noise are functions of the record number."""

    count: int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: np.ndarray) -> Batch:
        """Computes examples; see `Source.take`."""
        label = (indices % CLASSES).astype(np.int32)
        mixed = indices[:, None].astype(np.uint64) * _FACTORS >> np.uint64(40)
        noise = (mixed % np.uint64(1024)).astype(np.float32) / 512 - 1
        x = noise + np.eye(CLASSES, WIDTH, dtype=np.float32)[label]
        return Batch.of({"x": x}, indices, targets={"label": label})


@dataclasses.dataclass(frozen=True)
class ManyRows(Dataset):
    """A data set of so many test examples."""

    test_size: int = 1000
    name: ClassVar[str] = "many_rows"
    about: ClassVar[About] = About("Made-up rows", "mmjax", "Apache-2.0")

    @property
    def modalities(self) -> dict[str, Modality]:
        """One vector."""
        return {"x": Modality("vector", (WIDTH,))}

    @property
    def targets(self) -> dict[str, Target]:
        """One label."""
        return {"label": Target("class", CLASSES)}

    def load(self, split: str, folder: Path | None = None) -> Rows:
        """Opens a split."""
        self.check_split(split)
        return Rows(self.test_size if split == "test" else 4096)


def peak() -> float:
    """The highest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Trains a little and evaluates, with a small test split and then with a large one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000_000)
    asked = parser.parse_args()
    for count in (100_000, asked.examples):
        experiment = Experiment(
            name="large-evaluation",
            data=ManyRows(test_size=count),
            model=FusionModel(encoders={"x": MLP(hidden=(16,), width=8)}),
            objectives=(CrossEntropy(),),
            optimizer=AdamW(learning_rate=1e-2),
            training=Training(
                steps=200, batch_size=512, eval_batch_size=8192, final_splits=("test",)
            ),
            evaluation=(Classification(),),
        )
        before, begun = peak(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run = mmjax.train(experiment, Path(folder) / "run")
        seconds = time.perf_counter() - begun
        print(
            f"{count:,} examples: accuracy {run.metrics['test/accuracy']:.4f}, {seconds:.1f} s "
            f"with the training, highest memory {before:.0f} MiB before, {peak():.0f} MiB after"
        )


if __name__ == "__main__":
    main()
