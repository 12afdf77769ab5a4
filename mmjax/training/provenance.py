"""Where the numbers of a run come from: command, versions, settings, machine, code and data."""

import dataclasses
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from mmjax import __version__
from mmjax.errors import RunError
from mmjax.training.experiment import Experiment
from mmjax.training.run_directory import RunDirectory

ENVIRONMENT = "environment.json"
CODE = "code"  # the folder of a run directory with copies of the user's own files
EARLIER_CODE = "code_earlier"  # .../0/: those of the first entry of `earlier` that were changed
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy")
# Settings of JAX that change what a program computes.
SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
)
_LARGEST = 1 << 20  # bytes of a source file that is kept with the run
_INSTALLED = tuple(
    f"{Path(place).resolve()}{os.sep}"
    for place in (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        str(Path(__file__).parents[1]),
    )
)


def environment(
    command: Sequence[str], data: Mapping[str, str], code: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Command, versions, machine, code and data of a run, as JSON.

    Args:
        command: the command line.
        data: file -> SHA-256, for the data that was read.
        code: the user's own files, see `code_files`.
    """
    code = code or {}
    settings = {name: getattr(jax.config, name) for name in SETTINGS}
    return {
        "command": shlex.join(command),
        "versions": {"mmjax": __version__}
        | {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": _cores(),
        "processor": _processor(),
        "devices": [f"{device.device_kind} ({device.platform})" for device in jax.devices()],
        "settings": settings | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")},
        "git_commit": _commit(Path(__file__)) or "not a git checkout",
        "code": {name: _sha256(path) for name, path in code.items()},
        "code_commit": next(filter(None, map(_commit, code.values())), ""),
        "data": dict(data),
    }


BEGAN_WITH = ("start", "published")  # entries of `environment.json` that only a new run makes


def note_environment(
    directory: RunDirectory, now: dict[str, Any], code: Mapping[str, Path]
) -> list[str]:
    """Writes `environment.json`, and copies of the user's own files.

    A run that goes on keeps what it began with: `start` and `published`, every earlier environment,
    without the data, under `earlier`, and each file that was changed since.

    Args:
        directory: of the run, locked.
        now: of `environment`, for this start.
        code: the user's own files, see `code_files`.

    Returns:
        A sentence for each thing that has changed since the run was last started, and that may
        change its numbers.

    Raises:
        RunError: the data has changed since the run began, or a file cannot be written.
    """
    notes: list[str] = []
    if (directory.path / ENVIRONMENT).exists():
        noted = directory.read(ENVIRONMENT)
        check_data(directory.path, noted, now["data"])
        earlier = list(noted.get("earlier") or [])
        notes = _changes(noted, now)
        if notes:
            left_out = ("earlier", *BEGAN_WITH, "data")
            earlier.append({key: part for key, part in noted.items() if key not in left_out})
        now = now | ({"earlier": earlier} if earlier else {})
        now = {key: noted[key] for key in BEGAN_WITH if key in noted} | now
    directory.write(ENVIRONMENT, now)
    version = len(now.get("earlier", ())) - 1
    for name, path in code.items():
        kept = directory.path / CODE / name
        if version >= 0 and kept.is_file() and _sha256(kept) != now["code"][name]:
            directory.copy(kept, f"{EARLIER_CODE}/{version}/{name}")
        directory.copy(path, f"{CODE}/{name}")
    return [f"Since the run in {directory.path} was last started, {note}." for note in notes]


def check_data(run_dir: Path, noted: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Raises a RunError if the data of a run is not what it was trained on.

    Args:
        run_dir: of the run.
        noted: its `environment.json`.
        now: file -> SHA-256 of the data as it is.
    """
    before: dict[str, str] = noted.get("data") or {}
    changed = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
    if changed:
        raise RunError(
            f"The data of the run in {run_dir} has changed since the run began "
            f"({', '.join(changed)}): restore it, or train a new run in another directory."
        )


def _changes(noted: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, as parts of sentences."""
    notes = []
    for key, what in (("versions", ""), ("settings", "the setting "), ("code", "the file ")):
        before, after = noted.get(key) or {}, now[key]
        for name in before:
            if before[name] != after.get(name):
                values = f" from {before[name]!r} to {after.get(name)!r}" if key != "code" else ""
                notes.append(f"{what}{name} has changed{values}")
    if noted.get("devices") != now["devices"]:
        notes.append(
            f"its devices have changed from {', '.join(noted.get('devices') or ['unknown ones'])} "
            f"to {', '.join(now['devices'])}"
        )
    return notes


def code_files(experiment: Experiment, definitions: ModuleType | None = None) -> dict[str, Path]:
    """The user's own source files that an experiment was made by.

    They are the experiment file, those that define classes of the experiment, and those beside
    these that were imported. Installed packages, mmjax itself, and files above 1 MiB do not count.

    Args:
        experiment: the experiment.
        definitions: the module of its file; by default the program that runs.

    Returns:
        Name, relative to the folder that they share -> path.
    """
    roots = {definitions or sys.modules.get("__main__")}
    roots |= {sys.modules.get(type(part).__module__) for part in _parts(experiment)}
    files = {file for module in roots if (file := _own_file(module))}
    folders = {file.parent for file in files}
    for module in list(sys.modules.values()):
        file = _own_file(module)
        if file and any(file.is_relative_to(folder) for folder in folders):
            files.add(file)
    if not files:
        return {}
    shared = Path(os.path.commonpath([file.parent for file in files]))
    return {file.relative_to(shared).as_posix(): file for file in sorted(files)}


def _parts(value: Any) -> Iterator[Any]:
    """The dataclasses of a config."""
    if dataclasses.is_dataclass(value):
        yield value
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        inner = list(value.values())
    else:
        inner = list(value) if isinstance(value, tuple | list) else []
    for part in inner:
        yield from _parts(part)


def _own_file(module: Any) -> Path | None:
    """The source file of a module, unless it is installed, part of mmjax, or large."""
    name = getattr(module, "__dict__", {}).get("__file__")
    if not isinstance(name, str) or not name.endswith(".py") or name.startswith(_INSTALLED):
        return None
    file = Path(name).resolve()
    if str(file).startswith(_INSTALLED) or {"site-packages", "dist-packages"} & set(file.parts):
        return None
    return file if file.is_file() and file.stat().st_size <= _LARGEST else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _cores() -> int | None:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor() -> str:
    """The model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit(file: Path) -> str:
    """The git commit of the checkout that a file belongs to; empty if git does not track it.

    The owner of the checkout does not matter (in a container, it is often another one): the code of
    the file runs in this process anyway.
    """
    git = ["git", "-c", "safe.directory=*", "-C", str(file.parent)]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*git, *words], capture_output=True, text=True, check=False)

    try:
        if run("ls-files", "--error-unmatch", file.name).returncode:
            return ""
        return run("describe", "--always", "--dirty", "--abbrev=40").stdout.strip()
    except OSError:  # a machine without git
        return ""
