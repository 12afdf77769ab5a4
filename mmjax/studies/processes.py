"""Processes of studies and sweeps: start runs, several at a time, stop them, explain failures."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from mmjax.errors import ConfigError, RunError
from mmjax.training.locks import lock_file
from mmjax.training.loop import Interrupted
from mmjax.training.run_directory import RunDirectory
from mmjax.training.signals import stop_signal

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
INTERRUPTED = 3  # exit status of a run that was asked by a signal to save and end
POLL = 0.1  # seconds between two polls of the processes
PATIENCE = 60.0  # seconds that the runs of an earlier start have to save and end

Job = TypeVar("Job")


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the runs of a study share.

    Attributes:
        definitions: the experiment file, for dataclasses that are not mmjax's.
        folder: the folder of raw data, or None.
        command: the command line, for the record.
        lock: an open file that the processes keep open; its lock is free when all have ended.
        cache: folder of compiled programs; runs that differ in their seed only share them.
    """

    definitions: Path | None
    folder: Path | None
    command: Sequence[str] = ()
    lock: IO[str] | None = None
    cache: Path | None = None

    def words(self, *what: str) -> list[str]:
        """The command line of a process."""
        words = [sys.executable, "-m", "mmjax.studies.cell", *what]
        words += ["--definitions", str(self.definitions)] if self.definitions else []
        words += ["--data-dir", str(self.folder)] if self.folder else []
        return words

    def environment(self) -> dict[str, str]:
        """The variables of a process; the user's own cache of compiled programs goes first."""
        cache = {CACHE_VARIABLE: str(self.cache.absolute())} if self.cache else {}
        return cache | dict(os.environ)


class RunProcess:
    """A run that trains in its own process, which writes its output to `log.txt` of the run.

    Args:
        run_dir: the run directory; a run in it continues if its config is the same.
        config: the experiment, by `to_json`.
        launch: what all runs share.

    Raises:
        ConfigError: for a directory with something else in it.
        RunError: where it cannot be written, or another process is training in it.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], launch: Launch) -> None:
        self.run_dir = run_dir
        self.begun = time.monotonic()
        self._stopped = False
        directory = RunDirectory(run_dir)
        directory.claim(config)
        directory.release()
        self._log = run_dir / "log.txt"
        with open(self._log, "ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*launch.words("train", str(run_dir)), "--command", shlex.join(launch.command)],
                stdin=subprocess.PIPE,  # closed with this process, which ends the run
                stdout=log,
                stderr=log,
                env=launch.environment(),
                pass_fds=[launch.lock.fileno()] if launch.lock else [],
                start_new_session=True,  # Ctrl-C is for the parent, which stops the runs
            )

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.begun

    def ended(self) -> bool:
        """Whether the process has ended."""
        if self._process.poll() is None:
            return False
        if self._process.stdin:
            self._process.stdin.close()
        return True

    def interrupted(self) -> bool:
        """Whether a signal ended the process that was not sent by `stop`."""
        asked = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, INTERRUPTED}
        return not self._stopped and self._process.poll() in asked

    def failure(self) -> str:
        """Why an ended process failed, as a sentence; empty where it did not."""
        status = self._process.poll()
        if not status:
            return ""
        with open(self._log, "rb") as log:
            log.seek(self._log_start)
            message, end = _explained(status, log.read())
        return message or f"The process {end}; its output is in log.txt."

    def stop(self) -> None:
        """Asks the run to save and end, without waiting for it."""
        if not self.ended():
            self._stopped = True
            self._process.terminate()

    def wait(self, patience: float = PATIENCE) -> None:
        """Waits for the end; a process that does not end in time is killed, and resumes later."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.ended()


