"""A data set known by its description alone: enough to use a model, not to load examples."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mmjax.data.dataset import About, Dataset, Source
from mmjax.errors import DataError
from mmjax.structs import Modality, Target


@dataclasses.dataclass(frozen=True)
class DescribedData(Dataset):
    """What a run keeps of a data set that it cannot load again by itself.

    Attributes:
        name: of the data set.
        described_modalities: modality -> what one example of it is.
        described_targets: target -> what was to be predicted.
        described_splits: names of its splits.
        sha256: of the arrays that a program gave; empty where they are not known.
    """

    name: str  # type: ignore[misc]
    described_modalities: Mapping[str, Modality]
    described_targets: Mapping[str, Target]
    described_splits: tuple[str, ...]
    sha256: str = ""
    about: ClassVar[About] = About("Described by a run", "not known", "not known")

    @classmethod
    def of(cls, data: Dataset, sha256: str = "") -> "DescribedData":
        """The description of a data set."""
        return cls(data.name, dict(data.modalities), dict(data.targets), data.splits, sha256)

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> what one example of it looks like."""
        return dict(self.described_modalities)

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> what is to be predicted of one example."""
        return dict(self.described_targets)

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the splits."""
        return tuple(self.described_splits)

    def load(self, split: str, folder: Path | None) -> Source:
        """Refuses: there are no examples here.

        Raises:
            DataError: always, saying where examples can come from.
        """
        raise DataError(
            f"The examples of {self.name!r} are not kept with the run, as a program gave them: run "
            "that program again, or give arrays to `run.predict`, which needs no data set."
        )
