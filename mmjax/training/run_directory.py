"""The run directory: what a run leaves behind, and what it finds when it is started again."""

import fcntl
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax

from mmjax import __version__
from mmjax.errors import ConfigError, RunError
from mmjax.training.config import differences

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy")


class RunDirectory:
    """Files of one run.

    `config.json`, `environment.json`, `metrics.jsonl` (a line of training metrics or of an
    evaluation, the same bits however often the run was interrupted), `timing.jsonl` (what is not
    the same), `result.json` (once it is finished) and `checkpoints/`.

    Args:
        path: the directory; made by `claim`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock: IO[str] | None = None

    def claim(self, config: Any) -> None:
        """Makes the directory, or takes over the one of an earlier start of the same config.

        Raises:
            ConfigError: where it holds a run of another config, or another kind of thing.
            RunError: where another process is at work in it, or it cannot be written.
        """
        known = self.path / "config.json"
        if self.path.exists() and not known.exists():
            foreign = self.path.is_file() or any(
                entry.name != "lock" for entry in self.path.iterdir()
            )
            if foreign:
                raise ConfigError(
                    f"{self.path} exists and is no run directory: name another with --run-dir."
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise RunError(
                f"The run directory {self.path} cannot be written ({error.strerror}): name another "
                "with --run-dir, or get the permission."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"Another process is training in {self.path}: wait for it, or name another "
                "directory with --run-dir."
            ) from error
        if not known.exists():
            self.write("config.json", config)
            return
        changes = differences(self.read("config.json"), config)
        if changes:
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            raise ConfigError(
                f"{self.path} holds a run of another config ({'; '.join(changes[:3])}{more}): name "
                "another directory with --run-dir, or use the same config to go on."
            )

    def release(self) -> None:
        """Lets other processes train in the directory."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def read(self, name: str) -> Any:
        """A JSON file of the directory."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} has no {name}, so it is no run directory of mmjax: name one that "
                "`mmjax train` made."
            ) from error
        except (OSError, ValueError) as error:
            raise RunError(
                f"The file {path} is damaged or cannot be read: restore it, or start the run anew "
                "in another directory."
            ) from error

    def write(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        draft = self.path / f"{name}.tmp"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=1, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path / name)

    def append(self, name: str, line: Mapping[str, float]) -> None:
        """Adds a line to a JSONL file; a number that is not finite becomes null."""
        plain = {key: value if math.isfinite(value) else None for key, value in line.items()}
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")

    def sync(self, name: str) -> None:
        """Makes sure that the lines appended so far outlive a crash of the machine."""
        if (self.path / name).exists():
            with open(self.path / name, "rb") as file:
                os.fsync(file.fileno())

    def cut_after(self, name: str, step: int) -> None:
        """Drops the lines of a JSONL file after a step, and one that was cut short by a kill."""
        path = self.path / name
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or json.loads(line)["step"] > step:
                break
            kept.append(line)
        draft = self.path / f"{name}.tmp"
        draft.write_text("".join(kept), encoding="utf-8")
        os.replace(draft, path)


def environment(command: Sequence[str], data: Mapping[str, str]) -> dict[str, Any]:
    """What a result depends on beyond its config.

    Args:
        command: the command line.
        data: file -> SHA-256 of the data that was read.
    """
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": " ".join(command),
        "versions": {"mmjax": __version__}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{device.device_kind} ({device.platform})" for device in jax.devices()],
        "git_commit": commit.stdout.strip() or "not a git checkout",
        "data": dict(data),
    }
