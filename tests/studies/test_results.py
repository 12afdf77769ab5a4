"""Results as a function of run directories: cells, published numbers, tests, data hashes."""

import dataclasses
import json

import pytest
from scipy import stats

from mmjax.data import DigitsHalves, MNISTHalves, Shapes
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Published, Study
from mmjax.studies.ledger import read_results
from mmjax.studies.reports.study_report import write_study_report
from mmjax.studies.results import gather
from mmjax.studies.rows import Cell, note_failure, rows_of
from mmjax.studies.tables import markdown
from mmjax.training import Experiment, Training
from mmjax.training.config import to_json

EXPERIMENT = Experiment(
    name="grid",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in ("left", "right")}),
    objectives=(CrossEntropy(),),
    training=Training(steps=4, batch_size=32),
    evaluation=(Classification(),),
)
RECORD = {"name": "grid", "title": "A grid", "command": "mmjax ablate", "date": "2026-01-01"}
ENVIRONMENT = {
    "versions": {"jax": "1"}, "git_commit": "abc", "cores": 2, "processor": "P",
    "devices": ["cpu (cpu)"], "data": {"digits/train": "1234"},
}  # fmt: skip
VALUES = {"plain": [0.5, 0.6, 0.7], "longer": [0.7, 0.9, 0.8]}


@pytest.fixture
def study_of_values(tmp_path):
    """Makes run directories of a study whose cells have given values, without training."""

    def make(study, values=VALUES, experiment=EXPERIMENT, **environment):
        rows = rows_of(study, experiment)
        for name, accuracies in values.items():
            for seed, accuracy in enumerate(accuracies):
                cell = Cell(rows[name], seed, tmp_path)
                cell.run_dir.mkdir(parents=True)
                metrics = {"valid/accuracy": accuracy, "test/accuracy": accuracy}
                for file, content in (
                    ("config.json", to_json(cell.experiment)),
                    (
                        "result.json",
                        {"metrics": metrics, "directions": {}, "seconds": 1.0, "steps": 4},
                    ),
                    ("environment.json", ENVIRONMENT | environment),
                ):
                    (cell.run_dir / file).write_text(json.dumps(content))
        return rows

    return make


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


STUDY = Study(
    rows={"plain": {}, "longer": {"training.steps": 8}},
    columns=("test/accuracy",),
    published={"longer": {"test/accuracy": Published(0.1, "Doe 2020", "paper")}},
)


def test_cells_intervals_published_numbers_and_tests(tmp_path, study_of_values):
    results = gather(STUDY, study_of_values(STUDY), tmp_path, RECORD)
    assert results["shown"] == ["test/accuracy"]
    assert results["columns"] == ["test/accuracy", "valid/accuracy"]
    assert [row["name"] for row in results["rows"]] == ["plain", "longer"]
    for row in results["rows"]:
        cell, values = row["cells"]["test/accuracy"], VALUES[row["name"]]
        assert cell["values"] == values
        mean, error = sum(values) / 3, stats.sem(values)
        assert cell["mean"] == pytest.approx(mean)
        expected = stats.t.interval(0.95, 2, mean, error)
        assert cell["interval"] == pytest.approx(expected)
    published = results["rows"][1]["cells"]["test/accuracy"]["published"]
    assert published["difference"] == pytest.approx(0.7)
    assert published["verdict"] == "better"
    assert "published" not in results["rows"][0]["cells"]["test/accuracy"]
    (test,) = results["tests"]["test/accuracy"]
    assert test["p"] == pytest.approx(stats.ttest_rel(VALUES["plain"], VALUES["longer"]).pvalue)
    assert results["machine"] == "2 cores of P, no accelerator"
    assert results["notes"] == []
    assert json.loads(json.dumps(results, allow_nan=False)) is not None


FOLDS = Study(
    rows={f"{name}, fold {fold}": {"training.steps": 4 * fold} for fold in (1, 2) for name in "ab"},
    columns=("test/accuracy",),
    published={"a": {"test/accuracy": Published(0.3, "Doe 2020", "paper")}},
    means={name: (f"{name}, fold 1", f"{name}, fold 2") for name in "ab"},
)
OF_FOLDS = {
    "a, fold 1": [0.5, 0.6, 0.7],
    "b, fold 1": [0.1, 0.1, 0.2],
    "a, fold 2": [0.7, 0.4],
    "b, fold 2": [0.1, 0.4],
}


def test_means_over_folds_are_compared_in_their_place(tmp_path, study_of_values):
    results = gather(FOLDS, study_of_values(FOLDS, OF_FOLDS), tmp_path, RECORD)
    assert [row["name"] for row in results["rows"]] == ["a", "b", *OF_FOLDS]
    first, second = (row["cells"]["test/accuracy"] for row in results["rows"][:2])
    assert first["values"] == pytest.approx([0.6, 0.5])  # the third seed has one fold only
    assert second["values"] == pytest.approx([0.1, 0.25])
    assert first["published"]["difference"] == pytest.approx(0.25)
    (test,) = results["tests"]["test/accuracy"]
    assert (test["a"], test["b"], test["n"]) == ("a", "b", 2)
    assert test["difference"] == pytest.approx(0.375)
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert read_results(tmp_path / "results.json")["rows"][0]["overrides"] == {
        "the mean, seed by seed, of": ["a, fold 1", "a, fold 2"]
    }
    assert "| a | 0.55" in markdown(results)
    page = write_study_report(tmp_path).read_text()
    assert page.count("report.html") == 0  # neither a mean nor an unreadable run is linked


