"""The report of a study: what it shows, links to its runs, and studies that are damaged."""

import json
import re
import shutil

import pytest

from mmjax.errors import RunError
from mmjax.studies.study_report import write_study_report


def test_study_report_shows_everything(tmp_path, make_study, words):
    path = write_study_report(make_study(tmp_path))
    text = words(path)
    for expected in (
        "Which fusion is best?",
        "0.7550 ± 0.0071",
        "0.6550 ± 0.0071 published (unverified) 0.7321",
        "the diamond the published number",
        "valid/accuracy",
        "model.fusion = Gated()",
        "concat as in the experiment file",
        "mmjax ablate fusions.py --seeds 2",
        "machine a machine",
    ):
        assert expected in text
    assert path.read_text().count('class="seed"') == 4


def test_study_writes_the_reports_of_its_runs_and_links_to_them(tmp_path, make_study, words):
    page = write_study_report(make_study(tmp_path)).read_text()
    links = re.findall(r'href="(.*?)"', page)
    assert links == [
        f"./{row}/seed{seed}/report.html" for row in ("concat", "gated") for seed in (0, 1)
    ]
    for link in links:
        assert "mmjax run report" in words(tmp_path / link)


def test_study_leaves_folders_outside_alone(tmp_path, make_run, make_study, words):
    folder = make_study(tmp_path / "study")
    outside = make_run(tmp_path / "outside")
    study = json.loads((folder / "results.json").read_text())
    study["rows"][0]["runs"] = ["../outside", str(outside)]
    (folder / "results.json").write_text(json.dumps(study))
    text = words(write_study_report(folder))
    assert "../outside lies outside the study's folder" in text
    assert not (outside / "report.html").exists()


def test_equal_columns_share_a_chart(tmp_path, make_study, words):
    cell = {"mean": 0.5, "std": None, "n": 1, "values": [0.5]}
    other = cell | {"mean": 0.6, "values": [0.6]}
    rows = [{"name": "a", "cells": {"test/x": cell, "test/y": other, "test/z": cell}}]
    columns = ["test/x", "test/y", "test/z"]
    text = words(write_study_report(make_study(tmp_path, rows=rows, columns=columns)))
    assert "test/x = z" in text
    assert "One seed" in text
    assert "±" not in text


def test_study_names_runs_that_it_cannot_read(tmp_path, make_study, words):
    folder = make_study(tmp_path)
    shutil.rmtree(folder / "gated/seed1")
    text = words(write_study_report(folder))
    assert "leave out a run: gated/seed1/config.json is missing" in text
    assert '"./gated/seed1/' not in (folder / "report.html").read_text()


def test_study_with_missing_cells(tmp_path, make_study, words):
    nothing = {"mean": None, "std": None, "n": 0, "values": [None]}
    single = {"mean": 0.5, "std": None, "n": 1, "values": [0.5]}
    rows = [
        {"name": "a", "cells": {"test/x": single}},
        {"name": "b", "cells": {"test/x": nothing}},
        {"name": "c", "cells": {}},
    ]
    text = words(write_study_report(make_study(tmp_path, rows=rows, columns=["test/x"])))
    assert "a 0.5000 1 b – 0 c – 0" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"rows": None}, "not a study's results"), ({"rows": [{}]}, "not a study's results")],
)
def test_damaged_study_is_named(tmp_path, changes, sentence, make_study):
    with pytest.raises(RunError, match=sentence):
        write_study_report(make_study(tmp_path, **changes))


def test_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(RunError, match=r"results\.json is missing"):
        write_study_report(tmp_path)
