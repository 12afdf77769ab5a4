"""Metrics of rankings: average precision, recall and rank, in expectation over ties."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Real, Shaped

from mmjax.errors import ConfigError

CHUNK = 1 << 20  # scores that are ranked at once: 8 MiB, and about ten times that while ranking


def average_precision(
    scores: Real[np.ndarray, "Q N"], relevant: Shaped[np.ndarray, "_ _"]
) -> Float[np.ndarray, " Q"]:
    """Average precision of each query over its complete ranking.

        mean over the relevant candidates of:  relevant candidates up to its rank / its rank

    Candidates of equal score are in random order, and the result is the mean over these orders, in
    closed form.

    Args:
        scores: of the N candidates for each of the Q queries; higher is better.
        relevant: which candidates are relevant, [Q, N], of bool or of 0 and 1.

    Returns:
        One number per query, above 0 and at most 1; NaN if no candidate is relevant.

    Raises:
        ConfigError: the shapes differ, a score is NaN, or a relevance is neither 0 nor 1.

    Reference:
        McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the
        Presence of Tied Scores, 2008.
    """
    _check_scores(scores)
    if scores.shape != relevant.shape:
        raise ConfigError(
            f"scores has the shape {scores.shape} and relevant {relevant.shape}: give both one "
            "row per query and one column per candidate."
        )
    if relevant.dtype != bool:
        if not np.isin(relevant, (0, 1)).all():
            raise ConfigError(
                "relevant has values other than 0 and 1, and average precision has no grades: give "
                "the candidates that count as relevant, as in relevant >= 1."
            )
        relevant = relevant.astype(bool)
    # Turned round, not negated: unsigned numbers and the least of int8 have no negative.
    order = np.argsort(scores, axis=1)[:, ::-1]
    ranked, hit = (np.take_along_axis(array, order, axis=1) for array in (scores, relevant))
    hits, rank = np.cumsum(hit, axis=1), np.arange(1, scores.shape[1] + 1)
    first = np.ones(scores.shape, bool)  # the first of the candidates of equal score
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    precision = np.where(hit, hits / rank, 0.0)
    tied = ~first.all(axis=1)
    precision[tied] = _tied_precision(hit[tied], hits[tied], first[tied])
    total = relevant.sum(axis=1)
    return np.where(total > 0, precision.sum(axis=1) / np.maximum(total, 1), np.nan)


def _tied_precision(
    hit: Bool[np.ndarray, "Q N"], hits: Int[np.ndarray, "Q N"], first: Bool[np.ndarray, "Q N"]
) -> Float[np.ndarray, "Q N"]:
    """Expected precision at each rank times the probability that its candidate is relevant.

    Among m candidates of equal score, of which t are relevant, the i-th is relevant with
    probability t / m; then (i - 1) (t - 1) / (m - 1) relevant ones are expected before it.
    """
    place = np.broadcast_to(np.arange(hit.shape[1]), hit.shape)
    begin = np.maximum.accumulate(np.where(first, place, 0), axis=1)
    last = np.ones_like(first)
    last[:, :-1] = first[:, 1:]
    ends = np.where(last, place, hit.shape[1])
    end = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    before = np.take_along_axis(hits - hit, begin, axis=1)
    among, size = np.take_along_axis(hits, end, axis=1) - before, end - begin + 1
    earlier = (place - begin) * (among - 1) / np.maximum(size - 1, 1)
    return among / size * (before + 1 + earlier) / (place + 1)


def mean_average_precision(
    scores: Real[np.ndarray, "Q N"], relevant: Shaped[np.ndarray, "_ _"]
) -> float:
    """The mean of `average_precision` over the queries that have a relevant candidate.

    Args:
        scores: of the N candidates for each of the Q queries; higher is better.
        relevant: which candidates are relevant, [Q, N], of bool or of 0 and 1.

    Returns:
        Above 0, at most 1.

    Raises:
        ConfigError: as `average_precision`, or no query has a relevant candidate.
    """
    parts = [average_precision(scores[part], relevant[part]) for part in chunks(*scores.shape)]
    precision = np.concatenate(parts) if parts else np.zeros(0)
    if np.isnan(precision).all():
        raise ConfigError("No query has a relevant candidate: give at least one query that has.")
    return float(np.nanmean(precision))


def random_average_precision(
    relevant: Int[np.ndarray, " Q"], candidates: int
) -> Float[np.ndarray, " Q"]:
    """The mean of the average precision over all orders of the candidates.

        H_N / N + (R - 1) / (N - 1) (1 - H_N / N),   H_N = 1 + 1/2 + ... + 1/N

    Args:
        relevant: number R of relevant candidates of each query, 1 or more.
        candidates: number N of candidates.

    Returns:
        One number per query: slightly above R / N.
    """
    share = (1 / np.arange(1, candidates + 1)).mean()
    return share + (relevant - 1) / max(candidates - 1, 1) * (1 - share)


def recall_at(
    scores: Real[np.ndarray, "Q N"], k: int, matches: Integer[np.ndarray, " _"] | None = None
) -> float:
    """The share of queries whose one correct candidate is among the first k.

    Candidates of equal score are in random order, and the result is the mean over these orders.

    Args:
        scores: of the N candidates for each of the Q queries; higher is better.
        k: number of candidates that count.
        matches: the correct candidate of each query, [Q]; None takes candidate i for query i.

    Returns:
        Between 0 and 1.

    Raises:
        ConfigError: k below 1, no query, a score that is NaN, or fewer candidates than queries
            and no `matches`.
    """
    if k < 1:
        raise ConfigError(f"k is {k}: it must be at least 1.")
    return float(share_within(*places(scores, matches), k))


def median_rank(
    scores: Real[np.ndarray, "Q N"], matches: Integer[np.ndarray, " _"] | None = None
) -> float:
    """The median over the queries of the rank of the one correct candidate, 1 at best.

    Among candidates of equal score it has the middle rank.

    Args:
        scores: of the N candidates for each of the Q queries; higher is better.
        matches: the correct candidate of each query, [Q]; None takes candidate i for query i.

    Returns:
        Between 1 and N.

    Raises:
        ConfigError: as `recall_at`.
    """
    return middle(*places(scores, matches))


def places(
    scores: Real[np.ndarray, "Q N"], matches: Integer[np.ndarray, " _"] | None
) -> tuple[np.ndarray, np.ndarray]:
    """[Q] numbers of candidates with a higher and with an equal score as the correct one.

    The correct candidate counts among those of equal score.
    """
    _check_scores(scores)
    if matches is None:
        matches = np.arange(len(scores))
    count, candidates = scores.shape
    if not 0 < count == len(matches) or matches.min() < 0 or matches.max() >= candidates:
        raise ConfigError(
            f"scores has the shape {scores.shape}, which does not fit {len(matches)} matches: give "
            "one row and one match per query, and one column per candidate."
        )
    parts = []
    for part in chunks(*scores.shape):
        own = np.take_along_axis(scores[part], matches[part, None], axis=1)
        parts.append(((scores[part] > own).sum(axis=1), (scores[part] == own).sum(axis=1)))
    better, equal = zip(*parts, strict=True)
    return np.concatenate(better), np.concatenate(equal)


def first_places(
    scores: Real[np.ndarray, "Q N"], relevant: Bool[np.ndarray, "Q N"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `places`, of the best of several correct candidates.

    Args:
        scores: of the N candidates for each of the Q queries; higher is better.
        relevant: the correct candidates, one or more of each query.

    Returns:
        [Q] numbers of candidates with a higher and with an equal score as the best correct one, and
        of correct ones among those of equal score.
    """
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    equal = scores == best
    return (scores > best).sum(axis=1), equal.sum(axis=1), (equal & relevant).sum(axis=1)


