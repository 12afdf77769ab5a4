"""The report of a study: what it shows, links to its runs, and studies that are damaged."""

import json
import math
import re
import shutil

import pytest
import scipy.stats

from mmjax.errors import RunError
from mmjax.studies.reports.study_report import write_study_report


def test_study_report_shows_everything(tmp_path, make_study, words):
    path = write_study_report(make_study(tmp_path))
    text = words(path)
    for expected in (
        "Which fusion is best?",
        "rows 2 finished runs 4",
        "test/accuracy higher is better",
        "concat 0.755 ± 0.007 0.691 to 0.819 seeds 0 1 best mean",
        "gated after concat 0.660 ± 0.014 0.533 to 0.787 seeds 0 1 −0.072 ✗ worse 0.7321 [1]",
        "Doe 2020, Table 2 (unverified)",
        "gated, test/accuracy, 0.7321: worse . It lies outside the interval.",
        "All metrics row test/loss concat 0.50",
        "the diamond is the published number",
        "valid/accuracy",
        "starts from the parameters of concat model.fusion = Gated()",
        "concat as in the experiment file",
        "mmjax ablate fusions.py --seeds 2",
        "Configuration Of the first run of concat",
        "machine a machine date 2025-01-01 commit abc1234",
        "jax 0.10.2",
        "Data (SHA-256) digits.npy 60303ae22b99",
        "A note of the study.",
    ):
        assert expected in text
    page = path.read_text()
    assert page.count('class="seed"') == 4
    assert 'title="seed 1: 0.7600\n' in page  # of its link
    assert "failed" not in text


def test_study_writes_the_reports_of_its_runs_and_links_to_them(tmp_path, make_study, words):
    page = write_study_report(make_study(tmp_path)).read_text()
    links = re.findall(r'href="(\..*?)"', page)
    assert links == [
        f"./{row}/seed{seed}/report.html" for row in ("concat", "gated") for seed in (0, 1)
    ]
    for link in links:
        run = tmp_path / link
        assert "mmjax run report" in words(run)
        back = re.search(r'href="(\.\./.*?)"', run.read_text())[1]
        assert (run.parent / back).samefile(tmp_path / "report.html")
        targets = re.findall(r'href="#(.*?)"', run.read_text())
        assert targets == ["config", "again", "environment", "data"]
        assert all(f'id="{target}"' in run.read_text() for target in targets)


def test_study_leaves_folders_outside_alone(tmp_path, make_run, make_study, words):
    folder = make_study(tmp_path / "study")
    outside = make_run(tmp_path / "outside")
    study = json.loads((folder / "results.json").read_text())
    study["rows"][0]["runs"] = ["../outside", str(outside)]
    (folder / "results.json").write_text(json.dumps(study))
    text = words(write_study_report(folder))
    assert "../outside lies outside the study's folder" in text
    assert not (outside / "report.html").exists()


def test_equal_columns_share_a_chart(tmp_path, make_study, make_row, make_cell, words):
    cells = {"test/x": make_cell(0.5), "test/y": make_cell(0.6), "test/z": make_cell(0.5)}
    study = {"rows": [make_row("a", cells)], "columns": [*cells], "shown": [*cells], "tests": {}}
    text = words(write_study_report(make_study(tmp_path, **study)))
    assert "test/x = z" in text
    assert "One seed" in text
    assert "±" not in text
    assert "best mean" not in text  # there is nothing to choose from


def test_study_names_runs_that_it_cannot_read(tmp_path, make_study, words):
    folder = make_study(tmp_path)
    shutil.rmtree(folder / "gated/seed1")
    text = words(write_study_report(folder))
    assert "leave out a run: gated/seed1/config.json is missing" in text
    assert '"./gated/seed1/' not in (folder / "report.html").read_text()


