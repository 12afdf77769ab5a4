"""Where numbers come from: code, commit, settings and data of a run, and what changed since."""

import dataclasses
import json
import subprocess
from typing import ClassVar

import numpy as np
import pytest

from mmjax.data import About, ArraySource, Dataset, Modality, Target
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import Experiment, Training, provenance, train
from mmjax.training.config import from_json, to_json
from mmjax.training.overrides import load_module
from mmjax.training.provenance import check_data, code_files, environment, note_environment
from mmjax.training.restore import evaluate_run
from mmjax.training.run_directory import RunDirectory, fresh_run_dir

ROWS = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Rows(Dataset):
    """Rows of a global array, which a test changes."""

    name: ClassVar[str] = "rows"
    about: ClassVar[About] = About("rows", "none", "none")
    modalities: ClassVar[dict] = {"x": Modality("vector", (3,))}
    targets: ClassVar[dict] = {"label": Target("class", 2)}

    def load(self, split, folder=None):
        return ArraySource({"x": ROWS.copy()}, {"label": np.arange(96, dtype=np.int32) % 2})


def test_the_environment_can_be_read_without_git(monkeypatch):
    def no_git(*arguments, **options):
        raise FileNotFoundError(2, "No such file or directory", "git")

    monkeypatch.setattr(provenance.subprocess, "run", no_git)
    facts = environment(["mmjax", "train", "my file.py"], {"x": "0" * 64})
    assert facts["git_commit"] == "not a git checkout"
    assert facts["command"] == "mmjax train 'my file.py'"
    assert facts["versions"]["jax"]
    assert facts["settings"]["jax_enable_x64"] is False
    json.dumps(facts)


def test_the_commit_is_that_of_a_checkout_that_tracks_the_file(tmp_path):
    def git(*words):
        who = ["-c", "user.email=a@b", "-c", "user.name=n"]
        made = subprocess.run(
            ["git", *who, "-C", str(tmp_path), *words], check=True, capture_output=True, text=True
        )
        return made.stdout.strip()

    tracked, other = tmp_path / "a.py", tmp_path / "b.py"
    tracked.write_text("")
    other.write_text("")
    git("init", "-q")
    git("add", "a.py")
    git("commit", "-qm", "x")
    assert provenance._commit(tracked) == git("rev-parse", "HEAD")
    assert provenance._commit(other) == ""  # as of a package installed below somebody's checkout


def test_the_file_and_its_neighbours_are_kept_but_nothing_installed(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "sizes_of_it.py").write_text("WIDTH = 8\n")
    (tmp_path / "mine.py").write_text(
        "import parts.sizes_of_it, scipy.linalg\n"
        "from mmjax.training import Experiment, Training\n"
        "from mmjax.data import DigitsHalves\nfrom mmjax.models import FusionModel\n"
        "width = parts.sizes_of_it.WIDTH\n"
        "experiment = Experiment(name='a', data=DigitsHalves(), objectives=(),\n"
        "    model=FusionModel(encoders={}), training=Training(steps=0))\n"
    )
    module = load_module(tmp_path / "mine.py")
    found = code_files(module.experiment, module)
    assert sorted(found) == ["mine.py", "parts/sizes_of_it.py"]


def test_a_later_start_keeps_what_the_first_one_noted(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1\n")
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()

    def start(**changes):
        now = environment(["mmjax"], {"x": "0"}, {"mine.py": file})
        return note_environment(directory, now | changes, {"mine.py": file})

    assert start() == start() == []
    assert "earlier" not in directory.read("environment.json")
    file.write_text("2\n")
    sentences = start(devices=["H100 (gpu)"], settings={"jax_enable_x64": True})
    assert any("the file mine.py has changed." in sentence for sentence in sentences)
    assert any(
        "setting jax_enable_x64 has changed from False to True" in each for each in sentences
    )
    assert any(
        "devices have changed from cpu (cpu), cpu (cpu) to H100" in each for each in sentences
    )
    (before,) = directory.read("environment.json")["earlier"]
    assert before["devices"] == ["cpu (cpu)"] * 2
    assert (directory.path / "code" / "mine.py").read_text() == "2\n"
    assert (directory.path / "code_earlier" / "0" / "mine.py").read_text() == "1\n"
    with pytest.raises(RunError, match=r"has changed since the run began \(x\): restore it"):
        start(data={"x": "1"})


def test_a_run_is_not_evaluated_on_other_data(tmp_path, monkeypatch):
    experiment = Experiment(
        name="rows",
        data=Rows(),
        model=FusionModel(encoders={"x": MLP(hidden=(), width=2)}),
        objectives=(CrossEntropy(),),
        evaluation=(Classification(),),
        training=Training(steps=1, batch_size=8),
    )
    train(experiment, tmp_path / "run")
    here = load_module(__file__)
    evaluate_run(tmp_path / "run", "test", "best", None, here)
    monkeypatch.setattr(here, "ROWS", ROWS + (np.arange(96) == 90)[:, None].astype(np.float32))
    with pytest.raises(RunError, match=r"rows/test, rows/train, rows/valid\): restore it"):
        evaluate_run(tmp_path / "run", "test", "best", None, here)
    check_data(tmp_path, {}, {})  # of a run that noted none


def test_a_class_of_another_module_is_not_the_file_s_own(tmp_path):
    text = (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Net:\n    size: int = 1\n"
    )
    (tmp_path / "first.py").write_text(text)
    (tmp_path / "nets_of_others.py").write_text(text)
    (tmp_path / "user.py").write_text("import nets_of_others\n" + text)
    first, user = load_module(tmp_path / "first.py"), load_module(tmp_path / "user.py")
    written = to_json(user.nets_of_others.Net())
    assert written["type"] == "nets_of_others.Net"
    assert type(from_json(written, user)) is user.nets_of_others.Net
    with pytest.raises(ConfigError, match=r"'nets_of_others.Net', which mmjax does not define"):
        from_json(written, first)
    assert type(from_json(to_json(first.Net()), user)) is user.Net  # the file was renamed


def test_runs_of_one_second_have_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with fresh_run_dir("a") as one, fresh_run_dir("a") as two, fresh_run_dir("a") as three:
        assert len({one, two, three}) == 3
        (two / "config.json").write_text("{}")
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / two]  # the empty ones are gone
    (two / "config.json").unlink()
    two.rmdir()
    with fresh_run_dir("a"):
        pass
    assert not (tmp_path / "runs").exists()
    (tmp_path / "runs").write_text("")
    with (
        pytest.raises(RunError, match=r"cannot be made \(.*\): name another with --run-dir"),
        fresh_run_dir("a"),
    ):
        pass
