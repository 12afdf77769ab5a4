"""The ledger: copies of results, the page made of them, and the files that are refused."""

import json
from pathlib import Path

import pytest

from mmjax.errors import RunError
from mmjax.studies.ledger import add, ledger, read_results, write_ledger

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DIGEST = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"


def results(**changes):
    published = {
        "value": 0.9,
        "source": "Doe 2020, Table 2",
        "certainty": "unverified",
        "std": None,
        "runs": 0,
        "difference": 0.02,
        "verdict": "better",
        "reason": "Because.",
    }
    cell = {"values": [0.91, 0.93], "n": 2, "mean": 0.92, "std": 0.0141, "interval": [0.79, 1.05]}
    row = {
        "name": "concat",
        "overrides": {"model.fusion": {"type": "mmjax.fusion.concat.Concat"}},
        "after": "",
        "seeds": [0, 1],
        "runs": ["concat/seed0", "concat/seed1"],
        "failed": [],
        "cells": {"test/accuracy": cell | {"published": published}},
    }
    other = row | {"name": "mean", "cells": {"test/accuracy": cell}}
    failed = row | {"name": "broken", "seeds": [], "runs": [], "cells": {}}
    failed["failed"] = [{"seed": 0, "reason": "The disk is full."}]
    test = {"a": "concat", "b": "mean", "n": 2, "difference": 0.0, "interval": None}
    return {
        "schema": 3,
        "name": "fusions",
        "title": "Which fusion is best?",
        "command": "mmjax ablate experiments/fusions.py --seeds 2",
        "date": "2026-11-20",
        "machine": "2 cores, x86_64",
        "commits": ["c0fc89d", "aa81ffb-dirty"],
        "versions": {"jax": ["0.10.2", "0.10.3"], "numpy": ["2.0.1"]},
        "data": [{"rows": ["concat", "mean"], "hashes": {"digits.npy": DIGEST}}],
        "columns": ["test/accuracy"],
        "shown": ["test/accuracy"],
        "directions": {},
        "baseline": "",
        "rows": [row, other, failed],
        "tests": {"test/accuracy": [test | {"p": None, "p_corrected": None}]},
        "notes": ["The cells were made at several commits."],
    } | changes


def put(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results(**changes), indent=1) + "\n")
    return folder


def test_the_ledger_of_this_repository_is_made_of_its_results():
    assert (EXPERIMENTS / "RESULTS.md").read_text(encoding="utf-8") == ledger(EXPERIMENTS), (
        "experiments/RESULTS.md is not what its results give: run `mmjax ledger experiments`."
    )


def test_a_study_is_copied_byte_for_byte(tmp_path):
    study = put(tmp_path / "study")
    copy = add(tmp_path / "ledger", study)
    assert copy == tmp_path / "ledger" / "results" / "fusions.json"
    assert copy.read_bytes() == (study / "results.json").read_bytes()
    assert read_results(copy) == results()
    put(study, title="Again")
    assert read_results(add(tmp_path / "ledger", study))["title"] == "Again"
    assert [path.name for path in copy.parent.iterdir()] == ["fusions.json"]


