"""Reading the files of published weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmjax.errors import DataError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def weights_file(path: Path) -> Path:
    """The safetensors file of a folder, or the file itself."""
    if path.is_file():
        if path.suffix in PICKLES:
            raise _pickle(path)
        return path
    if not path.is_dir():
        raise DataError(f"There is no folder {path} with weights: check the path.")
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        raise DataError(
            f"The folder {path} has {len(files)} safetensors files, none of them model.safetensors"
            ": name the file instead of the folder."
        )
    for file in sorted(path.iterdir()):
        if file.suffix in PICKLES:
            raise _pickle(file)
    raise DataError(f"The folder {path} has no model.safetensors: put the weights there.")


def _pickle(file: Path) -> DataError:
    return DataError(
        f"{file} is a pickle of PyTorch, which can run any code when it is read: convert it once, "
        "where you trust it, with safetensors.torch.save_file(torch.load(file, weights_only=True), "
        '"model.safetensors").'
    )


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Name -> array; DataError for a pickle or a damaged file."""
    if file.read_bytes()[:2] in (b"PK", b"\x80\x02"):
        raise _pickle(file)
    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"The weights {file} are damaged ({error}): copy the file again from where it was "
            "published."
        ) from None


def read_json(folder: Path | None, name: str) -> dict[str, Any]:
    """A JSON file of the folder; {} if one of them is not there; a list under `list`."""
    if folder is None or not (file := folder / name).exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} is damaged ({error}): copy it again from where the weights were published."
        ) from None
    return content if isinstance(content, dict) else {"list": content}


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
