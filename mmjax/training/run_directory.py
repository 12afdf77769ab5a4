"""The run directory: the files of a run, from which it can also be continued."""

import datetime
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mmjax import __version__
from mmjax.data import Dataset, DescribedData
from mmjax.errors import ConfigError, RunError
from mmjax.training.config import differences, to_json
from mmjax.training.durable import write_durably
from mmjax.training.locks import lock_file

RESULT = "result.json"
INTERFACE = "interface.json"  # the modalities and targets of the model
OLDEST = (0, 2, 0)  # the oldest version of mmjax whose runs can be read


class RunDirectory:
    """The files of one run.

    `config.json`, `environment.json`, `metrics.jsonl` (a line of training metrics or of an
    evaluation; bit-identical however often the run was interrupted), `timing.jsonl` (speeds, which
    vary), `result.json` (once the run is finished) and `checkpoints/`.

    Args:
        path: the directory; created by `claim`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock: IO[str] | None = None

    def refuse_other(self, config: Any) -> None:
        """Checks that a run of this config can start or continue in the directory.

        Raises:
            ConfigError: it holds a run of another config, or files that are not of a run.
            RunError: it holds a run that cannot be read, see `config`.
        """
        if not (self.path / "config.json").exists():
            own = {"lock", "config.json.tmp"}  # left by a run that was killed as it began
            if self.path.is_file() or (
                self.path.is_dir() and any(e.name not in own for e in self.path.iterdir())
            ):
                raise ConfigError(
                    f"{self.path} exists and is not a run directory: choose another with --run-dir."
                )
            return
        changes = differences(self.config(), config)
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            raise ConfigError(
                f"{self.path} holds a run of another config ({'; '.join(changes[:3])}{more}): "
                "choose another directory with --run-dir, or use the same config to continue it."
            )

    def claim(self, config: Any) -> None:
        """Locks the directory for this process; creates it, or opens a run of the same config.

        Raises:
            ConfigError: it holds a run of another config, or files that are not of a run.
            RunError: another process is training in it, or it cannot be written.
        """
        try:
            str(self.path.absolute()).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"The path {str(self.path.absolute())!a} has bytes that are not UTF-8, which "
                "checkpoints cannot be written to: choose another --run-dir, or rename the folder; "
                "if its letters look right, the locale is wrong: set LC_ALL=C.UTF-8."
            ) from error
        self.refuse_other(config)
        try:
            self._lock_out_others()
            self.refuse_other(config)  # again: another run may have begun before the lock
            if not (self.path / "config.json").exists():
                self.write("config.json", config)
        except BaseException:  # also Ctrl-C must release the lock; it is raised again
            self.release()
            raise

    def _lock_out_others(self) -> None:
        if self._lock:
            return
        self._lock = lock_file(self.path / "lock")
        if self._lock is None:
            raise RunError(
                f"Another process is training in {self.path}: wait for it, or choose another "
                "directory with --run-dir."
            )

    def release(self) -> None:
        """Releases the lock, so that other processes can train in the directory."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def config(self) -> dict[str, Any]:
        """The config of the run, as JSON.

        Raises:
            RunError: the file is missing or damaged, or an older version of mmjax made the run
                and this version cannot read it.
        """
        config = self.read("config.json")
        if (self.path / "environment.json").exists():
            versions = self.read("environment.json").get("versions")
            made_by = str(versions.get("mmjax", "")) if isinstance(versions, dict) else ""
            numbers = tuple(map(int, re.findall("[0-9]+", made_by)[:3]))
            if numbers and numbers < OLDEST:
                raise RunError(
                    f"The run {self.path} was made by mmjax {made_by}, whose runs this version "
                    f"({__version__}) cannot read: use mmjax {made_by}, or train it again."
                )
        return config

    def read(self, name: str) -> Any:
        """The JSON object in a file of the directory.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(value, dict):
                raise ValueError("it is not a JSON object")
            if name == RESULT:
                _check_metrics(value.get("metrics"))
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(
                f"{self.path} has no {name}, so it is not a run directory: give one that `mmjax "
                "train` made."
            ) from None
        except OSError as error:
            raise RunError(
                f"The file {path} cannot be read ({error.strerror}): get permission to read it."
            ) from error
        except (ValueError, RecursionError) as error:
            fix = (
                "delete it and run the same command again"
                if name == RESULT
                else "restore it, or start a new run in another directory"
            )
            raise RunError(f"The file {path} is damaged ({error}): {fix}.") from error
        return value

    def write(self, name: str, value: Any) -> None:
        """Writes a JSON file, completely or not at all; RunError if it cannot be written."""
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        with self._writing(name):
            write_durably(self.path / name, text)

    def copy(self, source: Path, name: str) -> None:
        """Copies a file into the directory; RunError if it cannot be written."""
        target = self.path / name
        with self._writing(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def append(self, name: str, line: Mapping[str, float | int]) -> None:
        """Adds a line to a JSONL file; a number that is not finite becomes null.

        Raises:
            RunError: it cannot be written; `cut_after` then removes the incomplete line.
        """
        plain = {key: value if math.isfinite(value) else None for key, value in line.items()}
        with self._writing(name), open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")

    def sync(self, name: str) -> None:
        """Makes sure that the lines appended so far survive a crash of the machine."""
        if (self.path / name).exists():
            with self._writing(name), open(self.path / name, "rb") as file:
                os.fsync(file.fileno())

    def cut_after(self, name: str, step: int) -> None:
        """Deletes the lines of a JSONL file after a step, and an incomplete last line.

        If the file does not exist, an empty one is created.

        Raises:
            RunError: an earlier line is damaged, or the file cannot be written.
        """
        path = self.path / name
        with self._writing(name):
            path.touch()
            *lines, rest = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines):
            try:
                after = json.loads(line)["step"] > step
            except (ValueError, TypeError, KeyError) as error:
                raise RunError(
                    f"The file {path} is damaged in line {number + 1}: remove that line and run "
                    "the same command again."
                ) from error
            if after:
                lines, rest = lines[:number], line
                break
        if not rest:
            return
        with self._writing(name):
            write_durably(path, b"".join(line + b"\n" for line in lines).decode("utf-8"))

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"The file {self.path / name} cannot be written ({error.strerror}): free disk "
                "space or get permission to write it, and run the same command again."
            ) from error


def _check_metrics(metrics: Any) -> None:
    if not isinstance(metrics, dict):
        raise ValueError("it has no metrics")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, float | int | None):
            raise ValueError(f"its metric {name} is not a number")


@contextmanager
def fresh_run_dir(name: str) -> Iterator[Path]:
    """Makes the directory runs/<name>-<time>, which no other process has; removes it if left empty.

    Raises:
        RunError: it cannot be made.
    """
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):  # for runs that start within the same second
        fresh = Path("runs") / (f"{name}-{time}" + (f"-{number}" if number > 1 else ""))
        try:
            fresh.mkdir(parents=True)
        except FileExistsError:
            if not fresh.is_dir():  # `runs` itself is a file
                raise _cannot_make(fresh, "a file is in the way") from None
            continue
        except OSError as error:
            raise _cannot_make(fresh, str(error.strerror)) from error
        break
    try:
        yield fresh
    finally:
        for folder in (fresh, fresh.parent):
            with suppress(OSError):  # not empty
                folder.rmdir()


def _cannot_make(path: Path, reason: str) -> RunError:
    return RunError(
        f"The run directory {path} cannot be made ({reason}): name another with --run-dir."
    )


def write_interface(directory: RunDirectory, data: Dataset) -> None:
    """Saves the modalities and targets, so that the model can be used without its data set."""
    directory.write(INTERFACE, to_json(DescribedData.of(data)))
