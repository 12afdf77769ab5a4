"""Files that are there completely or not at all, also after the power fails."""

import contextlib
import os
from pathlib import Path


def write_durably(path: Path, text: str) -> None:
    """Writes a text file in place of an earlier one; OSError if it cannot, and that one stays.

    Characters that UTF-8 does not have (bytes of a path in another encoding) are escaped.
    """
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with open(draft, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        move_durably(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def move_durably(source: Path, target: Path) -> None:
    """Renames a file or a folder within its folder, and makes sure that the new name is on disk."""
    os.replace(source, target)
    with contextlib.suppress(OSError):  # not every file system can open or sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
