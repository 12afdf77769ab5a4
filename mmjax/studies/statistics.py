"""Intervals and tests over the seeds of a study.

What is assumed: the seeds of a row are independent draws of the same training, and what they give
is near a normal distribution. The three to ten seeds of a study are too few to check either. Values
that are not finite are left out, so a row in which runs fail looks better than it is: its number of
values says so.

What a test over seeds says: whether two rows would still differ if both were trained again on the
same data, that is with other initialisations, dropout and orders of the examples. It says nothing
about other data: all seeds share one training and one test split, so a difference that is far
beyond the noise of training may still be gone on another sample.

Differences below the rounding of float32, in which metrics are computed, count as none.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

import scipy.stats

from mmjax.studies.study import Published

Verdict = Literal["better", "within the interval", "worse", "no verdict"]

LEVEL = 0.95
ROUNDING = 2.0**-23  # of float32, relative


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Two rows, compared seed by seed.

    Attributes:
        a: name of a row.
        b: name of the other.
        n: seeds in which both have a finite value.
        difference: mean of a minus b over these seeds; None without any.
        interval: Student's 95 % interval of the mean difference; None where p is.
        p: of the two-sided paired t-test. None where there is nothing to test: with fewer than two
            shared seeds, or where the difference is the same in every seed up to rounding (rows
            that are equal, or do not depend on the seed), so that it has no spread to compare with.
        p_corrected: p by Holm's correction for the number of tests of its column.
    """

    a: str
    b: str
    n: int
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_corrected: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Our values beside a published one.

    Attributes:
        difference: our mean minus the published value; None without a value of ours.
        verdict: `within the interval` where the difference may be chance, at 5 %.
        reason: one sentence, why this verdict.
    """

    difference: float | None
    verdict: Verdict
    reason: str


def confidence_interval(
    values: Sequence[float], level: float = LEVEL
) -> tuple[float, float] | None:
    """Student's t interval of the mean: mean ± t s / sqrt(n).

    Args:
        values: one of each run; those that are not finite are left out.
        level: the share of such intervals that hold the true mean.

    Returns:
        Its lower and upper end; None for fewer than two values.
    """
    finite = _finite(values)
    if len(finite) < 2:
        return None
    mean, half = statistics.mean(finite), _half_width(finite, level, more=0.0)
    return mean - half, mean + half


def _half_width(
    finite: Sequence[float], level: float, more: float, least_std: float = 0.0
) -> float:
    """Half of an interval, t s sqrt(more + 1/n): more is 0 for the mean, 1 for one more run."""
    n = len(finite)
    t = float(scipy.stats.t.ppf((1 + level) / 2, n - 1))
    return t * max(statistics.stdev(finite), least_std) * math.sqrt(more + 1 / n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that 5 % bounds the risk of any false finding.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than
    the one before it, or larger than 1.

    Args:
        p_values: of tests that may depend on each other in any way.

    Returns:
        The corrected ones, in the same order.

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def paired_tests(rows: Mapping[str, Mapping[int, float]], baseline: str = "") -> list[PairedTest]:
    """The paired t-test of every pair of rows, over the seeds that both have.

    Args:
        rows: name -> seed -> value; values that are not finite are left out.
        baseline: the row with which alone each other one is compared, as a minus baseline. Where
            it is not among the rows, nothing is compared.

    Returns:
        A test for each pair, in the order of the rows, corrected by Holm for all of them that
        have a p. `PairedTest` says when one has none.
    """
    pairs = (
        [(name, baseline) for name in rows if name != baseline and baseline in rows]
        if baseline
        else list(itertools.combinations(rows, 2))
    )
    tests = [_paired(a, b, rows[a], rows[b]) for a, b in pairs]
    corrected = iter(holm([test.p for test in tests if test.p is not None]))
    return [
        test if test.p is None else dataclasses.replace(test, p_corrected=next(corrected))
        for test in tests
    ]


def _paired(a: str, b: str, of_a: Mapping[int, float], of_b: Mapping[int, float]) -> PairedTest:
    seeds = [
        seed
        for seed in of_a
        if seed in of_b and math.isfinite(of_a[seed]) and math.isfinite(of_b[seed])
    ]
    first, second = [of_a[seed] for seed in seeds], [of_b[seed] for seed in seeds]
    differences = [x - y for x, y in zip(first, second, strict=True)]
    difference = statistics.mean(differences) if differences else None
    if len(seeds) < 2 or _constant(differences, size=max(map(abs, [*first, *second]))):
        return PairedTest(a, b, len(seeds), difference, None, None, None)
    test = scipy.stats.ttest_rel(first, second)
    interval = test.confidence_interval(LEVEL)
    ends = float(interval.low), float(interval.high)
    return PairedTest(a, b, len(seeds), difference, ends, float(test.pvalue), None)


def compare(
    values: Sequence[float], published: Published, lower_is_better: bool = False
) -> Comparison:
    """Whether our runs differ from a published number by more than chance, at 5 %.

    - Published with its standard deviation over two or more runs: Welch's t-test.
    - Published without one: it counts as one run with our spread, and is compared with our 95 %
      prediction interval. Where its standard deviation is known but not over how many runs, the
      larger of the two spreads is taken.
    - Where our runs do not vary: it is compared with our value alone.

    The published number is only known to half a unit of its last digit, so any value within that
    of it would do as well, and the one nearest to ours is compared. Zeros at its end are lost, so
    0.90 is known to 0.05 only; that makes a verdict of better or worse rarer, never more frequent.

    Args:
        values: ours, one of each run; those that are not finite are left out.
        published: the number, its spread and its certainty.
        lower_is_better: whether the smaller number is the better one, as of a loss.
    """
    finite = _finite(values)
    subject = "published value" + (" (unverified)" if published.certainty == "unverified" else "")
    if len(finite) < 2:
        return Comparison(
            finite[0] - published.value if finite else None,
            "no verdict",
            f"There are fewer than two finite values of ours to compare the {subject} with.",
        )
    n, mean, std = len(finite), statistics.mean(finite), statistics.stdev(finite)
    difference = mean - published.value
    half_unit = _half_unit(published.value)
    slack = half_unit + ROUNDING * abs(mean)
    constant = _constant(finite, size=max(map(abs, finite)))
    if published.std is not None and published.runs >= 2 and not (constant and not published.std):
        nearest = math.copysign(max(0.0, abs(difference) - slack), difference)
        test = scipy.stats.ttest_ind_from_stats(
            nearest, std, n, 0.0, published.std, published.runs, equal_var=False
        )
        within = bool(test.pvalue >= 1 - LEVEL)
        reason = (
            f"Welch's test of our {n} runs and the {published.runs} of the {subject} gives "
            f"p = {test.pvalue:.2g}."
        )
    elif constant and not published.std:
        within = abs(difference) <= slack
        reason = (
            f"Our runs do not vary, and their value lies {'within' if within else 'beyond'} the "
            f"rounding of the {subject}, ±{half_unit:g}."
        )
    else:
        half = _half_width(finite, LEVEL, more=1.0, least_std=published.std or 0.0) + slack
        within = abs(difference) <= half
        why = (
            "is of an unknown number of runs and counts as one with the larger spread"
            if published.std
            else "has no spread and counts as one run with ours"
        )
        reason = (
            f"The {subject} {why}: it lies {'within' if within else 'outside'} the 95 % prediction "
            f"interval from {mean - half:.4g} to {mean + half:.4g}."
        )
    if within:
        return Comparison(difference, "within the interval", reason)
    better = (difference < 0) == lower_is_better
    return Comparison(difference, "better" if better else "worse", reason)


def _finite(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values if math.isfinite(value)]


def _constant(values: Sequence[float], size: float) -> bool:
    """Whether values are all the same, up to the rounding of numbers of this size."""
    return statistics.stdev(values) <= ROUNDING * size


def _half_unit(value: float) -> float:
    """Half a unit of the last digit that a number is written with: 0.05 for 28.0."""
    text = repr(value if isinstance(value, int) else float(value))  # a NumPy float names its type
    exponent = Decimal(text).as_tuple().exponent
    assert isinstance(exponent, int), "a published value is finite"
    return 0.5 * 10.0**exponent