def test_the_page_has_every_study_by_name_and_where_it_comes_from(tmp_path):
    for name, title in (("b study", "Second"), ("a", "First"), ("b-study", "Third")):
        add(tmp_path, put(tmp_path / "study", name=name, title=title))
    path = write_ledger(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "RESULTS.md"
    assert text == ledger(tmp_path)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    one = ["### Rows that differ", "### Provenance"]
    assert headings == ["# Results", "## First", *one, "## Second", *one, "## Third", *one]
    assert "Made by `mmjax ledger experiments`" in text
    assert "- [First](#a), 2026-11-20\n- [Second](#b-study), 2026-11-20\n" in text
    assert '<a id="a"></a>\n\n## First\n' in text
    first = text[text.index("## First") : text.index("## Second")]
    assert "| concat | 0.920 ± 0.014 [0.790, 1.050] | 0.9 (unverified) |" in first
    assert "`mmjax ablate experiments/fusions.py --seeds 2` on 2026-11-20" in first
    assert "- Machine: 2 cores, x86_64\n" in first
    assert "- Commits: `c0fc89d`, `aa81ffb-dirty`; jax 0.10.2, 0.10.3\n" in first
    assert "- Note: The cells were made at several commits.\n" in first
    assert f"- digits.npy: `{DIGEST[:12]}`\n" in first
    assert DIGEST not in text
    assert first.count("<details>") == first.count("</details>") == 1


def test_data_of_some_rows_is_named_with_them(tmp_path):
    data = [{"rows": [row], "hashes": {"a.npy": digest * 64}} for row, digest in ("x1", "y2")]
    add(tmp_path, put(tmp_path / "study", data=data, command="echo '`x`'"))
    text = ledger(tmp_path)
    assert "- a.npy (of x): `111111111111`\n- a.npy (of y): `222222222222`\n" in text
    assert "`` echo '`x`' ``" in text


def test_an_empty_ledger_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no results"):
        write_ledger(tmp_path)
    assert not list(tmp_path.iterdir())


def without(path, value=None):
    """The results with the value at a path taken out, or replaced."""
    found = json.loads(json.dumps(results()))
    *way, last = path
    place = found
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(found)


CELL = ("rows", 0, "cells", "test/accuracy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged"),
        ('{"schema": 3', "is damaged"),
        ("\udcff", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("[]", "the file is not an object"),
        ('{"columns": [], "rows": []}', "has the schema 1, not 3"),
        (without(["schema"], 4), "has the schema 4, not 3"),
        (without(["commits"]), "'commits' of the file is missing"),
        (without(["title"], 7), "'title' of the file is of the wrong kind"),
        (without(["rows"], {}), "'rows' of the file is not a list"),
        (without(["rows", 1], "mean"), "item 1 of 'rows' of the file is not an object"),
        (without(["rows", 1, "seeds", 0], True), "item 0 of 'seeds' of item 1"),
        (without([*CELL, "mean"], "0.9"), "'mean' of 'test/accuracy' of 'cells' of item 0"),
        (without([*CELL, "mean"], float("nan")), "NaN is not JSON"),
        (without([*CELL, "mean"], 12345.5).replace("12345.5", "1e999"), "of the wrong kind"),
        (without([*CELL, "published"], 0.9), "'published' of 'test/accuracy'"),
        (without([*CELL, "published", "certainty"], "sure"), "unknown certainty"),
        (without([*CELL, "interval"], [0.1]), "not have two ends"),
        (
            without([*CELL, "values"], [0.1]),
            "'test/accuracy' of the row 'concat' does not have one value",
        ),
        (without(["shown"], ["test/f1"]), "'test/f1' is not among its columns"),
        (without(["tests"], {"test/f1": []}), "'test/f1' is not among its columns"),
        (without(["tests", "test/accuracy", 0, "p"], 0.01), "lacks some of its numbers"),
    ],
)
def test_damaged_and_other_results_are_refused_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(RunError) as caught:
        add(tmp_path / "ledger", tmp_path)
    sentence = str(caught.value)
    assert message in sentence
    assert str(path) in sentence
    assert sentence.endswith("run the study again: `mmjax ablate`.")
    assert not (tmp_path / "ledger").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RunError, match=r"nowhere/results.json is missing"):
        read_results(tmp_path / "nowhere" / "results.json")
    with pytest.raises(RunError, match="cannot be read"):
        read_results(tmp_path)


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "a\\b", ".hidden", "-x", "a\n", "a\0"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(RunError, match="cannot name a file"):
        add(tmp_path / "ledger", put(tmp_path / "study", name=name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study"]


def test_a_study_with_no_finished_cell_is_refused(tmp_path):
    study = put(tmp_path / "study", rows=results()["rows"][2:])
    with pytest.raises(RunError, match="no finished cell"):
        add(tmp_path / "ledger", study)


def test_a_copy_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    blocked = tmp_path / "ledger" / "results" / "fusions.json"
    blocked.mkdir(parents=True)
    with pytest.raises(RunError, match=r"fusions.json cannot be written"):
        add(tmp_path / "ledger", put(tmp_path / "study"))
    assert [path.name for path in blocked.parent.iterdir()] == ["fusions.json"]
