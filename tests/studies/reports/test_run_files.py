"""What is read of a run directory, and the errors that name what is damaged."""

import pytest

from mmjax.errors import RunError
from mmjax.studies.reports.run_files import read_run


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_missing_file_is_named(tmp_path, name, make_run):
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(RunError, match=f"{name} is missing"):
        read_run(run)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", '{"name": ', r"config.json is damaged \("),
        ("config.json", "\xff", "config.json is damaged"),
        ("environment.json", "[]", "environment.json is damaged"),
        ("result.json", "{}", "result.json is damaged"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n{"step": 2}\n', r"metrics.jsonl is damaged \(line 2"),
        ("metrics.jsonl", '{"train/loss": 1}\n', r"metrics.jsonl is damaged \(line 1"),
        ("timing.jsonl", "7\n", r"timing.jsonl is damaged \(line 1"),
    ],
)
def test_damaged_file_is_named(tmp_path, name, content, sentence, make_run):
    run = make_run(tmp_path / "run")
    (run / name).write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=sentence):
        read_run(run)
