"""What `mmjax sweep` was asked for, and the directory that its workers share."""

import dataclasses
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmjax.errors import ConfigError
from mmjax.studies.sweeps.journal import Journal
from mmjax.studies.sweeps.sweep import Sweep
from mmjax.training.config import differences, to_json
from mmjax.training.experiment import Experiment
from mmjax.training.locks import lock_file
from mmjax.training.run_directory import RunDirectory

CONFIG, JOURNAL = "sweep_config.json", "journal.log"


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """What `mmjax sweep` was asked for.

    Attributes:
        sweep: what is searched.
        experiment: what its values are put into, with the overrides of the command line.
        sweep_dir: the directory of the sweep.
        trials: of all workers, those of earlier starts included.
        experiment_file: that holds sweep and experiment.
        workers: trials that this start runs at the same time.
        folder: the folder of raw data, or None.
        overrides: the words of the command line that changed the experiment.
        command: the command line, for the record.
    """

    sweep: Sweep
    experiment: Experiment
    sweep_dir: Path
    trials: int
    experiment_file: Path
    workers: int = 1
    folder: Path | None = None
    overrides: Sequence[str] = ()
    command: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("trials", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} is {getattr(self, name)}: it must be 1 or more.")

    @property
    def config(self) -> dict[str, Any]:
        """What all starts on the directory have to agree on."""
        return {"experiment": to_json(self.experiment), "sweep": to_json(self.sweep)}

    def run_dir(self, number: int) -> Path:
        """The run directory of a trial."""
        return self.sweep_dir / "trials" / f"{number:04d}"

    def lock(self, name: str) -> Path:
        """A lock file of the sweep."""
        return self.sweep_dir / "locks" / name

    def refuse_other(self) -> None:
        """Refuses a directory that holds another sweep, or something else; ConfigError."""
        path = self.sweep_dir
        if (path / CONFIG).exists():
            changes = differences(RunDirectory(path).read(CONFIG), self.config)
            if changes:
                more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
                raise ConfigError(
                    f"{path} holds a sweep of another config ({changes[0]}{more}): name another "
                    "directory with --run-dir, or use the same config to go on."
                )
            return
        names = {each.name for each in path.iterdir()} if path.is_dir() else set()
        # Another start may be about to write the config, or has written it since.
        if path.is_file() or (CONFIG not in names and names - {"locks", f"{CONFIG}.tmp"}):
            raise ConfigError(
                f"{path} exists and holds no sweep: name another directory with --run-dir."
            )

    def open(self) -> Journal:
        """Makes the directory, or finds it, and opens its journal."""
        self.refuse_other()
        with locked(self.lock("ask")):
            if not (self.sweep_dir / CONFIG).exists():
                RunDirectory(self.sweep_dir).write(CONFIG, self.config)
            self.refuse_other()  # one that began in between
            return Journal(self.sweep_dir / JOURNAL, self.sweep)


def locked(path: Path) -> AbstractContextManager[object]:
    """A lock file while it is locked, after waiting for the process that has the lock."""
    file = lock_file(path, math.inf)
    assert file, "without end of the waiting"
    return file