def test_study_with_missing_and_failed_cells(tmp_path, make_study, make_row, make_cell, words):
    failed = [{"seed": 0, "reason": "The loss is <not> finite."}]
    rows = [
        make_row("a", {"test/x": make_cell(0.5, None)}, failed=[{"seed": 7, "reason": "Why."}]),
        make_row("b", {"test/x": make_cell(None)}),
        make_row("c", {"test/y": make_cell(0.25)}),
        make_row("d", {}, failed=failed),
    ]
    columns = ["test/x", "test/y"]
    study = make_study(tmp_path, rows=rows, columns=columns, shown=columns[:1], tests={})
    path = write_study_report(study)
    text = words(path)
    assert "2 runs failed and are in no number of this page. a, seed 7: Why. d, seed 0: The" in text
    assert "a ✗ 1 failed 0.5000 seeds 0 1 7 1 not finite b – c – d ✗ failed The loss" in text
    assert 'title="The loss is &lt;not&gt; finite.">failed</td>' in path.read_text()
    assert "seed 0: The loss is <not> finite." in text
    assert "best mean" not in text


def test_study_of_which_every_run_failed(tmp_path, make_study, make_row, words):
    rows = [make_row(name, {}, failed=[{"seed": 0, "reason": f"Why {name}."}]) for name in "ab"]
    nothing = {"columns": [], "shown": [], "tests": {}, "versions": {}, "data": [], "commits": []}
    text = words(write_study_report(make_study(tmp_path, rows=rows, **nothing)))
    assert "row a ✗ failed Why a. b ✗ failed Why b. No run has finished" in text


def test_verdicts_and_best_means_know_which_way_is_better(
    tmp_path, make_study, make_row, make_cell, words
):
    low = make_cell(0.1, 0.2, value=0.4, verdict="better", certainty="rerun", std=0.02, runs=3)
    high = make_cell(0.3, 0.4, value=0.3, verdict="within the interval", certainty="paper")
    third = make_cell(0.5, 0.6, value=0.3)
    cells = {"a": low, "b": high, "c": third}
    rows = [make_row(name, {"test/loss": cell}) for name, cell in cells.items()]
    pair = {"n": 2, "difference": -0.2, "interval": [-0.5, 0.1], "p": 0.1, "p_corrected": 0.3}
    tests = {
        "test/loss": [
            pair | {"a": "a", "b": "b"},
            pair | {"a": "c", "b": "a", "difference": 0.4, "p_corrected": 0.01},
        ]
    }
    shown = {"columns": ["test/loss"], "shown": ["test/loss"], "rows": rows, "tests": tests}
    path = write_study_report(make_study(tmp_path, directions={"test/loss": "min"}, **shown))
    text = words(path)
    assert "test/loss lower is better" in text
    assert "seeds 0 1 best mean −0.250 ✓ better 0.4 ± 0.02 (3 runs) [1] a re-run by an" in text
    assert "seeds 0 1 ≈ best +0.050 ≈ within the interval 0.3 [2] read in the paper" in text
    assert "seeds 0 1 +0.250 ? no verdict 0.3 [3] unverified" in text
    assert "Not significantly different from a: p = 0.3 after Holm" in path.read_text()
    # Lower is better: row a minus column c is significant, and good.
    assert re.search(r'<td class="good" title="a minus c: −0.400\n[^"]*">−0.400∗', path.read_text())
    assert re.search(
        r'<td class="bad" title="c minus a: \+0.400\n[^"]*">\+0.400∗', path.read_text()
    )

    # A figure of which neither more nor less is better has no best mean at all.
    neither = make_study(tmp_path / "neither", directions={"test/loss": "none"}, **shown)
    text = words(write_study_report(neither))
    assert "best" not in text.replace("Which fusion is best?", "").replace("≈ best", "")


def test_matrix_of_tests(tmp_path, make_study, words):
    path = write_study_report(make_study(tmp_path))
    text = words(path)
    assert "test/accuracy: 1 test" in text
    assert "two-sided paired t test" in text
    assert "training noise, not of other data" in text
    assert "1 2 concat 1 · +0.095∗ 0.034 gated 2 −0.095∗ 0.034 ·" in text
    turned = "gated minus concat: −0.095\n95 % interval −0.159 to −0.032\np = 0.034 after Holm"
    assert turned in path.read_text().replace("&#39;", "'")