def share_within(
    better: np.ndarray, equal: np.ndarray, k: int, correct: np.ndarray | int = 1
) -> float:
    """The share of queries with a correct candidate among the first k.

    Of `equal` candidates in random order, n = k - better are among the first k. None of the
    `correct` ones is with the probability of `equal` - n over `equal`, for the first of them, times
    the same with one less of each for the next, and so on.

    Args:
        better: [Q], from `places` or `first_places`.
        equal: [Q], as well.
        k: number of candidates that count.
        correct: [Q], from `first_places`; 1 for `places`.
    """
    drawn, missed = np.clip(k - better, 0, equal), np.ones(len(equal))
    for number in range(int(np.max(correct))):
        left = np.clip((equal - number - drawn) / np.maximum(equal - number, 1), 0, 1)
        missed *= np.where(number < correct, left, 1)
    return float(1 - missed.mean())


def middle(better: np.ndarray, equal: np.ndarray, correct: np.ndarray | int = 1) -> float:
    """The median over the queries of the mean rank of the first correct candidate.

    Arguments are those of `share_within`: the first of t among m in random order is, in the mean,
    at (m + 1) / (t + 1).
    """
    return float(np.median(better + (equal + 1) / (correct + 1)))


def chunks(queries: int, candidates: int) -> Iterator[slice]:
    """Slices of the queries whose scores are ranked at once."""
    rows = max(CHUNK // max(candidates, 1), 1)
    return (slice(start, start + rows) for start in range(0, queries, rows))


def _check_scores(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise ConfigError("scores has NaN values: remove or replace them.")