def run_all(
    running: Mapping[Job, RunProcess | None],
    begin: Callable[[], bool],
    follow: Callable[[Job], bool],
) -> str:
    """Runs several processes at the same time, until none is left or a signal asks to stop.

    However it ends, the processes that still run are asked to save and end, and are waited for.

    Args:
        running: job -> its process, None before that can be started; `begin` adds jobs to it, and
            `follow` removes those that have ended.
        begin: begins the jobs that can begin now; returns whether any did.
        follow: handles what a job has done since the last call; returns whether there was anything.

    Returns:
        The name of the signal; empty where none came before the last job ended.
    """
    try:
        with stop_signal() as stopped:
            while not stopped():
                busy = begin()
                if not running:
                    return ""
                busy |= any([follow(job) for job in list(running)])
                if not busy:
                    time.sleep(POLL)
            return stopped()
    finally:
        processes = [process for process in running.values() if process]
        for process in processes:
            process.stop()
        for process in processes:
            process.wait()


def check_experiments(rows: Mapping[str, Any], launch: Launch) -> dict[str, dict[str, str]]:
    """Prepares experiments without training them, which finds most of what can fail.

    Args:
        rows: name -> `config`: the experiment, by `to_json`; `after`: the row whose `parts` it
            starts from, or nothing.
        launch: what they share.

    Returns:
        Name -> file of its data -> SHA-256.

    Raises:
        ConfigError: for an experiment that does not fit together.
        RunError: for data or files that are missing or damaged.
        Interrupted: on SIGTERM or Ctrl-C, when the process has ended.
    """
    read, write = os.pipe()
    with stop_signal() as stopped, open(write, "wb", buffering=0) as pipe:
        with open(read, "rb") as other_end:
            process = subprocess.Popen(
                launch.words("check"),
                stdin=other_end,  # its end comes with that of this process, and ends the check
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=launch.environment(),
                start_new_session=True,
            )
        with contextlib.suppress(BrokenPipeError):  # it has failed already
            pipe.write(f"{json.dumps(rows)}\n".encode())
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=POLL)
                break
            if stopped():
                process.kill()
    if stopped():
        raise Interrupted(
            f"Stopped by {stopped()} while the rows were checked, before a run was begun: run the "
            "same command to begin."
        )
    if process.returncode == 0:
        return json.loads(out.splitlines()[-1])
    message, end = _explained(process.returncode, err)
    if not message:
        raise RunError(
            f"The rows cannot be checked: the process {end}; `mmjax train` with the changes of a "
            "row shows more."
        )
    raise (ConfigError if process.returncode == ConfigError.exit_status else RunError)(message)


def _explained(status: int, output: bytes) -> tuple[str, str]:
    """The message for the user that a failed process wrote, if any; and how the process ended."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    messages = [line.removeprefix("mmjax: ") for line in lines if line.startswith("mmjax: ")]
    if status < 0:
        name = signal.Signals(-status).name
        end = f"was ended by {name}{' (out of memory, perhaps)' * (name == 'SIGKILL')}"
    else:
        traces = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent")]
        ends = lines[traces[-1] + 1 :] if traces else [line.strip() for line in lines[-1:]]
        raised = next((line for line in ends if not line[0].isspace()), "without any output")
        end = f"ended with status {status} ({raised})"
    return messages[-1] if messages else "", end


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """The lock file of a study, which its processes inherit, so that only one start runs at a time.

    Raises:
        RunError: where another start still runs after `PATIENCE` seconds, or `lock_file` fails.
    """
    file = lock_file(path)
    if file is None:
        print(f"Waiting for the runs of an earlier start in {path.parent}", flush=True)
        file = lock_file(path, PATIENCE)
    if file is None:
        raise RunError(
            f"Another `mmjax ablate` runs in {path.parent}: wait for it, or name another directory "
            "with --run-dir."
        )
    with file:
        yield file


@contextlib.contextmanager
def compile_cache(folder: Path) -> Iterator[Path]:
    """A folder for compiled programs, emptied before and after.

    Programs in it are run without any check, so none comes from another start.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
