"""Locks on files (flock) by which two processes never write one run, study or sweep.

The kernel holds them: a lock is free as soon as its process has ended, however it ended.
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
    """Locks a file, which is made where it does not exist, as is its directory.

    Args:
        path: the file.
        wait: seconds to wait for another process that has the lock; `math.inf` waits for its end.

    Returns:
        The open file, which has to be closed to free the lock; None where another process still
        has it.

    Raises:
        RunError: where the file cannot be written, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise RunError(
            f"The directory {path.parent} cannot be written ({error.strerror}): name another with "
            "--run-dir, or get the permission."
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
    except BaseException as error:  # a lock that nobody asks for any more must not stay
        file.close()
        if not isinstance(error, OSError):
            raise
        kind = "has no file locks" if error.errno in UNSUPPORTED else "does not lock files"
        raise RunError(
            f"The file system of {path.parent} {kind} ({error.strerror}), without which two "
            "processes could write the same files: name a directory on a local disk with "
            "--run-dir, or have this one mounted with flock."
        ) from error
