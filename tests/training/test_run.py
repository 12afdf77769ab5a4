"""The door for Python: train, load, predict and embed, in this process and in another."""

import json
import shutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pyarrow.parquet
import pytest

import mmjax
from mmjax.cli import main
from mmjax.data import Arrays, DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError, RunError
from mmjax.evaluation import Classification, MultiLabelClassification, Regression
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA, BinaryCrossEntropy, CrossEntropy, SquaredError
from mmjax.training import AdamW, Experiment, Training

N = 240


def arrays():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, N)
    a = np.float32(rng.normal(size=(N, 6)) + 2 * kind[:, None])
    b = np.float32(rng.normal(size=(N, 4)) - kind[:, None])
    size = np.float32(a.mean(axis=1))
    size[::5] = np.nan
    return a, b, kind, size, np.stack([kind > 0, b[:, 0] > -1], axis=1)


def experiment(**changes):
    a, b, kind, size, tags = arrays()
    data = Arrays(
        inputs={"a": a, "b": b},
        targets={"kind": np.array(["x", "y", "z"])[kind], "size": size, "tags": tags},
        present={"b": np.arange(N) % 4 > 0},
        name="mine",
    )
    encoders = {name: MLP(hidden=(8,), width=4) for name in ("a", "b")}
    values = {
        "name": "mine",
        "data": data,
        "model": FusionModel(encoders=encoders),
        "objectives": (
            CrossEntropy(target="kind"),
            SquaredError(target="size"),
            BinaryCrossEntropy(target="tags"),
        ),
        "optimizer": AdamW(learning_rate=2e-2),
        "training": Training(steps=60, batch_size=32, eval_every=30, monitor="mae", log_every=30),
        "evaluation": (
            Classification("kind"),
            Regression("size"),
            MultiLabelClassification("tags", name="tags"),
        ),
    }
    return Experiment(**(values | changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return mmjax.train(experiment(), tmp_path_factory.mktemp("door") / "run")


def test_a_run_knows_its_metrics_and_its_data_set(run):
    assert run.metrics["test/accuracy"] > 0.6
    assert run.metrics["test/mae"] < 0.8
    assert jax.tree.leaves(run.params)
    found = run.predict(run.data, "test")
    assert {name: values.shape for name, values in found.items()} == {
        "kind": (48, 3),
        "size": (48,),
        "tags": (48, 2),
    }
    source = run.data.load("test")
    labels = source.targets["kind"]
    accuracy = float((found["kind"].argmax(axis=1) == labels).mean())
    assert accuracy == pytest.approx(run.metrics["test/accuracy"])
    known = ~np.isnan(source.targets["size"])
    mae = np.abs(found["size"] - source.targets["size"])[known].mean()
    assert mae == pytest.approx(run.metrics["test/mae"], rel=1e-5)
    np.testing.assert_allclose(found["kind"].sum(axis=1), 1, rtol=1e-5)


def test_trained_again_it_is_read_and_not_trained(run, tmp_path):
    before = (run.path / "result.json").stat().st_mtime_ns
    again = mmjax.train(experiment(), str(run.path))
    assert (run.path / "result.json").stat().st_mtime_ns == before
    assert again.metrics == run.metrics


def test_other_arrays_are_another_config(run):
    a, b, kind, *_ = arrays()
    other = Arrays({"a": a + 1, "b": b}, {"kind": kind}, name="mine")
    with pytest.raises(ConfigError, match="holds a run of another config"):
        mmjax.train(experiment(data=other, evaluation=()), run.path)


def test_loaded_it_predicts_the_same_bits_whatever_the_number_of_rows(run):
    loaded = mmjax.load(run.path)
    a, b, *_ = arrays()
    ours, theirs = loaded.predict({"a": a, "b": b}), run.predict({"a": a, "b": b})
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    some = loaded.predict({"a": a[:5], "b": b[:5]})["size"]
    np.testing.assert_allclose(some, ours["size"][:5], rtol=1e-5, atol=1e-6)


def test_a_missing_modality_may_be_left_out_or_said_to_be_absent(run):
    a, b, *_ = arrays()
    without = run.predict({"a": a[:6]})["kind"]
    absent = np.zeros(6, bool)
    said = run.predict({"a": a[:6], "b": np.full((6, 4), np.nan)}, present={"b": absent})["kind"]
    np.testing.assert_array_equal(without, said)
    assert not np.allclose(without, run.predict({"a": a[:6], "b": b[:6]})["kind"])


def test_embeddings_of_a_model_that_fuses_are_the_fused_vector(run):
    a, b, *_ = arrays()
    both, one = run.embed({"a": a[:6], "b": b[:6]}), run.embed({"b": b[:6]})
    assert both.shape == one.shape == (6, 8)
    np.testing.assert_allclose(one[:, :4], 0)  # of Concat, where `a` would stand
    np.testing.assert_allclose(one[:, 4:], both[:, 4:], rtol=1e-5)


def test_embeddings_of_two_encoders_are_theirs_or_the_mean_of_unit_vectors(tmp_path):
    encoders = {name: MLP((), 4) for name in ("a", "b")}
    trained = mmjax.train(
        experiment(
            model=DualEncoder(encoders=encoders),
            objectives=(DCCA(views=("a", "b")),),
            training=Training(steps=2, batch_size=32),
            evaluation=(),
        ),
        tmp_path / "run",
    )
    a, b, *_ = arrays()
    first, second = trained.embed({"a": a[:6]}), trained.embed({"b": b[:6]})
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second)]
    there = np.arange(6) > 2
    both = trained.embed({"a": a[:6], "b": b[:6]}, present={"b": there})
    expected = np.where(there[:, None], (unit[0] + unit[1]) / 2, unit[0])
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-6)
    assert trained.predict({"a": a[:2]}) == {}


