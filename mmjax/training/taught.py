"""A data set with the predictions of a trained run, the teacher of a distillation."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.data.dataset import About, Dataset, Modality, Source, Target
from mmjax.errors import ConfigError
from mmjax.structs import Batch
from mmjax.training.load import load

FLOOR = 1e-8  # of a probability, before its logarithm


@dataclasses.dataclass(frozen=True)
class Taught(Dataset):
    """A data set with one more target: what a finished run, the teacher, predicts for each example.

    The target is called by the teacher's target and `_teacher`, and holds the logarithms of its
    probabilities, [C] numbers, for the objective `Distillation`. The teacher reads all modalities
    of the data that it knows; the student may read any. Give the model of the student its `heads`,
    or it gets one for the teacher's numbers too.

    Attributes:
        data: the data set.
        teacher: run directory of the teacher.
        target: a target of the kind `class` of both.

    Raises:
        ConfigError: the teacher's target has other classes, or it knows no modality of the data.
        RunError: the teacher is not a finished run.
    """

    data: Dataset
    teacher: str
    target: str = "label"

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the data, and `_taught`."""
        return f"{self.data.name}_taught"

    @property
    def about(self) -> About:  # type: ignore[override]
        """The entry of the data."""
        return self.data.about

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """The splits of the data."""
        return self.data.splits

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities of the data."""
        return self.data.modalities

    @property
    def targets(self) -> dict[str, Target]:
        """The targets of the data, and the teacher's."""
        name = self._check()
        logits = Target("number", shape=(self.data.targets[self.target].classes,))
        return dict(self.data.targets) | {name: logits}

    def _check(self) -> str:
        """The name of the teacher's target; ConfigError if the data has no such class."""
        targets = self.data.targets
        if self.target not in targets or targets[self.target].kind != "class":
            raise ConfigError(
                f"Taught.target is {self.target!r}, but the targets of the kind class of "
                f"{self.data.name} are "
                f"{', '.join(n for n, t in targets.items() if t.kind == 'class') or 'none'}."
            )
        return f"{self.target}_teacher"

    @functools.cached_property
    def _run(self) -> Any:
        run = load(self.teacher)
        theirs, ours = run.data.targets.get(self.target), self.data.targets[self.target]
        if theirs is None or (theirs.classes, theirs.names) != (ours.classes, ours.names):
            what = "no such target" if theirs is None else f"{theirs.classes} classes"
            raise ConfigError(
                f"The teacher {self.teacher} has {what} for {self.target!r}, but {self.data.name} "
                f"has {ours.classes} classes: choose a teacher of the same classes, in the same "
                "order and with the same names."
            )
        return run

    def load(self, split: str, folder: Path | None) -> Source:
        """Opens a split, and runs the teacher on it; see `Dataset.load`."""
        self.check_split(split)
        name = self._check()
        run = self._run
        probabilities = run.predict(self.data, split, data_dir=folder)[self.target]
        logits = np.log(np.maximum(probabilities, FLOOR)).astype(np.float32)
        return TaughtSource(self.data.load(split, folder), name, logits)


class TaughtSource:
    """A source whose batches have one more target.

    Args:
        source: the examples.
        name: of the target.
        values: [N, C] of all examples.
    """

    def __init__(self, source: Source, name: str, values: np.ndarray) -> None:
        self._source, self._name, self._values = source, name, values

    def __len__(self) -> int:
        return len(self._source)

    def take(self, indices: np.ndarray) -> Batch:
        """See `Source.take`."""
        batch = self._source.take(indices)
        return dataclasses.replace(
            batch, targets={**batch.targets, self._name: self._values[np.asarray(indices)]}
        )
