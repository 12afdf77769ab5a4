"""Intervals and tests against SciPy, Holm against closed testing, and where there is no verdict."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.studies.statistics import (
    compare,
    confidence_interval,
    holm,
    paired_tests,
)
from mmjax.studies.study import Published

VALUES = [0.91, 0.95, 0.93, 0.97]


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_students(level):
    mean, s, n = np.mean(VALUES), np.std(VALUES, ddof=1), len(VALUES)
    t = scipy.stats.t(n - 1, loc=mean, scale=s / n**0.5)
    assert confidence_interval(VALUES, level) == pytest.approx(t.interval(level))


def test_intervals_of_few_constant_and_broken_values():
    for values in ([], [0.5], [0.5, math.nan]):
        assert confidence_interval(values) is None
    assert confidence_interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    assert confidence_interval([*VALUES, math.inf, math.nan]) == confidence_interval(VALUES)


def test_intervals_hold_what_they_promise_in_95_of_100_studies():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(2000, 4))
    studies = [row.tolist() for row in draws]
    means = [confidence_interval(study[:3]) for study in studies]
    assert sum(low <= 3.0 <= high for low, high in means) / 2000 == pytest.approx(0.95, abs=0.015)
    runs = [compare(study[:3], Published(study[3], "one more run")) for study in studies]
    within = sum(found.verdict == "within the interval" for found in runs)
    assert within / 2000 == pytest.approx(0.95, abs=0.015)


def test_holm_of_a_worked_example():
    # m = 4, ascending 0.005, 0.01, 0.03, 0.04: 4 * 0.005, 3 * 0.01, 2 * 0.03, then not below that
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([0.0, 0.01, 0.02, 1.0]), st.floats(0, 1)), max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p):
    # The corrected p of a test is the largest Bonferroni p of all the sets of tests that hold it.
    indices = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(indices, size)]
    expected = [
        max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in indices
    ]
    assert holm(p) == pytest.approx(expected)


ROWS = {
    "concat": {0: 0.90, 1: 0.93, 2: 0.91, 3: 0.95},
    "mean": {2: 0.85, 1: 0.88, 0: 0.86, 7: 0.1},
    "gated": {0: 0.91, 1: 0.92, 2: 0.94, 3: math.nan},
}


def test_paired_tests_are_scipys_over_the_shared_seeds():
    tests = paired_tests(ROWS)
    assert [(test.a, test.b) for test in tests] == [
        ("concat", "mean"),
        ("concat", "gated"),
        ("mean", "gated"),
    ]
    for test in tests:
        a, b = ([ROWS[name][seed] for seed in (0, 1, 2)] for name in (test.a, test.b))
        expected = scipy.stats.ttest_rel(a, b)
        assert test.n == 3
        assert test.difference == pytest.approx(np.mean(a) - np.mean(b))
        assert test.p == pytest.approx(expected.pvalue)
        assert test.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert [test.p_corrected for test in tests] == holm([test.p for test in tests])


def test_a_baseline_is_compared_with_each_other_row():
    tests = paired_tests(ROWS, baseline="mean")
    assert [(test.a, test.b) for test in tests] == [("concat", "mean"), ("gated", "mean")]
    assert all(test.difference > 0 for test in tests)
    assert [test.p_corrected for test in tests] == holm([test.p for test in tests])
    assert paired_tests({"concat": ROWS["concat"]}, baseline="mean") == []


@pytest.mark.parametrize(
    ("other", "n", "difference"),
    [
        ({0: 1.0, 1: 2.0, 2: 4.0}, 3, 0.0),
        ({0: 0.9, 1: 1.9, 2: 3.9}, 3, 0.1),  # 0.1 but for rounding, which is no spread
        ({0: 1.0 + 1e-8, 1: 2.0 - 1e-8, 2: 4.0}, 3, 0.0),
        ({2: 3.0, 7: 1.0}, 1, 1.0),
        ({7: 1.0}, 0, None),
        ({0: math.nan, 1: math.inf, 2: 3.0}, 1, 1.0),
    ],
)
def test_no_p_without_a_spread_of_differences(other, n, difference):
    rows = {"a": {0: 1.0, 1: 2.0, 2: 4.0}, "b": other, "c": {0: 1.5, 1: 1.9, 2: 3.0}}
    test, against_c, *_ = paired_tests(rows)
    assert (test.n, test.p, test.interval, test.p_corrected) == (n, None, None, None)
    assert test.difference == (None if difference is None else pytest.approx(difference))
    assert against_c.p is not None  # and this one is not corrected for the one without p
    tested = [each.p for each in paired_tests(rows) if each.p is not None]
    assert against_c.p_corrected == pytest.approx(min(1.0, len(tested) * against_c.p))


def test_zeros_everywhere_give_no_p():
    (test,) = paired_tests({"a": {0: 0.0, 1: 0.0}, "b": {0: 0.0, 1: 0.0}})
    assert (test.difference, test.p) == (0.0, None)


def test_a_spread_above_float32_rounding_is_tested():
    a = {seed: 100.0 + 1e-4 * value for seed, value in enumerate((1.0, 3.0, 2.0))}
    (test,) = paired_tests({"a": a, "b": dict.fromkeys(range(3), 100.0)})
    assert test.p is not None


def test_a_published_spread_gives_welchs_test():
    ours = [0.90, 0.92, 0.93, 0.90]
    for value in (0.60, 0.86, 0.90, 0.95, 1.2):
        published = Published(value, "Doe 2020, Table 2", "paper", std=0.01, runs=5)
        mean = np.mean(ours)
        slack = 0.05 if value in (0.6, 0.9, 1.2) else 0.005  # half of the last digit of the number
        nearest = np.clip(mean, value - slack, value + slack)
        p = scipy.stats.ttest_ind_from_stats(
            mean, np.std(ours, ddof=1), 4, nearest, 0.01, 5, equal_var=False
        ).pvalue
        better = "better" if mean > value else "worse"
        found = compare(ours, published)
        assert found.difference == pytest.approx(mean - value)
        assert found.verdict == (better if p < 0.05 else "within the interval")
        assert f"gives p = {p:.2g}." in found.reason


def test_welchs_test_where_one_side_does_not_vary():
    constant, varying = [0.5, 0.5, 0.5], [0.50, 0.52, 0.54]
    spread = Published(0.4, "Doe 2020", std=0.05, runs=9)
    # t = (0.1 - 0.05) / (0.05 / 3) = 3 at 8 degrees of freedom: p = 0.017
    assert compare(constant, spread).verdict == "better"
    assert "p = 0.017" in compare(constant, spread).reason
    none = Published(0.41, "Doe 2020", std=0.0, runs=9)
    assert compare(varying, none).verdict == "better"
    assert "Welch" in compare(varying, none).reason
    assert "do not vary" in compare(constant, none).reason


@pytest.mark.parametrize(
    ("value", "verdict", "opposite"),
    [
        (0.94, "within the interval", "within the interval"),
        (0.8482, "within the interval", "within the interval"),
        (0.84807, "better", "worse"),
        (0.848, "within the interval", "within the interval"),  # it may be 0.8484
        (0.847, "better", "worse"),
        (0.8, "within the interval", "within the interval"),  # it may be 0.849
        (1.0319, "within the interval", "within the interval"),
        (1.03193, "worse", "better"),
    ],
)
def test_without_a_spread_a_published_value_counts_as_one_run(value, verdict, opposite):
    scale = np.std(VALUES, ddof=1) * (1 + 1 / 4) ** 0.5
    ends = scipy.stats.t(3, loc=0.94, scale=scale).interval(0.95)
    assert ends == pytest.approx((0.84813, 1.03187), abs=1e-5)
    found = compare(VALUES, Published(value, "Doe 2020"))
    assert (found.verdict, found.difference) == (verdict, pytest.approx(0.94 - value))
    assert "no spread" in found.reason
    assert compare(VALUES, Published(value, "Doe 2020"), lower_is_better=True).verdict == opposite


def test_a_published_spread_of_unknown_runs_widens_the_interval():
    alone = compare(VALUES, Published(1.2, "Doe 2020"))
    wide = compare(VALUES, Published(1.2, "Doe 2020", std=0.2))
    assert (alone.verdict, wide.verdict) == ("worse", "within the interval")
    assert "unknown number of runs" in wide.reason
    constant = compare([0.94, 0.94], Published(1.2, "Doe 2020", std=0.2))
    assert constant.verdict == "within the interval"


@pytest.mark.parametrize(
    ("ours", "value", "verdict"),
    [
        (28.04, 28.0, "within the interval"),
        (28.05, 28.0, "within the interval"),
        (28.06, 28.0, "better"),
        (27.94, 28.0, "worse"),
        (28.006, 28.01, "within the interval"),
        (28.004, 28.01, "worse"),
        (0.0000104, 0.00001, "within the interval"),
        (0.000016, 0.00001, "better"),
    ],
)
def test_runs_that_do_not_vary_are_compared_with_the_rounding(ours, value, verdict):
    found = compare([ours, ours, ours * (1 + 1e-9)], Published(value, "Doe 2020", "secondary"))
    assert found.verdict == verdict
    assert "do not vary" in found.reason


def test_fewer_than_two_values_give_a_difference_and_no_verdict():
    published = Published(39.7, "Doe 2020", "paper", std=1.0, runs=5)
    one = compare([46.0], published)
    assert (one.verdict, one.difference) == ("no verdict", pytest.approx(6.3))
    assert compare([46.0, math.nan], published) == one
    none = compare([], published)
    assert (none.verdict, none.difference) == ("no verdict", None)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], VALUES])
@pytest.mark.parametrize(("std", "runs"), [(None, 0), (0.1, 0), (0.1, 4), (0.0, 4)])
def test_every_reason_is_a_short_sentence_that_says_unverified(values, std, runs):
    for certainty in ("unverified", "paper"):
        published = Published(0.7, "Doe 2020", certainty, std=std, runs=runs)
        reason = compare(values, published).reason
        assert ("unverified" in reason) == (certainty == "unverified")
        assert reason.endswith(".")
        assert reason.count(". ") == 0
        assert reason[0].isupper()
        assert len(reason) < 180