A, B = np.zeros((3, 6)), np.zeros((3, 4))


@pytest.mark.parametrize(
    ("data", "options", "kind", "words"),
    [
        ({"aa": A}, {}, ConfigError, "no modality of the model 'aa': did you mean 'a'"),
        ({}, {}, ConfigError, "The data has no modality that the model reads: give a or b"),
        ({"a": A[:, :5]}, {}, DataError, r"shape \(3, 5\), but the model reads \[N, 6\]"),
        ({"a": A, "b": B[:2]}, {}, DataError, "b has 2 rows, but a has 3"),
        ({"a": A.astype(np.uint8)}, {}, DataError, "has dtype uint8, but the model reads float32"),
        ({"a": A}, {"present": {"b": [True] * 3}}, ConfigError, "'b'"),
        (
            {"a": A},
            {"present": {"a": [False] * 3}},
            ConfigError,
            "False for every modality in every row",
        ),
        ({"a": A}, {"present": {"a": [1, 0, 1]}}, DataError, "one bool for each of the 3 examples"),
        ({"a": A[:0]}, {}, DataError, "have no rows"),
        ({"a": A + np.nan}, {}, DataError, "not finite"),
    ],
)
def test_refuses_what_the_model_cannot_read(run, data, options, kind, words):
    with pytest.raises(kind, match=words):
        run.predict(data, **options)


def test_refuses_a_data_set_without_a_split_or_of_other_modalities(run):
    with pytest.raises(ConfigError, match="No split of the data set 'mine'"):
        run.predict(run.data)
    with pytest.raises(ConfigError, match="The modality 'a' of 'digits_halves' is None"):
        run.predict(DigitsHalves(), "test")


def test_refuses_runs_that_are_unfinished_damaged_or_none(run, tmp_path):
    with pytest.raises(RunError, match=r"no config\.json"):
        mmjax.load(tmp_path)
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("config.json", "environment.json", "interface.json"):
        (copied / name).write_text((run.path / name).read_text())
    with pytest.raises(RunError, match="is not finished"):
        mmjax.load(copied)
    (copied / "result.json").write_text((run.path / "result.json").read_text())
    with pytest.raises(RunError, match="no checkpoint"):
        mmjax.load(copied)
    (copied / "interface.json").write_text("{")
    with pytest.raises(RunError, match=r"interface.json is damaged"):
        mmjax.load(copied)


