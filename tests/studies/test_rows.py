"""Rows of a study as experiments, the cells that they make, and what is refused."""

import json
import types

import pytest

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import Classification
from mmjax.fusion import Concat, Mean
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Published, Stage, Study, axis, product
from mmjax.studies.rows import (
    Cell,
    cells_of,
    cells_there,
    chosen_rows,
    describe,
    environment_of,
    read_record,
    result_of,
    rows_of,
    study_of,
)
from mmjax.training import Experiment, Start, Training
from mmjax.training.config import to_json

EXPERIMENT = Experiment(
    name="grid",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in ("left", "right")}),
    objectives=(CrossEntropy(),),
    training=Training(steps=4, batch_size=32, seed=7),
    evaluation=(Classification(),),
)


def test_rows_are_the_experiment_with_parts_replaced():
    study = Study(
        rows=product(
            axis("model.fusion", {"concat": Concat(), "mean": Mean(width=4)}),
            axis("training.steps", (2, 3)),
        )
    )
    rows = rows_of(study, EXPERIMENT)
    assert list(rows) == ["concat, steps=2", "concat, steps=3", "mean, steps=2", "mean, steps=3"]
    row = rows["mean, steps=3"]
    assert row.experiment.model.fusion == Mean(width=4)
    assert row.experiment.training.steps == 3
    assert row.experiment.data == EXPERIMENT.data
    fusion = {"type": "mmjax.fusion.mean.Mean", "width": 4}
    assert describe(row.changes) == {"model.fusion": fusion, "training.steps": 3}


def test_a_study_without_rows_is_the_experiment():
    assert [row.experiment for row in rows_of(Study(), EXPERIMENT).values()] == [EXPERIMENT]


def test_cells_come_seed_by_seed_and_sources_first(tmp_path):
    study = Study(rows={"probe": Stage("base", {"training.steps": 2}, ("encoders",)), "base": {}})
    rows = rows_of(study, EXPERIMENT)
    chosen = chosen_rows(rows, ["probe"])
    assert [row.name for row in chosen] == ["base", "probe"]
    cells = cells_of(chosen, 2, tmp_path)
    assert [cell.run for cell in cells] == [
        "base/seed7", "probe/seed7", "base/seed8", "probe/seed8",
    ]  # fmt: skip
    assert cells[3].experiment.training.seed == 8
    assert cells[3].experiment.start == Start("{run_dir}/../../base/seed8", parts=("encoders",))
    assert cells[2].experiment.start is None
    with pytest.raises(ConfigError, match="no row 'prob': did you mean 'probe'"):
        chosen_rows(rows, ["prob"])


def test_a_row_that_no_seed_changes_has_one_cell(tmp_path):
    study = Study(rows={"fixed": {}, "probe": Stage("base"), "base": {}}, once=("fixed", "probe"))
    chosen = chosen_rows(rows_of(study, EXPERIMENT), [])
    assert [cell.run for cell in cells_of(chosen, 3, tmp_path)] == [
        "fixed/seed7", "base/seed7", "probe/seed7", "base/seed8", "base/seed9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (Study(rows={"a": {"model.fuson": Concat()}}), "Row 'a': .*'fuson'.*did you mean 'fusion'"),
        (Study(rows={"a": {"training.steps": -1}}), "Row 'a': Training.steps is -1"),
        (Study(rows={"a": {"training.steps": "many"}}), "Row 'a': .*steps"),
        (
            Study(rows={"a": {}, "b": Stage("a", {"training.seed": 9})}),
            "Row 'b': Its seeds begin at 9 and those of 'a', which it starts from, at 7: give both",
        ),
        (Study(published={"a": {"test/accuracy": Published(1.0, "b")}}), "no row with published"),
    ],
)
def test_wrong_rows_are_refused(study, message):
    with pytest.raises(ConfigError, match=message):
        rows_of(study, EXPERIMENT)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": {"a": {}}}, "does not define `study`: set `study = mmjax.studies.Study"),
        ({"published": {}}, "does not define `study`"),
        ({"study": {"rows": {}}}, "of the right type .it is a dict.: set"),
    ],
)
def test_a_file_without_a_study_object_is_refused(values, message):
    module = types.ModuleType("grid")
    vars(module).update(values, __file__="grid.py")
    with pytest.raises(ConfigError, match=message):
        study_of(module)


def test_cells_of_another_config_are_refused(tmp_path):
    row = rows_of(Study(rows={"a": {}}), EXPERIMENT)["a"]
    for seed in (8, 7):
        cell = Cell(row, seed, tmp_path)
        cell.run_dir.mkdir(parents=True)
        (cell.run_dir / "config.json").write_text(json.dumps(to_json(cell.experiment)))
    (tmp_path / "a/seedling").mkdir()
    assert [cell.seed for cell in cells_there(row, tmp_path)] == [7, 8]
    changed = rows_of(Study(rows={"a": {"training.steps": 5}}), EXPERIMENT)["a"]
    with pytest.raises(ConfigError, match=r"seed7 holds a run of another config \(training.steps"):
        cells_there(changed, tmp_path)


def test_directories_of_other_things_are_refused(tmp_path):
    assert read_record(tmp_path / "new", "grid") == {}
    (tmp_path / "file").write_text("")
    for name in ("file", "."):
        with pytest.raises(ConfigError, match="exists and holds no study"):
            read_record(tmp_path / name, "grid")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds a run"):
        read_record(tmp_path / "run", "grid")
    (tmp_path / "study").mkdir()
    (tmp_path / "study/study.json").write_text(
        json.dumps(dict.fromkeys(("name", "title", "command", "date"), "other"))
    )
    with pytest.raises(ConfigError, match="holds the study 'other'"):
        read_record(tmp_path / "study", "grid")
    for damaged in ('{"name', '{"name": "grid"}'):
        (tmp_path / "study/study.json").write_text(damaged)
        with pytest.raises(RunError, match=r"study\.json is damaged"):
            read_record(tmp_path / "study", "grid")
    (tmp_path / "killed").mkdir()
    for left in ("lock", "study.json.tmp"):  # by a start that was killed at once
        (tmp_path / "killed" / left).write_text("")
    assert read_record(tmp_path / "killed", "grid") == {}


def test_damaged_files_of_a_cell_are_named(tmp_path):
    cell = Cell(rows_of(Study(rows={"a": {}}), EXPERIMENT)["a"], 7, tmp_path)
    cell.run_dir.mkdir(parents=True)
    (cell.run_dir / "failed.json").write_text("{")
    assert "failed.json is damaged" in cell.failure
    for metrics, seconds in (({"test/accuracy": "high"}, 1.0), ({}, "long"), ({}, None)):
        result = {"metrics": metrics, "directions": {}, "seconds": seconds, "steps": 4}
        (cell.run_dir / "result.json").write_text(json.dumps(result))
        with pytest.raises(RunError, match=r"result\.json is damaged .*: delete it and run"):
            result_of(cell)
    environment = {"data": {}, "versions": {}, "devices": None}
    (cell.run_dir / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(
        RunError, match=r"environment\.json is damaged \('devices' of the file is not a list\)"
    ):
        environment_of(cell)
