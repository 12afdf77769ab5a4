"""The raw files of data sets: finding them in the data folder, and their SHA-256."""

import hashlib
import re
from pathlib import Path
from typing import BinaryIO

from mmjax.data.dataset import About
from mmjax.errors import DataError

FOLDER_VARIABLE = "MMJAX_DATA"


def require(folder: Path | None, relative: str, about: About) -> Path:
    """The path of a file or folder of a data set; checks that it exists.

    Args:
        folder: the folder of raw data; None if none was given.
        relative: path of a file below it, or of a folder, ending in `/`.
        about: the entry of the data set, with the source of the original.

    Raises:
        DataError: no folder was given, or it does not have the file.
    """
    original = f"; download the original from {about.homepage}" if about.homepage else ""
    if folder is None:
        raise DataError(
            f"No data folder was given: set {FOLDER_VARIABLE} or --data-dir to the folder that "
            f"holds {relative}{original}."
        )
    path = folder / relative
    if not (path.is_dir() if relative.endswith("/") else path.is_file()):
        raise DataError(
            f"The data folder {folder} does not have {relative}: put it there, or set "
            f"{FOLDER_VARIABLE} or --data-dir to the folder that has it{original}."
        )
    return path


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def open_bytes(path: Path) -> BinaryIO:
    """An open file of bytes, for those that are too large to be read at once.

    Raises:
        DataError: the file is missing or cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"The file {path} does not exist: put it there.")
    return DataError(
        f"The file {path} cannot be read ({error.strerror}): check its permissions and the disk."
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, or of a folder as defined in `About.files`, in hexadecimal.

    Raises:
        DataError: a file cannot be read.
    """
    if not path.is_dir():
        return hashlib.sha256(read_bytes(path)).hexdigest()
    lines = hashlib.sha256()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    # Hidden files, such as .DS_Store, are of the system that shows the folder.
    for name in sorted(name for name in files if not re.search(r"(^|/)\.", name)):
        lines.update(f"{hashlib.sha256(read_bytes(files[name])).hexdigest()}  {name}\n".encode())
    return lines.hexdigest()
