"""The tables of a study: what stands in which cell, and that no name can break them."""

import csv
import io
import json
import re

import pytest

from mmjax.errors import ConfigError
from mmjax.studies.tables import csv_table, decimals, escape, markdown, print_table


def cell(values, **published):
    known = [value for value in values if value is not None]
    made = {
        "values": values,
        "n": len(known),
        "mean": sum(known) / len(known) if known else None,
        "std": 0.012 if len(known) > 1 else None,
        "interval": [sum(known) / len(known) - 0.03, 1.0] if len(known) > 1 else None,
    }
    standard = {"std": None, "runs": 0, "certainty": "unverified", "reason": "Because."}
    return made | ({"published": standard | published} if published else {})


def results(**changes):
    rows = [
        {
            "name": "concat",
            "overrides": {},
            "after": "",
            "seeds": [0, 1, 2],
            "runs": ["concat/seed0", "concat/seed1", "concat/seed2"],
            "failed": [{"seed": 3, "reason": "The loss is not finite at step 7."}],
            "cells": {
                "test/accuracy": cell(
                    [0.91, 0.93, None],
                    value=0.9,
                    source="Doe 2020, Table 2",
                    difference=0.02,
                    verdict="better",
                ),
                "test/loss": cell([0.5, 0.25, 0.3]),
            },
        },
        {
            "name": "a|b [red]",
            "overrides": {},
            "after": "",
            "seeds": [0],
            "runs": ["a|b [red]/seed0"],
            "failed": [],
            "cells": {"test/accuracy": cell([0.5])},
        },
        {
            "name": "broken",
            "overrides": {},
            "after": "",
            "seeds": [],
            "runs": [],
            "failed": [{"seed": 0, "reason": "The disk is full."}],
            "cells": {},
        },
    ]
    test = {"n": 3, "difference": -0.0123, "interval": [-0.02, -0.005], "p": 0.001}
    tests = [
        {"a": "concat", "b": "a|b [red]", **test, "p_corrected": 0.002},
        {"a": "concat", "b": "broken", **test, "p": 0.03, "p_corrected": 0.06},
        {"a": "a|b [red]", "b": "broken", "n": 0, "difference": None, "interval": None}
        | {"p": None, "p_corrected": None},
    ]
    return {
        "schema": 3,
        "name": "fusions",
        "title": "Which fusion is best?",
        "columns": ["test/accuracy", "test/loss"],
        "shown": ["test/accuracy"],
        "directions": {"test/loss": "min"},
        "baseline": "",
        "rows": rows,
        "tests": {"test/accuracy": tests},
        "notes": [],
    } | changes