def test_means_of_folds_that_are_not_there_or_not_finite(tmp_path, study_of_values):
    rows = study_of_values(FOLDS, {"a, fold 1": [0.5], "a, fold 2": [None], "b, fold 1": [0.1]})
    results = gather(FOLDS, rows, tmp_path, RECORD)
    assert [row["name"] for row in results["rows"]] == ["a", "a, fold 1", "b, fold 1", "a, fold 2"]
    assert results["rows"][0]["cells"]["test/accuracy"]["values"] == [None]
    wrong = dataclasses.replace(
        FOLDS, columns=(), published={"a": {"test/acuracy": Published(0.3, "Doe 2020")}}
    )
    with pytest.raises(ConfigError, match="in the row 'a', 'test/acuracy': did you mean"):
        gather(wrong, rows, tmp_path, RECORD)


def test_results_of_a_part_and_of_failures(tmp_path, study_of_values):
    study = Study(rows={"plain": {}, "longer": {"training.steps": 8}, "none": {"name": "x"}})
    rows = study_of_values(study, {"plain": [0.5], "longer": [0.6, None]})
    note_failure(Cell(rows["plain"], 1, tmp_path), "It broke.")
    plain, longer = gather(study, rows, tmp_path, RECORD)["rows"]
    assert (plain["seeds"], plain["failed"]) == ([0], [{"seed": 1, "reason": "It broke."}])
    assert plain["cells"]["test/accuracy"]["interval"] is None
    assert longer["cells"]["test/accuracy"]["values"] == [0.6, None]
    assert longer["cells"]["test/accuracy"]["n"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ("test/acuracy",)}, "no metric, as a column, 'test/acuracy': did you mean"),
        (
            {"published": {"plain": {"test/f1": Published(0.1, "Doe")}}},
            "no metric with a published number in the row 'plain', 'test/f1'",
        ),
    ],
)
def test_a_metric_that_is_not_there_is_refused(tmp_path, study_of_values, changes, message):
    study = Study(rows=STUDY.rows, **changes)
    with pytest.raises(ConfigError, match=message):
        gather(study, study_of_values(study), tmp_path, RECORD)


def test_a_metric_may_come_with_a_row_that_is_evaluated_on_other_splits(tmp_path, study_of_values):
    rows = {"plain": {"training.final_splits": ("valid",)}, "longer": {"training.steps": 8}}
    study = Study(rows=rows, columns=("train/accuracy",))
    results = gather(study, study_of_values(study, {"plain": [0.5]}), tmp_path, RECORD)
    assert results["shown"] == []


def test_cells_of_different_data_are_refused(tmp_path, study_of_values):
    rows = study_of_values(STUDY)
    change(tmp_path / "longer/seed1/environment.json", data={"digits/train": "5678"})
    with pytest.raises(
        RunError, match=r"'plain/seed0' and 'longer/seed1' have seen different data"
    ):
        gather(STUDY, rows, tmp_path, RECORD)


def test_what_is_made_anew_may_differ_where_its_options_do(tmp_path, study_of_values):
    """An embedded data set's hash depends on its options; a file's does not."""
    shapes = Experiment(
        name="grid",
        data=Shapes(),
        model=FusionModel({"image": MLP(hidden=(8,), width=4)}),
        objectives=(CrossEntropy(),),
        training=EXPERIMENT.training,
        evaluation=(Classification(),),
    )
    study = Study(rows={"plain": {}, "longer": {"data.noise": 0.1}})
    rows = study_of_values(study, experiment=shapes)
    for seed in range(3):
        change(tmp_path / f"longer/seed{seed}/environment.json", data={"digits/train": "5678"})
    groups = gather(study, rows, tmp_path, RECORD)["data"]
    assert [group["rows"] for group in groups] == [["plain"], ["longer"]]


def test_a_file_has_to_be_the_same_for_all_rows(tmp_path, study_of_values):
    halves = Experiment(
        name="grid",
        data=MNISTHalves(),
        model=EXPERIMENT.model,
        objectives=(CrossEntropy(),),
        training=EXPERIMENT.training,
        evaluation=(Classification(),),
    )
    rows = study_of_values(STUDY, experiment=halves)
    change(tmp_path / "longer/seed0/environment.json", data={"digits/train": "5678"})
    with pytest.raises(RunError, match="have seen different data"):
        gather(STUDY, rows, tmp_path, RECORD)


def test_what_differs_between_cells_is_noted(tmp_path, study_of_values):
    rows = study_of_values(STUDY)
    change(
        tmp_path / "longer/seed1/environment.json",
        versions={"jax": "2"}, git_commit="def-dirty", processor="Q", code={"mine.py": "1"},
    )  # fmt: skip
    change(tmp_path / "longer/seed0/environment.json", code={"mine.py": "2"})
    results = gather(STUDY, rows, tmp_path, RECORD)
    text = " ".join(results["notes"])
    for part in ("several versions of jax: 1, 2", "commits: abc, def-dirty", "not committed",
                 "2 cores of Q", "The file mine.py was changed"):  # fmt: skip
        assert part in text
    assert results["versions"] == {"jax": ["1", "2"]}
