"""The description of a data set: enough to use a trained model, but without examples."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mmjax.data.dataset import About, Dataset, Source
from mmjax.errors import DataError
from mmjax.structs import Modality, Target


@dataclasses.dataclass(frozen=True)
class DescribedData(Dataset):
    """The description of a data set that a run saves.

    Attributes:
        name: name of the data set.
        described_modalities: modality -> its declaration.
        described_targets: target -> its declaration.
        described_splits: names of its splits.
        sha256: SHA-256 of the arrays of an `Arrays` data set; else empty.
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
        """Modality name -> kind, shape and dtype of one example."""
        return dict(self.described_modalities)

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return dict(self.described_targets)

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the splits."""
        return tuple(self.described_splits)

    def load(self, split: str, folder: Path | None) -> Source:
        """Not possible: a description has no examples.

        Raises:
            DataError: always; says where examples can come from.
        """
        raise DataError(
            f"The examples of {self.name!r} are not saved with the run: run the program that made "
            "the run again, or give arrays to `run.predict`, which needs no data set."
        )
