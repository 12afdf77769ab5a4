"""The run directory: taken over only by its own run, written whole, read with care."""

import json
import math
import os
import resource
import subprocess
import sys

import pytest

from mmjax import __version__
from mmjax.errors import ConfigError, RunError
from mmjax.training.run_directory import RunDirectory

CONFIG = {"name": "run", "training": {"steps": 3}}


@pytest.fixture
def directory(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    yield directory
    directory.release()


def test_the_same_config_goes_on_and_changes_nothing(directory):
    directory.claim(CONFIG)
    directory.claim(CONFIG)  # by the same process
    directory.release()
    before = {path: path.stat().st_mtime_ns for path in directory.path.iterdir()}
    again = RunDirectory(directory.path)
    again.claim(CONFIG)
    again.release()
    assert {path: path.stat().st_mtime_ns for path in directory.path.iterdir()} == before
    assert directory.read("config.json") == CONFIG


def test_another_config_is_refused_with_its_differences(directory):
    directory.claim(CONFIG)
    directory.release()
    other = {"name": "run", "training": {"steps": 4}}
    with pytest.raises(ConfigError, match=r"another config \(training.steps: 3 -> 4\)"):
        directory.claim(other)
    many = {"name": "x", "training": {"steps": 4}, "a": 1, "b": 2, "c": 3}
    with pytest.raises(
        ConfigError, match=r"a: None -> 1; b: .*; c: .* and 2 more\): choose another"
    ):
        directory.refuse_other(many)
    again = RunDirectory(directory.path)
    again.claim(CONFIG)  # the refusal has let go of the lock
    again.release()


@pytest.mark.parametrize("names", [["lock"], ["lock", "config.json.tmp"], []])
def test_a_directory_of_a_run_that_was_killed_as_it_began(directory, names):
    directory.path.mkdir()
    for name in names:
        (directory.path / name).write_text("{")
    directory.claim(CONFIG)
    assert directory.read("config.json") == CONFIG


def test_looking_writes_nothing(directory):
    directory.refuse_other(CONFIG)
    assert not directory.path.exists()


def test_what_is_something_else_is_left_alone(directory):
    directory.path.mkdir()
    (directory.path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not a run directory: choose another with --run-dir"):
        directory.claim(CONFIG)
    assert os.listdir(directory.path) == ["thesis.tex"]
    with pytest.raises(ConfigError, match="is not a run directory"):
        RunDirectory(directory.path / "thesis.tex").claim(CONFIG)


def test_another_process_is_locked_out_until_the_first_is_gone(directory):
    directory.claim(CONFIG)
    # The lock is of the open file: a second one of this process stands for that of another.
    other = RunDirectory(directory.path)
    with pytest.raises(RunError, match="Another process is training in"):
        other.claim(CONFIG)
    directory.release()
    other.claim(CONFIG)
    other.release()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-Sc",
            "import fcntl, sys; file = open(sys.argv[1], 'a'); fcntl.flock(file, fcntl.LOCK_EX); "
            "print('locked', flush=True); sys.stdin.read()",
            str(directory.path / "lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(RunError, match="Another process is training in"):
        directory.claim(CONFIG)
    holder.kill()
    holder.communicate()
    directory.claim(CONFIG)


def append_lines(directory, count):
    for step in range(count):
        directory.append("metrics.jsonl", {"step": step, "loss": 0.123456789})


def test_a_file_is_written_whole_or_not_at_all(directory):
    directory.claim(CONFIG)
    directory.write("result.json", {"metrics": {"a": 1.0}})
    with pytest.raises(ValueError, match="JSON"):
        directory.write("result.json", {"metrics": {"a": math.nan}})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(RunError, match=r"result.json cannot be written \(File too large\)"):
            directory.write("result.json", {"metrics": {"a": 2.0}, "details": "x" * 5000})
        with pytest.raises(RunError, match=r"metrics.jsonl cannot be written \(File too large\)"):
            append_lines(directory, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert directory.read("result.json") == {"metrics": {"a": 1.0}}
    assert not list(directory.path.glob("*.tmp"))
    # The half line that the full disk left is cut, the whole ones stay.
    assert not (directory.path / "metrics.jsonl").read_bytes().endswith(b"\n")
    directory.cut_after("metrics.jsonl", 1000)
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(len(lines)))
    assert 10 < len(lines) < 100


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", None, "has no config.json, so it is not a run directory"),
        ("config.json", "", "config.json is damaged .*start a new run"),
        ("config.json", "[]", "config.json is damaged"),
        ("config.json", "\x00\x00", "config.json is damaged"),
        ("result.json", '{"metrics": ', "result.json is damaged .*delete it and run the same"),
        ("result.json", '{"metrics": 3}', "result.json is damaged .*delete it"),
    ],
)
def test_damaged_files_are_named(directory, name, content, sentence):
    directory.path.mkdir()
    if content is not None:
        (directory.path / name).write_text(content)
    with pytest.raises(RunError, match=sentence):
        directory.read(name)


@pytest.mark.parametrize(
    ("made_by", "refused"),
    [
        ("0.1.0", True),
        ("0.1.99", True),
        ("0.0.3.dev2", True),
        ("0.2.0", False),
        ("0.2.0.dev1", False),
        ("0.10.0", False),
        ("1.0", False),
        (None, False),  # stopped before it noted its version
    ],
)
def test_runs_of_older_versions_are_refused(directory, made_by, refused):
    directory.claim(CONFIG)
    directory.write("environment.json", {"versions": {"mmjax": made_by}} if made_by else {})
    directory.release()
    if not refused:
        assert directory.config() == CONFIG
        directory.claim(CONFIG)
        return
    sentence = (
        f"The run {directory.path} was made by mmjax {made_by}, whose runs this version "
        f"({__version__}) cannot read: use mmjax {made_by}, or train it again."
    )
    for refuses in (directory.config, lambda: directory.claim({"another": 1})):
        with pytest.raises(RunError) as caught:
            refuses()
        assert str(caught.value) == sentence


def lines(*steps):
    return "".join(json.dumps({"step": step, "a": 0.5}) + "\n" for step in steps)


@pytest.mark.parametrize(
    ("content", "step", "kept"),
    [
        (lines(1, 2, 3), 3, lines(1, 2, 3)),
        (lines(1, 2, 3), 2, lines(1, 2)),
        (lines(1, 2, 3), 0, ""),
        (lines(2, 2, 4, 4), 2, lines(2, 2)),
        (lines(1, 2) + '{"step": 3, "a', 3, lines(1, 2)),
        (lines(1, 2) + '{"step": 3}', 3, lines(1, 2)),  # whole by chance, but its end is not sure
        (lines(1, 2) + "\x00\x00\x00", 3, lines(1, 2)),  # what a crash of the machine may leave
        ("", 3, ""),
    ],
)
def test_cut_after(directory, content, step, kept):
    directory.path.mkdir()
    path = directory.path / "metrics.jsonl"
    path.write_text(content)
    directory.cut_after("metrics.jsonl", step)
    assert path.read_text() == kept
    directory.cut_after("absent.jsonl", step)


@pytest.mark.parametrize("rubbish", ["rubbish", "[]", "{}", '{"step": null}', "", "\x00"])
def test_damage_before_the_checkpoint_is_named_and_loses_nothing(directory, rubbish):
    directory.path.mkdir()
    path = directory.path / "metrics.jsonl"
    path.write_text(lines(1) + rubbish + "\n" + lines(3))
    with pytest.raises(RunError, match=r"metrics.jsonl is damaged in line 2: remove that line"):
        directory.cut_after("metrics.jsonl", 3)
    assert path.read_text() == lines(1) + rubbish + "\n" + lines(3)


def test_numbers_that_are_not_finite_are_null(directory):
    directory.claim(CONFIG)
    directory.append("metrics.jsonl", {"step": 1, "a": math.nan, "b": math.inf, "c": 1.0})
    assert json.loads((directory.path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 1.0,
    }


def test_a_name_is_on_disk_once_it_is_there(directory, monkeypatch):
    synced, real = [], os.fsync

    def fsync(file):
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    directory.claim(CONFIG)
    assert synced == [str(directory.path / "config.json.tmp"), str(directory.path)]
    directory.write("odd.json", {"name": "r\udcfc"})
    assert directory.read("odd.json")["name"] == "r\udcfc"
