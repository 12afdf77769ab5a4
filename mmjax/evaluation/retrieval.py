"""Cross-modal retrieval: all examples of one view are ranked for an example of the other."""

import dataclasses
from typing import Literal

import numpy as np

from mmjax.errors import ConfigError, DataError, check_sizes, unknown_name
from mmjax.evaluation.embeddings import check_target
from mmjax.evaluation.evaluator import Evaluator, Lower, Neither, Reads, Task, Value
from mmjax.evaluation.features import check_features, check_metrics, features_of, reads_of
from mmjax.evaluation.predictor import Predictor
from mmjax.evaluation.projections import Projection
from mmjax.evaluation.ranking import (
    average_precision,
    chunks,
    first_places,
    middle,
    random_average_precision,
    share_within,
)
from mmjax.evaluation.semantic import Semantic

Distance = Literal["cosine", "correlation", "euclidean", "l1"]


@dataclasses.dataclass(frozen=True)
class Retrieval(Evaluator):
    """Ranks the examples of one view by their similarity to each example of the other, both ways.

    The embeddings are compared; with a `projection`, projections of them (correlation matching);
    with `semantic`, class probabilities (semantic matching); and with both, class probabilities
    from the projections (semantic correlation matching).

    With a `target`, the candidates of the query's class are relevant, and the metric is the mean
    average precision over the complete ranking, between 0 and 1: `map_{a}_to_{b}` (queries of a),
    `map_{b}_to_{a}`, their mean `map_mean`, and the floor `map_random`, the mean over random
    rankings. Without a target, the candidate of the query's own record is relevant:
    `recall_at_{k}_{a}_to_{b}`, the share of queries with it among the first k, and
    `median_rank_{a}_to_{b}`, 1 at best, both ways, their means `recall_at_{k}_mean` and
    `median_rank_mean`, and what rankings at random give, `recall_at_{k}_random` and
    `median_rank_random`. With `group`, records of one group hold the same item of a, such as one
    picture with five captions: it is one query and one candidate (of its first record), and it
    finds, or is found by, any b of its group. The prefix of the names is `name`, or else the name
    of the projection and `semantic`, such as `cca5_semantic_map_mean`.

    An example without the view is neither a query nor a candidate. Without a `target`, an example
    that has only one of the views is a candidate, but not a query. Candidates of equal score are
    in random order: every metric is the mean over all orders. A vector of zeros has the cosine 0
    with all others.

    Attributes:
        views: the two modalities a and b.
        target: name of the target whose classes are relevant; empty for the records themselves.
        k: values of k for `recall_at`.
        projection: the projection of the embeddings that is compared; None compares the embeddings,
            which must then have one width. Embeddings of an objective of the CCA family need a
            projection, because those of the two views may differ by a rotation.
        semantic: how the class probabilities are found; None compares the features themselves.
        distance: the smallest comes first: one minus the cosine; one minus Pearson's correlation
            of the entries of the two vectors (the cosine after subtracting the mean of each); the
            Euclidean distance; or the L1 distance.
        name: prefix of the metric names, instead of the projection's name.
        group: name of a target of the kind `class`, different for different items of a; empty
            where every record has its own. Only without `target`.

    Reference:
        Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, 2010 (mean average
        precision by class, the three ways of matching); Hodosh, Young and Hockenmaier, Framing
        Image Description as a Ranking Task, 2013 (recall at k, median rank, several captions of a
        picture of which any counts).
    """

    views: tuple[str, str]
    target: str = "label"
    k: tuple[int, ...] = (1, 5, 10)
    projection: Projection | None = None
    semantic: Semantic | None = None
    distance: Distance = "cosine"
    name: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        check_sizes(self, "k")
        if self.group and self.target:
            raise ConfigError(
                f"Retrieval.group {self.group!r} says which records belong together, and "
                f"Retrieval.target {self.target!r} which classes: set target='' or leave out group."
            )
        if len(set(self.k)) != len(self.k):
            raise ConfigError(f"Retrieval.k {self.k} has a number twice: list each once.")

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        semantic = self.semantic.target if self.semantic else ""
        return reads_of(self.views, self.projection, self.target, self.group, semantic)

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        first, second = self.views
        if first == second:
            raise ConfigError(f"Retrieval.views has {first!r} twice: set two different views.")
        if self.target and self.target not in task.data.targets:
            unknown = str(unknown_name("target", self.target, task.data.targets)).rstrip(".")
            raise ConfigError(
                f"{unknown}; set Retrieval.target to one of the kind 'class', or to '' for pairs, "
                "where the partner of its own record is what a query must find."
            )
        for name in filter(None, (self.target, self.group)):
            check_target(name, task)
        widths = check_features(self.views, self.projection, task)
        if self.semantic:
            self.semantic.check(task)
        elif self.distance == "correlation" and 1 in widths.values():
            raise ConfigError(
                "Retrieval.distance is 'correlation', which is undefined for vectors with a single "
                "dimension: choose another distance, or use more dimensions."
            )
        elif widths[first] != widths[second]:
            raise ConfigError(
                f"The embeddings of {first!r} and {second!r} have {widths[first]} and "
                f"{widths[second]} dimensions and cannot be compared: give both the same width in "
                "the model, or set `projection`."
            )
        check_metrics([e.metric for e in task.evaluation if isinstance(e, Retrieval)])

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        first, second = (self._side(predictor, view, split) for view in self.views)
        values: dict[str, list[float]] = {}  # name -> values in both directions
        for queries, candidates in ((first, second), (second, first)):
            if self.target:
                labels = predictor(split).targets[self.target]
                found = _by_class(queries, candidates, labels, self.distance)
            else:
                groups = predictor(split).targets[self.group] if self.group else None
                found = _by_record(queries, candidates, self.k, self.distance, groups)
            for name, value in found.items():
                values.setdefault(name, []).append(value)
        prefix, (a, b) = self._prefix, self.views
        named: dict[str, Value] = {}
        for name, (a_to_b, b_to_a) in values.items():
            mean = (a_to_b + b_to_a) / 2
            if name.endswith("_random"):
                named[f"{prefix}{name}"] = Neither(mean)
                continue
            figure = Lower if name == "median_rank" else float
            named |= {
                f"{prefix}{name}_{a}_to_{b}": figure(a_to_b),
                f"{prefix}{name}_{b}_to_{a}": figure(b_to_a),
                f"{prefix}{name}_mean": figure(mean),
            }
        return named

    def _side(self, predictor: Predictor, view: str, split: str) -> "_Side":
        if self.semantic:
            vectors, rows = self.semantic(predictor, view, split, self.projection)
        else:
            vectors, rows = features_of(predictor, (view,), split, self.projection)
        if self.target or self.group:
            known = predictor(split).known(self.target or self.group)
            vectors, rows = vectors[known[rows]], rows & known
        if self.distance == "correlation":
            vectors = _centred(vectors)
        if self.distance in ("cosine", "correlation"):
            vectors = _unit(vectors)
        records = np.flatnonzero(rows)
        if self.group and view == self.views[0]:  # the first record of each group
            groups = predictor(split).targets[self.group][records]
            first = np.sort(np.unique(groups, return_index=True)[1])
            vectors, records = vectors[first], records[first]
        return _Side(view, vectors, records)

    @property
    def _prefix(self) -> str:
        if self.name:
            return f"{self.name}_"
        projected = f"{self.projection.name}_" if self.projection else ""
        return f"{projected}{'semantic_' if self.semantic else ''}"

    @property
    def metric(self) -> str:
        """The name of the summary metric."""
        return f"{self._prefix}{'map' if self.target else 'median_rank'}_mean"