def test_tests_against_a_baseline_and_tests_without_p(
    tmp_path, make_study, make_row, make_cell, words
):
    rows = [make_row(name, {"test/x": make_cell(0.5, 0.6)}) for name in ("a", "b", "c")]
    rows.insert(0, make_row("base", {"test/x": make_cell(0.6, 0.7)}))
    nothing = {"interval": None, "p": None, "p_corrected": None, "b": "base"}
    tests = [
        nothing | {"a": "a", "n": 2, "difference": 0.125},
        nothing | {"a": "b", "n": 1, "difference": None},
        {"a": "c", "b": "base", "n": 2, "difference": -0.25, "interval": [-0.3, -0.2]}
        | {"p": 1e-6, "p_corrected": 2e-6},
    ]
    study = {"rows": rows, "columns": ["test/x"], "shown": ["test/x"], "baseline": "base"}
    path = write_study_report(make_study(tmp_path, tests={"test/x": tests}, **study))
    text = words(path)
    assert "Each row was compared with “base” over the seeds" in text
    assert "row difference p a +0.125 – b – – c −0.250∗ < 0.0001" in text
    assert "Not tested: a and base (the differences do not vary); b and base (fewer than" in text
    assert path.read_text().count("Not tested against") == text.count("not tested") == 2
    assert "c minus base: −0.250\n95 % interval −0.300 to −0.200\np &lt; 0.0001" in path.read_text()


def test_curves_are_means_with_the_t_interval_of_the_seeds(tmp_path, make_study, write_lines):
    folder = make_study(tmp_path)
    values = {"concat": (0.5, 0.7), "gated": (0.6,)}
    for row, of_row in values.items():
        for seed, value in enumerate(of_row):
            line = {"step": 100, "valid/accuracy": value, "valid/loss": 1.0, "train/loss": 2.0}
            write_lines(folder / row / f"seed{seed}/metrics.jsonl", [line])
    shutil.rmtree(folder / "gated/seed1")
    page = write_study_report(folder).read_text()
    half = scipy.stats.t.ppf(0.975, 1) * 0.1  # s / sqrt(2) of 0.5 and 0.7
    shown = re.search(r"concat: 0\.6000 \((\S+) to (\S+)\)\ngated: 0.6000<", page)
    low, high = (float(end.replace("−", "-")) for end in shown.groups())
    assert math.isclose(low, 0.6 - half, rel_tol=1e-3)
    assert math.isclose(high, 0.6 + half, rel_tol=1e-3)
    folded = page.index("<summary>Losses and what else")
    assert page.index("valid/<wbr>accuracy") < folded < page.index("valid/<wbr>loss")
    assert folded < page.index("train/<wbr>loss")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": None}, "run the study again"),
        ({"rows": [{}]}, "run the study again"),
        ({"schema": 1}, "schema 1, not 3.*run the study again"),
    ],
)
def test_damaged_study_is_named(tmp_path, changes, sentence, make_study):
    with pytest.raises(RunError, match=sentence):
        write_study_report(make_study(tmp_path, **changes))


def test_runs_that_are_not_those_of_the_seeds_are_named(tmp_path, make_study, make_row, make_cell):
    row = make_row("a", {"test/x": make_cell(0.5, 0.6)}, runs=["a/seed0"])
    columns = {"columns": ["test/x"], "shown": ["test/x"], "tests": {}}
    with pytest.raises(RunError, match="the row 'a' does not have one run for each seed"):
        write_study_report(make_study(tmp_path, rows=[row], **columns))


def test_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(RunError, match=r"results\.json is missing"):
        write_study_report(tmp_path)


def test_no_difference_has_no_sign_from_either_side(tmp_path, make_study):
    same = {"a": "concat", "b": "gated", "n": 2, "difference": 0.0, "interval": None}
    tests = {"test/accuracy": [same | {"p": None, "p_corrected": None}]}
    page = write_study_report(make_study(tmp_path, tests=tests)).read_text()
    assert "concat minus gated: 0.000\nnot tested: the differences do not vary" in page
    assert "gated minus concat: 0.000\nnot tested: the differences do not vary" in page
