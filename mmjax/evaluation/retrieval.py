"""Cross-modal retrieval: an example of one view ranks all examples of the other."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist

from mmjax.errors import ConfigError, DataError, check_sizes
from mmjax.evaluation.features import check_features, check_metrics, check_target, features_of
from mmjax.evaluation.projections import Projection
from mmjax.evaluation.semantic import Semantic
from mmjax.training.experiment import Evaluator, Experiment, Value
from mmjax.training.predictions import Predictor

CHUNK = 1 << 20  # scores that are ranked at once: 8 MiB, and some ten times that while they are

Distance = Literal["cosine", "correlation", "euclidean", "l1"]


@dataclasses.dataclass(frozen=True)
class Retrieval(Evaluator):
    """Each example of a view ranks those of the other by their likeness, both ways.

    What is compared are the embeddings; with a `projection`, projections of them (correlation
    matching), with `semantic` the probabilities of the classes (semantic matching), and with both
    the probabilities by the projections (semantic correlation matching).

    With a `target`, the candidates of the query's class are relevant, and what is measured is the
    mean average precision over the whole ranking, between 0 and 1: `map_{a}_to_{b}` (queries of a),
    `map_{b}_to_{a}`, their mean `map_mean`, and `map_random`, what rankings at random give on
    average: the floor. Without one, the candidate of the query's own record is relevant:
    `recall_at_{k}_{a}_to_{b}`, the share of queries that rank it among the first k, and
    `median_rank_{a}_to_{b}`, 1 at best, both ways, and the means `recall_at_{k}_mean` and
    `median_rank_mean`. The names begin with `name` or else with that of the projection and with
    `semantic`, such as `cca5_semantic_map_mean`.

    An example whose view is absent is neither a query nor a candidate; one whose other view is
    absent has no record to find and is a candidate only, unless there is a `target`. Candidates of
    equal score are taken to stand in random order: every figure is the mean over all orders. A
    vector of zeros has the cosine 0 with all others.

    Attributes:
        views: the two modalities a and b.
        target: name of the target whose classes are relevant; empty for the records themselves.
        k: lengths of the lists of `recall_at`.
        projection: whose projections of the embeddings are compared; None compares the embeddings,
            which then have one width. Only the former does justice to embeddings of an objective of
            the CCA family: those of the two views may differ by a rotation.
        semantic: how the probabilities are found; None compares the features themselves.
        distance: the least comes first: one minus the cosine, one minus Pearson's correlation of
            the entries of the two vectors (the cosine once each has its own mean taken off), the
            length of the difference, or the sum of its absolute entries.
        name: what the names of the metrics begin with in place of the projection's.

    Reference:
        Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, 2010 (mean average
        precision by class, the three ways of matching); Hodosh, Young and Hockenmaier, Framing
        Image Description as a Ranking Task, 2013 (recall at k, median rank).
    """

    views: tuple[str, str]
    target: str = "label"
    k: tuple[int, ...] = (1, 5, 10)
    projection: Projection | None = None
    semantic: Semantic | None = None
    distance: Distance = "cosine"
    name: str = ""

    def __post_init__(self) -> None:
        check_sizes(self, "k")
        if len(set(self.k)) != len(self.k):
            raise ConfigError(f"Retrieval.k {self.k} names a number twice: name each once.")

    def check(self, experiment: Experiment) -> None:
        """See `Evaluator.check`."""
        first, second = self.views
        if first == second:
            raise ConfigError(f"Retrieval needs two views and was given {first!r} twice: name two.")
        if self.target:
            check_target(self.target, experiment)
        widths = check_features(self.views, self.projection, experiment)
        if self.semantic:
            self.semantic.check(experiment)
        elif self.distance == "correlation" and 1 in widths.values():
            raise ConfigError(
                "Retrieval.distance is 'correlation', which a single dimension does not have: take "
                "another, or more dimensions."
            )
        elif widths[first] != widths[second]:
            raise ConfigError(
                f"The embeddings of {first!r} and {second!r} have {widths[first]} and "
                f"{widths[second]} dimensions and cannot be compared: give the model one width "
                "for both, or set `projection`."
            )
        check_metrics([e.metric for e in experiment.evaluation if isinstance(e, Retrieval)])

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        first, second = (self._side(predictor, view, split) for view in self.views)
        values: dict[str, list[float]] = {}  # both ways
        for queries, candidates in ((first, second), (second, first)):
            if self.target:
                found = _by_class(
                    queries, candidates, predictor(split).targets[self.target], self.distance
                )
            else:
                found = _by_record(queries, candidates, self.k, self.distance)
            for name, value in found.items():
                values.setdefault(name, []).append(value)
        prefix, (a, b) = self._prefix, self.views
        named: dict[str, Value] = {}
        for name, (forth, back) in values.items():
            if name != "map_random":
                named |= {f"{prefix}{name}_{a}_to_{b}": forth, f"{prefix}{name}_{b}_to_{a}": back}
            mean = name if name == "map_random" else f"{name}_mean"
            named[f"{prefix}{mean}"] = (forth + back) / 2
        return named

    def _side(self, predictor: Predictor, view: str, split: str) -> "_Side":
        if self.semantic:
            vectors, rows = self.semantic(predictor, view, split, self.projection)
        else:
            vectors, rows = features_of(predictor, (view,), split, self.projection)
        if self.distance == "correlation":
            vectors = _centred(vectors)
        if self.distance in ("cosine", "correlation"):
            vectors = _unit(vectors)
        return _Side(view, vectors, np.flatnonzero(rows))

    @property
    def _prefix(self) -> str:
        if self.name:
            return f"{self.name}_"
        projected = f"{self.projection.name}_" if self.projection else ""
        return f"{projected}{'semantic_' if self.semantic else ''}"

    @property
    def metric(self) -> str:
        """The name of the metric that sums the others up."""
        return f"{self._prefix}{'map' if self.target else 'median_rank'}_mean"


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
    each = [average_precision(scores[part], relevant[part]) for part in _chunks(*scores.shape)]
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
    return float(_share_within(*_places(scores, matches), k))


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
    return _middle(*_places(scores, matches))


def _places(
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
    for part in _chunks(*scores.shape):
        own = np.take_along_axis(scores[part], matches[part, None], axis=1)
        parts.append(((scores[part] > own).sum(axis=1), (scores[part] == own).sum(axis=1)))
    better, equal = zip(*parts, strict=True)
    return np.concatenate(better), np.concatenate(equal)


def _share_within(better: np.ndarray, equal: np.ndarray, k: int) -> float:
    return float(np.clip((k - better) / equal, 0, 1).mean())


def _middle(better: np.ndarray, equal: np.ndarray) -> float:
    return float(np.median(better + (equal + 1) / 2))


@dataclasses.dataclass(frozen=True)
class _Side:
    """The examples of a split that have one view."""

    view: str
    vectors: np.ndarray  # [M, D]; of length 1 where the distance is of their angle
    records: np.ndarray  # [M], their numbers in the split, rising


def _likeness(queries: np.ndarray, candidates: np.ndarray, distance: Distance) -> np.ndarray:
    """Scores [Q, N] of rows as `Retrieval._side` gives them."""
    if distance in ("cosine", "correlation"):
        return queries @ candidates.T
    return -cdist(queries, candidates, "cityblock" if distance == "l1" else distance)


def _by_class(
    queries: _Side, candidates: _Side, labels: np.ndarray, distance: Distance
) -> dict[str, float]:
    asked, there = labels[queries.records], labels[candidates.records]
    known = np.isin(asked, there)
    if not known.any():
        raise DataError(
            f"No {queries.view!r} has a {candidates.view!r} of its class in the split: evaluate "
            "another split, or leave the evaluation out."
        )
    vectors, asked = queries.vectors[known], asked[known]
    each = [
        average_precision(
            _likeness(vectors[part], candidates.vectors, distance), asked[part, None] == there
        )
        for part in _chunks(len(vectors), len(there))
    ]
    names, counts = np.unique(there, return_counts=True)
    relevant = counts[np.searchsorted(names, asked)]
    return {
        "map": float(np.concatenate(each).mean()),
        "map_random": float(random_average_precision(relevant, len(there)).mean()),
    }


def _by_record(
    queries: _Side, candidates: _Side, k: tuple[int, ...], distance: Distance
) -> dict[str, float]:
    paired = np.isin(queries.records, candidates.records)
    if not paired.any():
        raise DataError(
            f"No record of the split has both {queries.view!r} and {candidates.view!r}: evaluate "
            "another split, or leave the evaluation out."
        )
    vectors = queries.vectors[paired]
    matches = np.searchsorted(candidates.records, queries.records[paired])
    parts = [
        _places(_likeness(vectors[part], candidates.vectors, distance), matches[part])
        for part in _chunks(len(vectors), len(candidates.vectors))
    ]
    better, equal = (np.concatenate(column) for column in zip(*parts, strict=True))
    values = {f"recall_at_{length}": _share_within(better, equal, length) for length in k}
    return values | {"median_rank": _middle(better, equal)}


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _centred(vectors: np.ndarray) -> np.ndarray:
    """Rows without their means; zeros where only rounding tells the entries of a row apart."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    rounding = 8 * np.finfo(vectors.dtype).eps * np.abs(vectors).max(axis=1, keepdims=True)
    return np.where(np.abs(centred).max(axis=1, keepdims=True) > rounding, centred, 0)


def _chunks(queries: int, candidates: int) -> Iterator[slice]:
    rows = max(CHUNK // max(candidates, 1), 1)
    return (slice(start, start + rows) for start in range(0, queries, rows))


def _check_scores(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise ConfigError("scores holds values that are no numbers: remove or mend them.")
