"""Files of studies, sweeps and runs: JSON read and checked by its shape, texts written at once."""

import json
import math
from pathlib import Path
from typing import Any

from mmjax.errors import RunError
from mmjax.training.durable import write_durably


def read_bytes(path: Path, fix: str) -> bytes:
    """The bytes of a file; RunError with `fix` where it is missing, or where it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path} is missing: {fix}.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): get the permission.") from None


def read_json(path: Path, shape: dict, fix: str, missing: str = "", nan: bool = False) -> Any:
    """A JSON object, read from a file and checked.

    Args:
        path: the file.
        shape: of the object; see `shape_error`.
        fix: what the user should do where the file is damaged, as an imperative.
        missing: the same where the file is missing, if it is something else.
        nan: whether NaN and Infinity are accepted, which JSON does not have.

    Raises:
        RunError: for a file that is missing, cannot be read, or is damaged.
    """

    def constant(text: str) -> float:
        if nan:
            return float(text)
        raise ValueError(f"{text} is not JSON")

    try:
        value = json.loads(read_bytes(path, missing or fix), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), fix) from None
    check_shape(path, value, shape, fix)
    return value


def check_shape(path: Path, value: Any, shape: Any, fix: str) -> None:
    """Refuses the content of a file that does not have the shape; RunError."""
    if wrong := shape_error(value, shape, "the file"):
        raise damaged(path, wrong, fix)


def damaged(path: Path, reason: str, fix: str) -> RunError:
    """The error for a damaged file."""
    return RunError(f"{path} is damaged ({reason}): {fix}.")


def shape_error(value: Any, shape: Any, place: str) -> str:
    """The first part of a JSON value that does not have the shape; empty where all parts have it.

    Args:
        value: what `json.loads` returned.
        shape: a type; or {"name": shape, "name?": shape} for an object with these names, of which
            those with a `?` are optional; {str: shape} for one with any names; [shape] for a list
            of any length; a tuple of alternatives.
        place: what the value is called.
    """
    if isinstance(shape, tuple):
        fits = any(not shape_error(value, one, place) for one in shape)
        return "" if fits else f"{place} is of the wrong kind"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is not a list"
        parts = [(item, shape[0], f"item {index} of {place}") for index, item in enumerate(value)]
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place} is not an object"
        if list(shape) == [str]:
            parts = [(item, shape[str], f"{key!r} of {place}") for key, item in value.items()]
        else:
            parts = []
            for key, one in shape.items():
                name = key.removesuffix("?")
                if name in value:
                    parts.append((value[name], one, f"{name!r} of {place}"))
                elif name == key:
                    return f"{name!r} of {place} is missing"
    else:
        fits = isinstance(value, shape) and (shape is object or not isinstance(value, bool))
        finite = not isinstance(value, float) or math.isfinite(value)
        return "" if fits and finite else f"{place} is of the wrong kind"
    return next(filter(None, (shape_error(*part) for part in parts)), "")


def write_text(path: Path, text: str) -> Path:
    """Writes a text file, all of it or nothing, and returns its path; RunError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror}): make room or get the permission."
        ) from None
    return path