@dataclasses.dataclass(frozen=True)
class _Side:
    """The examples of a split that have one view."""

    view: str
    vectors: np.ndarray  # [M, D]; of length 1 for the distances `cosine` and `correlation`
    records: np.ndarray  # [M], their indices in the split, increasing


def _similarity(queries: np.ndarray, candidates: np.ndarray, distance: Distance) -> np.ndarray:
    """Scores [Q, N] of the vectors of two `_Side`s; higher is better."""
    if distance in ("cosine", "correlation"):
        return queries @ candidates.T
    from scipy.spatial.distance import cdist  # here, because the import takes half a second

    return -cdist(queries, candidates, "cityblock" if distance == "l1" else distance)


def _by_class(
    queries: _Side, candidates: _Side, labels: np.ndarray, distance: Distance
) -> dict[str, float]:
    query_labels, labels = labels[queries.records], labels[candidates.records]
    answerable = np.isin(query_labels, labels)
    if not answerable.any():
        raise DataError(
            f"No {queries.view!r} has a {candidates.view!r} of its class in the split: evaluate "
            "another split, or remove the evaluation."
        )
    vectors, query_labels = queries.vectors[answerable], query_labels[answerable]
    parts = [
        average_precision(
            _similarity(vectors[part], candidates.vectors, distance),
            query_labels[part, None] == labels,
        )
        for part in chunks(len(vectors), len(labels))
    ]
    classes, counts = np.unique(labels, return_counts=True)
    relevant = counts[np.searchsorted(classes, query_labels)]
    return {
        "map": float(np.concatenate(parts).mean()),
        "map_random": float(random_average_precision(relevant, len(labels)).mean()),
    }


def _by_record(
    queries: _Side,
    candidates: _Side,
    k: tuple[int, ...],
    distance: Distance,
    groups: np.ndarray | None,
) -> dict[str, float]:
    """Recall and median rank, of records or of groups of them.

    Args:
        queries: one of the views.
        candidates: the other one.
        k: see `Retrieval`.
        distance: see `Retrieval`.
        groups: [N] the group of every record of the split; None if each is its own.
    """
    asked, given = queries.records, candidates.records
    if groups is not None:
        asked, given = groups[asked], groups[given]
    paired = np.isin(asked, given)
    if not paired.any():
        raise DataError(
            f"No record of the split has both {queries.view!r} and {candidates.view!r}: evaluate "
            "another split, or remove the evaluation."
        )
    vectors, asked = queries.vectors[paired], asked[paired]
    parts = [
        first_places(
            _similarity(vectors[part], candidates.vectors, distance), asked[part, None] == given
        )
        for part in chunks(len(vectors), len(given))
    ]
    found = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    # At random: as if all candidates had one score.
    kinds, counts = np.unique(given, return_counts=True)
    correct = counts[np.searchsorted(kinds, asked)]
    alike = np.zeros_like(correct), np.full_like(correct, len(given)), correct
    values = {}
    for suffix, (better, equal, among) in (("", found), ("_random", alike)):
        for length in k:
            values[f"recall_at_{length}{suffix}"] = share_within(better, equal, length, among)
        values[f"median_rank{suffix}"] = middle(better, equal, among)
    return values


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _centred(vectors: np.ndarray) -> np.ndarray:
    """Rows minus their means; zeros for rows whose entries differ only by rounding."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    rounding = 8 * np.finfo(vectors.dtype).eps * np.abs(vectors).max(axis=1, keepdims=True)
    return np.where(np.abs(centred).max(axis=1, keepdims=True) > rounding, centred, 0)
