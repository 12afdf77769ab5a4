"""The raw files of data sets: finding them in the data folder, knowing them by their SHA-256."""

import hashlib
from pathlib import Path

from mmjax.data.dataset import About
from mmjax.errors import DataError

FOLDER_VARIABLE = "MMJAX_DATA"


def require(folder: Path | None, relative: str, about: About) -> Path:
    """Where a file or folder of a data set lies, which is checked to be there.

    Args:
        folder: the folder of raw data; None where none was named.
        relative: path of a file below it, or of a folder, then ending in `/`.
        about: the entry of the data set, which says where the original is to be had.

    Raises:
        DataError: where there is no folder, or no such file in it.
    """
    original = f"; the original is to be had from {about.homepage}" if about.homepage else ""
    if folder is None:
        raise DataError(
            f"No data folder was named: set {FOLDER_VARIABLE} or --data-dir to the folder that "
            f"holds {relative}{original}."
        )
    path = folder / relative
    if not (path.is_dir() if relative.endswith("/") else path.is_file()):
        raise DataError(
            f"The data folder {folder} does not hold {relative}: put it there, or set "
            f"{FOLDER_VARIABLE} or --data-dir to the folder that holds it{original}."
        )
    return path


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: for a file that is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}: put it there.") from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): check its permissions and its disk."
        ) from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file, or of a folder by the rule of `About.files`, in hexadecimal.

    Raises:
        DataError: for a file that cannot be read.
    """
    if not path.is_dir():
        return hashlib.sha256(read_bytes(path)).hexdigest()
    lines = hashlib.sha256()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    for name in sorted(files):
        lines.update(f"{hashlib.sha256(read_bytes(files[name])).hexdigest()}  {name}\n".encode())
    return lines.hexdigest()
