"""File locks (flock), so that two processes never write to the same run, study or sweep.

The kernel releases a lock when its process ends, even after a crash.
"""

import errno
import fcntl
import math
import time
from pathlib import Path
from typing import IO

from mmjax.errors import RunError

POLL = 0.2  # seconds between two tries
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def lock_file(path: Path, wait: float = 0.0) -> IO[str] | None:
    """Locks a file; creates the file and its directory if they do not exist.

    Args:
        path: the file.
        wait: seconds to wait if another process has the lock; `math.inf` waits without limit.

    Returns:
        The open file; close it to release the lock. None if another process still has the lock.

    Raises:
        RunError: the file cannot be written, or its file system does not support locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise RunError(
            f"The directory {path.parent} cannot be written ({error.strerror}): choose another "
            "with --run-dir, or get permission to write to it."
        ) from error
    end = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if wait < math.inf else 0))
                return file
            except BlockingIOError:  # EWOULDBLOCK: another process has it
                if time.monotonic() >= end:
                    file.close()
                    return None
            time.sleep(POLL)
    except BaseException as error:  # also Ctrl-C must close the file, or the lock would stay
        file.close()
        if not isinstance(error, OSError):
            raise
        kind = "has no file locks" if error.errno in UNSUPPORTED else "does not lock files"
        raise RunError(
            f"The file system of {path.parent} {kind} ({error.strerror}), so two processes could "
            "write the same files: choose a directory on a local disk with --run-dir, or mount "
            "this file system with flock."
        ) from error
