"""Locks on files: another process that has one, and file systems that have none."""

import errno
import fcntl
import math
import os
import threading

import pytest

from mmjax.errors import RunError
from mmjax.training import locks
from mmjax.training.locks import lock_file
from mmjax.training.run_directory import RunDirectory


def test_a_lock_is_free_again_when_its_file_is_closed(tmp_path):
    path = tmp_path / "new" / "lock"
    with lock_file(path):
        assert lock_file(path) is None
        assert lock_file(path, wait=0.01) is None
    with lock_file(path):
        pass


@pytest.mark.parametrize("wait", [60.0, math.inf])
def test_it_waits_for_another_process(tmp_path, wait, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.01)
    first = lock_file(tmp_path / "lock")
    threading.Timer(0.1, first.close).start()
    with lock_file(tmp_path / "lock", wait) as second:
        assert first.closed
        assert second


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        *((number, "has no file locks") for number in locks.UNSUPPORTED),
        (errno.EIO, "does not lock files"),
    ],
)
@pytest.mark.parametrize("wait", [0.0, 60.0, math.inf])
def test_a_file_system_without_locks_is_not_another_process(
    tmp_path, monkeypatch, number, sentence, wait
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunError, match=f"file system of .* {sentence} .*--run-dir") as caught:
        lock_file(tmp_path / "lock", wait)
    assert os.strerror(number) in str(caught.value)
    with pytest.raises(RunError, match=sentence):
        RunDirectory(tmp_path / "run").claim({})


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EAGAIN])
def test_another_process_is_told_from_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert lock_file(tmp_path / "lock") is None
    with pytest.raises(RunError, match="Another process is training in"):
        RunDirectory(tmp_path / "run").claim({})
