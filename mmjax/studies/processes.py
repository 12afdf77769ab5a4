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
import tempfile
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
ROWS, HASHES = "rows.json", "hashes.json"  # what a check reads, and what it writes
POLL = 0.1  # seconds between two polls of the processes
QUIET = 2.0  # seconds without output, after which a process has not written its last line
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
        # -P: a file of the current folder, such as random.py, must not hide a library.
        words = [sys.executable, "-P", "-m", "mmjax.studies.cell", *what]
        words += ["--definitions", str(self.definitions)] if self.definitions else []
        words += ["--data-dir", str(self.folder)] if self.folder else []
        return words

    def environment(self) -> dict[str, str]:
        """The variables of a process; the user's own cache of compiled programs goes first."""
        cache = {CACHE_VARIABLE: str(self.cache.absolute())} if self.cache else {}
        return cache | dict(os.environ)


class ChildProcess:
    """A process of `mmjax.studies.cell`, which ends when this process does.

    Args:
        launch: what all processes share.
        log: the file to which its output is appended.
        words: what it should do.
    """

    def __init__(self, launch: Launch, log: Path, *words: str) -> None:
        self._started, self._stopped = time.monotonic(), False
        self._log = log
        with open(log, "ab") as file:
            self._log_start = file.tell()
            self._process = subprocess.Popen(
                launch.words(*words),
                stdin=subprocess.PIPE,  # closed with this process, which ends the other one
                stdout=file,
                stderr=file,
                env=launch.environment(),
                pass_fds=[launch.lock.fileno()] if launch.lock else [],
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children
            )

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    def ended(self) -> bool:
        """Whether the process has ended."""
        if self._process.poll() is None:
            return False
        if self._process.stdin:
            self._process.stdin.close()
        return True

    def interrupted(self) -> bool:
        """Whether a signal ended the process that was not sent by `stop`."""
        signals = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, INTERRUPTED}
        return not self._stopped and self._process.poll() in signals

    def outcome(self) -> tuple[int, str, str]:
        """Of an ended process: its exit status, its message for the user if any, how it ended."""
        status = self._process.wait()
        with open(self._log, "rb") as log:
            log.seek(self._log_start)
            return status, *_explained(status, log.read())

    def said(self, quiet: float) -> list[str]:
        """Its lines for the user, if it wrote nothing for some seconds; else none.

        So what a process says as it ends is left to `outcome`.
        """
        if time.time() - self._log.stat().st_mtime < quiet:
            return []
        with open(self._log, "rb") as log:
            log.seek(self._log_start)
            return _for_the_user(log.read().decode("utf-8", "replace"))

    def stop(self) -> None:
        """Asks the process to save and end, without waiting for it."""
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


class RunProcess(ChildProcess):
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
        directory = RunDirectory(run_dir)
        directory.claim(config)
        directory.release()
        words = ("train", str(run_dir), "--command", shlex.join(launch.command))
        super().__init__(launch, run_dir / "log.txt", *words)

    def failure(self) -> str:
        """Why the ended process failed, as a sentence; empty where it did not."""
        status, message, end = self.outcome()
        return (message or f"The process {end}; its output is in log.txt.") if status else ""


def run_all(
    running: Mapping[Job, ChildProcess | None],
    begin: Callable[[], bool],
    follow: Callable[[Job], bool],
) -> str:
    """Runs jobs in processes, several at the same time, until none is left or a signal comes.

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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ROWS).write_text(json.dumps(rows), encoding="utf-8")
        process = ChildProcess(launch, folder / "log.txt", "check", name)
        running = {"check": process}
        told = 0

        def follow(job: str) -> bool:
            nonlocal told
            if process.ended():
                return bool(running.pop(job))
            lines = process.said(QUIET)
            for line in lines[told:]:  # such as how long the encoding of the data will take
                print(line, file=sys.stderr, flush=True)
            told = max(told, len(lines))
            return False

        stopped = run_all(running, lambda: False, follow)
        if stopped and running:
            raise Interrupted(
                f"Stopped by {stopped} while the rows were checked, before the first run: run the "
                "same command to begin."
            )
        status, message, end = process.outcome()
        if status == 0:
            return json.loads((folder / HASHES).read_bytes())
    if not message:
        raise RunError(
            f"The rows cannot be checked: the process {end}; `mmjax train` with the changes of a "
            "row shows more."
        )
    raise (ConfigError if status == ConfigError.exit_status else RunError)(message)


def _for_the_user(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("mmjax: ")]


def _explained(status: int, output: bytes) -> tuple[str, str]:
    """The message for the user that a failed process wrote, if any; and how the process ended."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    messages = [line.removeprefix("mmjax: ") for line in _for_the_user("\n".join(lines))]
    if status < 0:
        messages = []  # it was killed, and its last line is about what it did before
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