def test_a_row_without_its_modality_has_the_embedding_zero(tmp_path):
    encoders = {name: MLP((), 4) for name in ("a", "b")}
    aligned = mmjax.train(
        experiment(
            model=DualEncoder(encoders=encoders, width=3),
            objectives=(DCCA(views=("a", "b")),),
            training=Training(steps=1, batch_size=32),
            evaluation=(),
        ),
        tmp_path / "run",
    )
    there = np.array([True, False, True])
    found = aligned.embed({"a": A}, present={"a": there})
    np.testing.assert_array_equal((found != 0).any(axis=1), there)


def test_what_belongs_to_arrays_or_to_a_data_set_alone_is_refused(run):
    with pytest.raises(ConfigError, match="`present` and `masks` cannot be given"):
        run.predict(run.data, "test", present={"a": np.ones(48, bool)})
    with pytest.raises(ConfigError, match="`split` is 'test', but arrays have no splits"):
        run.predict({"a": A}, "test")


def test_few_programs_are_compiled_for_many_numbers_of_rows(run):
    step = run._embed_step(("a", "b"))
    before = step._cache_size()
    for rows in range(1, 9):
        run.embed({"a": np.zeros((rows, 6)), "b": np.zeros((rows, 4))})
    assert step._cache_size() - before <= 4


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"model": "x"}),
        ("config.json", {"training": None}),
        ("interface.json", {"described_targets": "x"}),
        ("result.json", {"name": None}),
    ],
)
def test_files_of_other_contents_are_damaged(run, tmp_path, file, change):
    copied = tmp_path / "copied"
    shutil.copytree(run.path, copied)
    values = json.loads((copied / file).read_text()) | change
    values = {name: value for name, value in values.items() if value is not None}
    (copied / file).write_text(json.dumps(values))
    with pytest.raises((RunError, ConfigError), match=r"damaged|cannot be rebuilt"):
        mmjax.load(copied)


def test_trains_in_a_thread(tmp_path):
    found = []
    short = experiment(training=Training(steps=2, batch_size=32), evaluation=())
    worker = threading.Thread(target=lambda: found.append(mmjax.train(short, tmp_path / "run")))
    worker.start()
    worker.join()
    assert found[0].result["steps"] == 2


def test_predict_writes_parquet_of_arrays_and_of_a_split(run, tmp_path, capsys):
    a, b, *_ = arrays()
    there = np.array([True, False, True])
    np.savez(tmp_path / "new.npz", a=a[:3], b=b[:3], b__present=there)
    out = tmp_path / "found.parquet"
    words = ["predict", str(run.path), "--data", str(tmp_path / "new.npz"), "--out", str(out)]
    assert main(words) == 0
    table = pyarrow.parquet.read_table(out).to_pydict()
    expected = run.predict({"a": a[:3], "b": b[:3]}, present={"b": there})
    assert table["kind"] == [("x", "y", "z")[number] for number in expected["kind"].argmax(axis=1)]
    np.testing.assert_allclose(table["kind_probabilities"], expected["kind"])
    np.testing.assert_allclose(table["size"], expected["size"])
    np.testing.assert_allclose(
        table["embedding"], run.embed({"a": a[:3], "b": b[:3]}, present={"b": there})
    )
    capsys.readouterr()
    assert main([*words[:3], "tset"]) == 2
    assert "nor a split of 'mine'" in capsys.readouterr().err
    assert main([*words[:3], "test"]) == 1
    assert "not saved with the run" in capsys.readouterr().err


