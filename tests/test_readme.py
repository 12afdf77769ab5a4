"""The README's code runs."""

import re
import types
from pathlib import Path

import numpy as np
import pytest
from small_bert import write_bert

from mmjax.studies.rows import rows_of
from mmjax.training.experiment import check
from mmjax.training.setup import prepare

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ARRAYS, LOADED, PUBLISHED, EXPERIMENT, OBJECTIVES = re.findall(
    r"```python\n(.*?)```", TEXT, flags=re.DOTALL
)


@pytest.mark.slow
def test_arrays_are_trained_on_and_the_model_is_used_by_another_program(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    exec(ARRAYS, {})
    accuracy, mae = map(float, capsys.readouterr().out.splitlines()[-1].split())
    assert accuracy > 0.9
    assert mae < 0.5
    found = {}
    exec(LOADED, found)
    assert found["found"]["kind"].shape == (2, 3)
    assert found["found"]["tags"].shape == (2, 2)
    assert len(ARRAYS.splitlines()) + len(LOADED.splitlines()) < 60


def test_published_weights_start_a_run(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "all-MiniLM-L6-v2"
    folder.mkdir()
    write_bert(folder)
    monkeypatch.chdir(tmp_path)
    imports = "\n".join(re.findall(r"^(?:import|from) .*$", ARRAYS, flags=re.MULTILINE))
    exec(imports + "\n" + PUBLISHED, {})
    assert re.search(r"\[\[0\.\d+ +0\.\d+ *\]\]", capsys.readouterr().out)


def test_every_row_of_the_experiment_fits_together(data_folder):
    module = types.ModuleType("my_experiment")
    exec(EXPERIMENT, vars(module))
    rows = rows_of(module.study, module.experiment)
    assert len(rows) == 3
    for row in rows.values():
        check(row.experiment)
    prepare(rows["aligned too"].experiment, data_folder)


def test_the_objectives_alone():
    rng = np.random.default_rng(0)
    values = {
        name: rng.normal(size=(64, 12)).astype(np.float32)
        for name in ("h1", "h2", "x_train", "y_train", "x_test", "y_test")
    }
    exec(OBJECTIVES, values)
    assert -12 < values["loss"] < 0


def test_it_takes_five_minutes():
    assert len(TEXT.encode()) <= 12 * 1024


@pytest.mark.parametrize("path", re.findall(r"(?:`|\()((?:tests|experiments)/[\w/.]+)[`)]", TEXT))
def test_what_it_points_to_is_there(path):
    assert (Path(__file__).parents[1] / path).exists()