def cells_of(line):
    return [one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables_of(text):
    """The cells of every table, each with its head and without its rule."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    for lines in blocks:
        assert len({len(cells_of(line)) for line in lines}) == 1
    return [[cells_of(line) for line in (lines[0], *lines[2:])] for lines in blocks]


def test_markdown_has_ours_the_published_the_difference_and_the_verdict():
    text = markdown(results())
    table, _ = tables_of(text)
    assert text.startswith("# Which fusion is best?\n\n| row | test/accuracy | published |")
    assert table == [
        ["row", "test/accuracy", "published", "difference", "verdict", "seeds"],
        [
            "concat",
            "0.920 ± 0.012 (2 of 3 finite) [0.890, 1.000]",
            "0.9 (unverified)",
            "+0.020",
            "better",
            "3",
        ],
        [r"a\|b \[red\]", "0.500", "-", "-", "-", "1"],
        ["broken", "-", "-", "-", "-", "0"],
    ]
    assert "- Failed: concat, seed 3: The loss is not finite at step 7.\n" in text
    assert "- Failed: broken, seed 0: The disk is full.\n" in text
    assert "- Doe 2020, Table 2, unverified: concat\n" in text
    assert "`within the interval`" in text


def test_markdown_of_another_level_and_with_no_published_number():
    changed = results(shown=["test/loss"], tests={})
    text = markdown(changed, level=3)
    (table,) = tables_of(text)
    assert text.startswith("### Which")
    assert table[0] == ["row", "test/loss", "seeds"]
    assert "Lower is better in test/loss." in text
    assert "Published" not in text
    assert "verdict" not in text
    assert "Rows that differ" not in text
    assert markdown(results(title="")).startswith("# fusions\n")
    assert "\n#### Rows that differ\n" in markdown(results(), level=3)


def test_published_columns_stand_beside_their_own():
    (table, _) = tables_of(markdown(results(shown=["test/loss", "test/accuracy"])))
    assert table[0] == [
        *("row", "test/loss", "test/accuracy", "published", "difference", "verdict", "seeds")
    ]


def test_sources_are_named_once_with_how_sure_they_are():
    changed = results(shown=["test/accuracy", "test/loss"])
    doe = {"value": 0.2, "source": "Doe 2020, Table 2", "difference": None, "verdict": "no verdict"}
    changed["rows"][0]["cells"]["test/loss"] = cell([0.1], **doe)
    changed["rows"][0]["cells"]["test/loss"]["published"] |= {"std": 0.01, "runs": 5}
    changed["rows"][1]["cells"]["test/loss"] = cell([0.1], **doe, certainty="paper")
    changed["rows"][0]["cells"]["test/loss"]["values"] = [0.1, None, None]
    text = markdown(changed)
    assert "- Doe 2020, Table 2, unverified: concat (test/accuracy); concat (test/loss)\n" in text
    assert r"- Doe 2020, Table 2, read in the paper: a\|b \[red\] (test/loss)" in text
    assert "| 0.2 ± 0.01 (unverified) | - | no verdict |" in text


def test_markdown_lists_the_rows_that_differ_after_correction():
    text = markdown(results())
    _, significant = tables_of(text)
    assert significant == [
        ["column", "a", "b", "a minus b", "p", "p, corrected", "seeds"],
        [
            *("test/accuracy", "concat", r"a\|b \[red\]", "-0.012 [-0.020, -0.005]"),
            *("0.001", "0.002", "3"),
        ],
    ]
    assert "1 of 2 paired t-tests" in text


def test_markdown_says_that_no_rows_differ_or_that_none_were_tested():
    tests = results()["tests"]["test/accuracy"]
    text = markdown(results(tests={"test/accuracy": tests[1:]}))
    assert "none of 1 paired t-test over" in text
    assert len(tables_of(text)) == 1
    text = markdown(results(tests={"test/accuracy": tests[2:]}))
    assert "no paired t-test was made" in text


def test_the_same_results_give_the_same_bytes():
    assert markdown(results()) == markdown(json.loads(json.dumps(results())))
    assert csv_table(results()) == csv_table(json.loads(json.dumps(results())))


def test_csv_has_a_line_for_each_row_and_column_with_exact_numbers():
    lines = list(csv.DictReader(io.StringIO(csv_table(results()))))
    assert [(line["row"], line["column"]) for line in lines] == [
        (row, column)
        for row in ("concat", "a|b [red]", "broken")
        for column in ("test/accuracy", "test/loss")
    ]
    first = lines[0]
    assert float(first["mean"]) == (0.91 + 0.93) / 2
    assert float(first["low"]) == (0.91 + 0.93) / 2 - 0.03
    assert json.loads(first["values"]) == {"0": 0.91, "1": 0.93, "2": None}
    published = ("0.9", "Doe 2020, Table 2", "unverified", "0.02", "better")
    names = ("published", "source", "certainty", "difference", "verdict")
    assert tuple(first[name] for name in names) == published
    assert lines[2]["std"] == lines[2]["published"] == lines[3]["mean"] == ""
    assert (lines[4]["n"], lines[4]["values"]) == ("0", "{}")


@pytest.mark.parametrize("name", ["=1+1", "+a", "-2", "@SUM(A1)", " =1", "\t=1", 'a,"b"\n=1'])
def test_csv_gives_no_formula_to_a_spreadsheet(name):
    changed = results()
    changed["rows"][0]["name"] = name
    changed["rows"][0]["cells"]["test/accuracy"]["published"]["difference"] = -0.25
    lines = list(csv.DictReader(io.StringIO(csv_table(changed))))
    assert lines[0]["row"] == (name if name.startswith("a") else "'" + name)
    assert lines[0]["difference"] == "-0.25"  # a number stays one


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([(0.91, 0.012), (0.8, 0.02), (0.7, 0.5)], 3),
        ([(0.91, 0.0001), None], 5),
        ([(0.91, 1e-7)], 5),
        ([(431.0, 25.0)], 0),
        ([(28.49, 0.0), (46.2, 0.03)], 3),  # a row without spread says nothing of it
        ([(28.49, 0.0)], 2),
        ([(0.5, None)], 4),
        ([(12345.0, None)], 0),
        ([(0.0, float("nan"))], 3),
        ([(None, None), None], 3),
        ([], 3),
    ],
)
def test_decimals_are_two_digits_of_the_typical_spread(cells, expected):
    made = [None if one is None else dict(zip(("mean", "std"), one, strict=True)) for one in cells]
    assert decimals(made) == expected


def test_numbers_that_fixed_decimals_would_lose_get_an_exponent():
    changed = results()
    small = {"values": [2e-8], "n": 1, "mean": -2e-8, "std": 0.0, "interval": [1e13, 1234567.0]}
    changed["rows"][1]["cells"]["test/accuracy"] = small
    assert "-2.0e-08 ± 0.000 [1.0e+13, 1,234,567.000]" in markdown(changed)


def test_the_terminal_shows_names_as_they_are_and_what_failed(capsys):
    print_table(results())
    shown = capsys.readouterr().out
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if "│" in line}
    assert "Which fusion is best?" in shown
    assert "0.920 ± 0.012 (2 of 3 finite) (published 0.9, unverified: better)" in lines["concat"]
    assert "0.500" in lines["a|b [red]"]
    assert "test/loss" not in shown
    assert "Failed: concat, seed 3: The loss is not finite at step 7." in shown


def test_the_terminal_shows_other_columns_and_refuses_unknown_ones(capsys):
    print_table(results(), ["test/loss"])
    shown = capsys.readouterr().out
    assert "test/loss" in shown
    assert "test/accuracy" not in shown
    with pytest.raises(ConfigError, match="no metric 'test/acuracy': did you mean"):
        print_table(results(), ["test/acuracy"])


def test_many_metrics_are_lines_instead_of_columns_that_are_cut(capsys):
    found = results()
    names = [f"test/a_metric_with_a_long_name_{number}" for number in range(7)]
    for name in names:
        found["rows"][0]["cells"][name] = cell([None, None])
    found["columns"] += names
    print_table(found, names)
    lines = capsys.readouterr().out.splitlines()
    assert "concat, seeds: 3" in lines
    for name in names:  # not measured is not the same as not finite
        found_lines = [line.split() for line in lines if name in line]
        assert found_lines[:2] == [[name, "not", "finite"], [name, "-"]]


def test_escape():
    assert escape("a|b *c* `d` <e> [f](g) \\ &lt; R&D, x & y\n# z") == (
        r"a\|b \*c\* \`d\` \<e> \[f\](g) \\ \&lt; R&D, x & y # z"
    )
    assert escape("learning_rate=0.1, _b_ __c") == r"learning_rate=0.1, \_b\_ \__c"
