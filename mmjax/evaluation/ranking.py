"""What rankings are worth: average precision, recall and rank, with ties counted as chance."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from mmjax.errors import ConfigError

CHUNK = 1 << 20  # scores that are ranked at once: 8 MiB, and some ten times that while they are


def average_precision(
    scores: Float[np.ndarray, "Q N"], relevant: Bool[np.ndarray, "_ _"]
) -> Float[np.ndarray, " Q"]:
    """Average precision of each query over its whole ranking.

        mean over the relevant candidates of:  relevant ones up to it / rank of it

    Candidates of equal score stand in random order, and the result is the mean over these orders,
    in closed form.

    Args:
        scores: of the N candidates for each of the Q queries, the larger the better.
        relevant: which candidates are relevant, [Q, N].

    Returns:
        One number a query, above 0 and at most 1; NaN where no candidate is relevant.

    Raises:
        ConfigError: the shapes differ, or a score is no number.

    Reference:
        McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the
        Presence of Tied Scores, 2008.
    """
    _check_scores(scores)
    if scores.shape != relevant.shape:
        raise ConfigError(
            f"scores has the shape {scores.shape} and relevant {relevant.shape}: give both one "
            "row a query and one column a candidate."
        )
    order = np.argsort(-scores, axis=1)
    ranked, hit = (np.take_along_axis(array, order, axis=1) for array in (scores, relevant))
    hits, rank = np.cumsum(hit, axis=1), np.arange(1, scores.shape[1] + 1)
    first = np.ones(scores.shape, bool)  # of the candidates of one score
    first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    precision = np.where(hit, hits / rank, 0.0)
    tied = ~first.all(axis=1)
    precision[tied] = _tied_precision(hit[tied], hits[tied], first[tied])
    total = relevant.sum(axis=1)
    return np.where(total > 0, precision.sum(axis=1) / np.maximum(total, 1), np.nan)


def _tied_precision(
    hit: Bool[np.ndarray, "Q N"], hits: Int[np.ndarray, "Q N"], first: Bool[np.ndarray, "Q N"]
) -> Float[np.ndarray, "Q N"]:
    """Expected precision at each place times the probability that a relevant candidate is there.

    Among m candidates of one score, t of them relevant and r ranked before, the i-th place holds a
    relevant one with probability t / m, and then (i - 1) (t - 1) / (m - 1) are expected before it.
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
    scores: Float[np.ndarray, "Q N"], relevant: Bool[np.ndarray, "_ _"]
) -> float:
    """The mean of `average_precision` over the queries that have a relevant candidate.

    Args:
        scores: of the N candidates for each of the Q queries, the larger the better.
        relevant: which candidates are relevant, [Q, N].

    Returns:
        Above 0, at most 1.

    Raises:
        ConfigError: as `average_precision`, or no query has a relevant candidate.
    """
    each = [average_precision(scores[part], relevant[part]) for part in chunks(*scores.shape)]
    found = np.concatenate(each) if each else np.zeros(0)
    if np.isnan(found).all():
        raise ConfigError("No query has a relevant candidate: give at least one that has.")
    return float(np.nanmean(found))


def random_average_precision(
    relevant: Int[np.ndarray, " Q"], candidates: int
) -> Float[np.ndarray, " Q"]:
    """The mean of the average precision over all orders of the candidates.

        H_N / N + (R - 1) / (N - 1) (1 - H_N / N),   H_N = 1 + 1/2 + ... + 1/N

    Args:
        relevant: number R of relevant candidates of each query, 1 or more.
        candidates: number N of candidates.

    Returns:
        One number a query: a little above R / N.
    """
    share = (1 / np.arange(1, candidates + 1)).mean()
    return share + (relevant - 1) / max(candidates - 1, 1) * (1 - share)


def recall_at(
    scores: Float[np.ndarray, "Q N"], k: int, matches: Int[np.ndarray, " _"] | None = None
) -> float:
    """The share of queries whose one right candidate is among the first k.

    Candidates of equal score stand in random order, and the result is the mean over these orders.

    Args:
        scores: of the N candidates for each of the Q queries, the larger the better.
        k: length of the list.
        matches: the right candidate of each query, [Q]; None takes candidate i for query i.

    Returns:
        Between 0 and 1.

    Raises:
        ConfigError: k below 1, no query, a score that is no number, or fewer candidates than
            queries and no `matches`.
    """
    if k < 1:
        raise ConfigError(f"k={k} must be at least 1.")
    return float(share_within(*places(scores, matches), k))


def median_rank(
    scores: Float[np.ndarray, "Q N"], matches: Int[np.ndarray, " _"] | None = None
) -> float:
    """The median over the queries of the rank of the one right candidate, 1 at best.

    Among candidates of equal score it stands in the middle.

    Args:
        scores: of the N candidates for each of the Q queries, the larger the better.
        matches: the right candidate of each query, [Q]; None takes candidate i for query i.

    Returns:
        Between 1 and N.

    Raises:
        ConfigError: as `recall_at`.
    """
    return middle(*places(scores, matches))


def places(
    scores: Float[np.ndarray, "Q N"], matches: Int[np.ndarray, " _"] | None
) -> tuple[np.ndarray, np.ndarray]:
    """How many candidates are better than the right one, and how many as good, itself included."""
    _check_scores(scores)
    if matches is None:
        matches = np.arange(len(scores))
    count, candidates = scores.shape
    if not 0 < count == len(matches) or matches.min() < 0 or matches.max() >= candidates:
        raise ConfigError(
            f"scores has the shape {scores.shape} and there are {len(matches)} matches: give one "
            "row and one match a query, and a column for each candidate."
        )
    parts = []
    for part in chunks(*scores.shape):
        own = np.take_along_axis(scores[part], matches[part, None], axis=1)
        parts.append(((scores[part] > own).sum(axis=1), (scores[part] == own).sum(axis=1)))
    better, equal = zip(*parts, strict=True)
    return np.concatenate(better), np.concatenate(equal)


def share_within(better: np.ndarray, equal: np.ndarray, k: int) -> float:
    """The share of right candidates among the first k, by `places`."""
    return float(np.clip((k - better) / equal, 0, 1).mean())


def middle(better: np.ndarray, equal: np.ndarray) -> float:
    """The median rank, by `places`."""
    return float(np.median(better + (equal + 1) / 2))


def chunks(queries: int, candidates: int) -> Iterator[slice]:
    """Parts of the queries whose scores are ranked at once."""
    rows = max(CHUNK // max(candidates, 1), 1)
    return (slice(start, start + rows) for start in range(0, queries, rows))


def _check_scores(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise ConfigError("scores holds values that are no numbers: remove or fix them.")