OWN = '''
"""Numbers in text files: a data set of somebody's own, in a folder."""
import dataclasses
from typing import ClassVar

import numpy as np
from mmjax.data import About, ArraySource, Dataset, Modality, Target
from mmjax.encoders import MLP
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import AdamW, Experiment, Training


@dataclasses.dataclass(frozen=True)
class Own(Dataset):
    subfolder: str = "own"
    name: ClassVar[str] = "own"
    about: ClassVar[About] = About("Own numbers", "nobody", "none")
    modalities = property(lambda self: {"x": Modality("vector", (4,))})
    targets = property(lambda self: {"label": Target("class", 3)})

    def load(self, split, folder):
        table = np.loadtxt(folder / self.subfolder / split / "rows.txt", dtype=np.float32)
        return ArraySource({"x": table[:, 1:]}, {"label": table[:, 0].astype(np.int32)})


experiment = Experiment(
    name="own",
    data=Own(),
    model=FusionModel(encoders={"x": MLP((8,), 4)}),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=3e-2),
    training=Training(steps=30, batch_size=16, eval_every=10, monitor="accuracy"),
    evaluation=(Classification(),),
)
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Somebody's experiment file and folder of data, outside the repository."""
    folder = tmp_path_factory.mktemp("somewhere")
    rng = np.random.default_rng(0)
    for split, rows in (("train", 60), ("valid", 30), ("test", 30)):
        label = np.arange(rows) % 3
        x = rng.normal(size=(rows, 4)) + 2 * np.eye(3, 4)[label]
        (folder / "data" / "own" / split).mkdir(parents=True)
        np.savetxt(folder / "data" / "own" / split / "rows.txt", np.column_stack([label, x]))
    (folder / "own.py").write_text(OWN)
    return folder


@pytest.mark.slow
def test_a_data_set_of_ones_own_is_trained_resumed_evaluated_and_ensembled(own, tmp_path, capsys):
    def mmjax_(*words):
        assert main([*map(str, words), "--data-dir", str(own / "data")]) == 0

    file = own / "own.py"
    for seed in (0, 1):
        mmjax_("train", file, "--run-dir", tmp_path / f"run{seed}", "--training.seed", seed)
    # A run that lost its end goes on from its last checkpoint, and ends with the same bits.
    first = json.loads((tmp_path / "run0" / "result.json").read_text())
    (tmp_path / "run0" / "result.json").unlink()
    mmjax_("train", file, "--run-dir", tmp_path / "run0", "--training.seed", 0)
    again = json.loads((tmp_path / "run0" / "result.json").read_text())
    assert again["metrics"] == first["metrics"]
    capsys.readouterr()
    mmjax_("evaluate", tmp_path / "run0", "--experiment", file)
    assert f"{first['metrics']['test/accuracy']:.4f}" in capsys.readouterr().out
    mmjax_("ensemble", tmp_path / "run0", tmp_path / "run1", "--experiment", file)
    hashes = json.loads((tmp_path / "run0" / "environment.json").read_text())["data"]
    assert set(hashes) == {"own/train", "own/valid", "own/test"}
    # In another process, without the data and without the file that defines the data set.
    code = (
        "import sys, mmjax; run = mmjax.load(sys.argv[1]); "
        "print(run.predict({'x': [[9, 0, 0, 0], [0, 0, 9, 0]]})['label'].argmax(axis=1).tolist())"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "run0")]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.strip() == "[0, 2]"


def test_a_folder_that_changed_is_noticed(own, tmp_path, capsys):
    words = ["train", str(own / "own.py"), "--run-dir", str(tmp_path / "run")]
    data = ["--data-dir", str(own / "data")]
    assert main([*words, *data]) == 0
    (tmp_path / "run" / "result.json").unlink()
    other = tmp_path / "data" / "own"
    for split in ("train", "valid", "test"):
        (other / split).mkdir(parents=True)
        rows = (own / "data" / "own" / split / "rows.txt").read_text()
        (other / split / "rows.txt").write_text(rows.replace("e-01", "e-02", 1))
    capsys.readouterr()
    assert main([*words, "--data-dir", str(tmp_path / "data")]) == 1
    assert "The data of the run" in capsys.readouterr().err
