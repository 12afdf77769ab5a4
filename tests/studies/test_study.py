"""Studies as values: what rows the builders make, and what is refused when a study is made."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax.errors import ConfigError
from mmjax.studies import Published, Stage, Study, axis, product, zipped

ROWS = {"concat": {}, "mean": {"model.fusion": "mean"}}
COLUMNS = ("test/accuracy", "test/loss")
DOE = Published(0.9, "Doe 2020, Table 2")


def test_axis_names_rows_after_names_or_values():
    assert axis("model.fusion", {"a": 1, "b": (2, 3)}) == {
        "a": {"model.fusion": 1},
        "b": {"model.fusion": (2, 3)},
    }
    assert axis("optimizer.learning_rate", [1e-3, 2e-3]) == {
        "learning_rate=0.001": {"optimizer.learning_rate": 1e-3},
        "learning_rate=0.002": {"optimizer.learning_rate": 2e-3},
    }
    assert list(axis("width", (8,))) == ["width=8"]


def test_values_that_would_give_rows_the_same_name_are_refused():
    with pytest.raises(ConfigError, match="'width=8'"):
        axis("width", [8, 16, "8"])
    # "a, b" and "c" give the same name as "a" and "b, c"
    with pytest.raises(ConfigError, match="'a, b, c'"):
        product(axis("x", {"a": 1, "a, b": 2}), axis("y", {"b, c": 1, "c": 2}))
    with pytest.raises(ConfigError, match="'a, b, c'"):
        zipped(axis("x", {"a": 1, "a, b": 2}), axis("y", {"b, c": 1, "c": 2}))
    slashed = product(axis("x", {"a": 1, "a, b": 2}), axis("y", {"b, c": 1, "c": 2}), separator=";")
    assert list(slashed) == ["a;b, c", "a;c", "a, b;b, c", "a, b;c"]


sizes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@given(sizes)
def test_product_has_every_combination_once(sizes):
    axes = [axis(f"x{i}", list(range(size))) for i, size in enumerate(sizes)]
    rows = product(*axes)
    assert len(rows) == math.prod(sizes)
    combinations = {tuple(row[f"x{i}"] for i in range(len(sizes))) for row in rows.values()}
    assert len(combinations) == math.prod(sizes)
    for name, row in rows.items():
        assert name == ", ".join(f"x{i}={row[f'x{i}']}" for i in range(len(sizes)))


@given(st.integers(1, 4), st.integers(1, 3))
def test_zipped_goes_along_all_axes_together(rows, axes):
    made = zipped(*(axis(f"x{i}", list(range(rows))) for i in range(axes)))
    assert list(made.values()) == [{f"x{i}": row for i in range(axes)} for row in range(rows)]


def test_axes_of_other_lengths_or_of_the_same_value_are_refused():
    with pytest.raises(ConfigError, match="have 2, 3 rows"):
        zipped(axis("a", [1, 2]), axis("b", [1, 2, 3]))
    for combine in (product, zipped):
        with pytest.raises(ConfigError, match="both change width"):
            combine(axis("width", {"x": 1}), axis("width", {"y": 2}))


def test_an_axis_that_would_undo_an_earlier_one_is_refused():
    fusions, widths = axis("model.fusion", {"mean": "mean"}), axis("model.fusion.width", [8])
    assert product(fusions, widths) == {
        "mean, width=8": {"model.fusion": "mean", "model.fusion.width": 8}
    }
    for combine in (product, zipped):
        with pytest.raises(
            ConfigError,
            match=r"model\.fusion replaces model\.fusion\.width.* axis of model\.fusion first",
        ):
            combine(widths, fusions)
    assert product(axis("model.fusion_width", [8]), fusions)  # only begins with the same letters


def test_a_study_of_the_experiment_alone():
    study = Study()
    assert (study.rows, study.columns, study.baseline, study.seeds) == ({}, (), "", 3)
    assert Study(published={"any": {"test/f1": DOE}}).published  # checked once names are known


def test_a_study_with_everything():
    rows = ROWS | {"tuned": Stage("tuned further", {"a": 1}), "tuned further": Stage("mean")}
    study = Study(rows, COLUMNS, {"mean": {"test/loss": DOE}}, baseline="concat", seeds=5)
    assert list(study.rows) == ["concat", "mean", "tuned", "tuned further"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"": {}}}, "The row name ''"),
        ({"rows": {"..": {}}}, r"The row name '\.\.'"),
        ({"rows": {"a/b": {}}}, "leave out slashes"),
        ({"rows": {"a\\b": {}}}, "leave out slashes"),
        ({"rows": {"a\nb": {}}}, "leave out slashes"),
        (
            {"rows": {"a": Stage("a")}},
            "no row for 'a' to start from, called 'a'. None are available",
        ),
        ({"rows": ROWS | {"x": Stage("maen")}}, "called 'maen': did you mean 'mean'"),
        ({"rows": {"a": Stage("b"), "b": Stage("a")}}, r"circle \('a' after 'b' after 'a'\)"),
        (
            {"rows": {"a": Stage("b"), "b": Stage("c"), "c": Stage("b")}},
            "'a' after 'b' after 'c' after 'b'",
        ),
        ({"columns": ("test/loss", "test/loss")}, "name a metric twice"),
        ({"published": {"maen": {}}}, "with published numbers, 'maen': did you mean 'mean'"),
        ({"published": {"mean": {"test/f1": DOE}}}, "of the row 'mean', 'test/f1'"),
        ({"baseline": "conct"}, "as `baseline`, 'conct': did you mean 'concat'"),
        ({"rows": {"Lock": {}}}, "A row cannot be called 'Lock', which is a file of the study"),
        ({"rows": {"é" * 128: {}}}, "is longer than 255 bytes"),
        ({"seeds": 0}, "Study.seeds is 0: it must be 1 or more"),
        ({"once": ("conct",)}, "no row, in `once`, 'conct': did you mean 'concat'"),
        ({"means": {"mean": ("concat",)}}, "A row and a mean are both called 'mean'"),
        ({"means": {"folds": ()}}, r"'folds' is of \(\): list the names of its rows"),
        ({"means": {"folds": "concat"}}, "'folds' is of 'concat': list the names"),
        ({"means": {"folds": ("mean", "mean")}}, "'folds' lists a row twice"),
        ({"means": {"folds": ("conct",)}}, "for the mean 'folds', 'conct': did you mean 'concat'"),
        ({"means": {"a/b": ("mean",)}}, "leave out slashes"),
        (
            {"rows": ROWS | {"tuned": Stage("mean")}, "once": ("mean",)},
            "'tuned' starts from 'mean', of which only one seed is run: list it in `once` too",
        ),
    ],
)
def test_a_study_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Study(**{"rows": ROWS, "columns": COLUMNS} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": math.nan}, "to be finite"),
        ({"value": math.inf}, "to be finite"),
        ({"source": "  "}, "to have a source"),
        ({"std": -0.1}, "standard deviation -0.1"),
        ({"std": math.nan}, "standard deviation nan"),
        ({"std": math.inf}, "standard deviation inf"),
        ({"runs": -1}, "over -1 runs"),
    ],
)
def test_a_published_number_that_is_none_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Published(**{"value": 0.9, "source": "Doe 2020"} | changes)


def test_a_published_number_is_unverified_unless_said():
    assert DOE.certainty == "unverified"
    assert Published(0.9, "Doe 2020", "paper", 0.0, 5).certainty == "paper"
