"""Clustering: whether the clusters of a representation agree with the classes."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mmjax.errors import ConfigError, DataError, check_sizes
from mmjax.evaluation.embeddings import check_target
from mmjax.evaluation.evaluator import Evaluator, Neither, Reads, Task, Value
from mmjax.evaluation.features import (
    as_views,
    check_features,
    check_metrics,
    labelled_features,
    name_of,
    reads_of,
)
from mmjax.evaluation.predictor import Predictor, some
from mmjax.evaluation.projections import Projection

RESTARTS = 10  # of k-means; the one with the smallest distances is taken


@dataclasses.dataclass(frozen=True)
class Clustering(Evaluator):
    """Clusters the embeddings of a split without labels, and compares the clusters with classes.

    Gives `{name}_{method}_clustering_accuracy`, see `clustering_accuracy`, and
    `{name}_{method}_nmi`, the mutual information of clusters and classes over the mean of their two
    entropies, both between 0 and 1. `spectral` also gives `{name}_spectral_components`, the number
    of connected components of its graph: if it exceeds the number of clusters, raise `neighbours`.

    The features are not rescaled. k-means has 10 random restarts. It is measured only at the end of
    a run.

    Attributes:
        view: the modality; or several, whose features are concatenated.
        method: `kmeans`; or `spectral`, which is `spectral_embedding` followed by k-means.
        target: name of the target that the clusters are compared with.
        clusters: number of clusters; 0 takes the number of classes.
        neighbours: neighbours of each record in the graph of `spectral`.
        projection: the projection of the embeddings that is clustered, such as CCA(("left",
            "right"), 10); None takes the embeddings themselves.
        name: prefix of the metric names. If empty, the view, with the name of the projection
            before it if one is set, such as `cca10_left`.
        examples: at most so many records of the split, drawn at random, are clustered; 0 for all.
        seed: seed of that draw and of the restarts.

    Reference:
        Wang et al., On Deep Multi-View Representation Learning, ICML 2015 (spectral clustering of
        view 1). Papers differ in what they divide the mutual information by.
    """

    view: str | tuple[str, ...]
    method: Literal["kmeans", "spectral"] = "kmeans"
    target: str = "label"
    clusters: int = 0
    neighbours: int = 10
    projection: Projection | None = None
    name: str = ""
    examples: int = 0
    seed: int = 0
    at_end_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "clusters", "examples", "seed", least=0)
        check_sizes(self, "neighbours")

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return reads_of(as_views(self.view), self.projection, self.target)

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_target(self.target, task)
        check_features(as_views(self.view), self.projection, task)
        check_metrics([f"{e.label}_nmi" for e in task.evaluation if isinstance(e, Clustering)])
        clusters = self.clusters or task.data.targets[self.target].classes
        needed = self._needed(clusters)
        if self.examples and self.examples < needed:
            raise ConfigError(
                f"Clustering.examples is {self.examples}, too few for {clusters} clusters"
                f"{' and ' + str(self.neighbours) + ' neighbours' if self._spectral else ''}: "
                f"set it to {needed} or more."
            )

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        from sklearn.cluster import KMeans  # here, because the import takes a second
        from sklearn.metrics import normalized_mutual_info_score

        inputs, labels = labelled_features(
            predictor, as_views(self.view), split, self.projection, self.target
        )
        chosen = some(len(inputs), self.examples, self.seed)
        inputs, labels = inputs[chosen], labels[chosen]
        clusters = self.clusters or predictor.data.targets[self.target].classes
        if len(inputs) < self._needed(clusters):
            raise DataError(
                f"The split {split!r} has {len(inputs)} records with the view "
                f"{'+'.join(as_views(self.view))!r}, too few to cluster: lower `clusters` or "
                "`neighbours`, or evaluate another split."
            )
        values: dict[str, Value] = {}
        if self._spectral:
            inputs, components = spectral_embedding(
                inputs, clusters, neighbours=self.neighbours, seed=self.seed
            )
            values[f"{self.label}_components"] = Neither(components)
        found = KMeans(clusters, n_init=RESTARTS, random_state=self.seed).fit_predict(inputs)
        return {
            f"{self.label}_clustering_accuracy": clustering_accuracy(labels, found),
            f"{self.label}_nmi": float(normalized_mutual_info_score(labels, found)),
        } | values

    @property
    def label(self) -> str:
        """Prefix of the metric names."""
        return f"{self.name or name_of(as_views(self.view), self.projection)}_{self.method}"

    @property
    def _spectral(self) -> bool:
        return self.method == "spectral"

    def _needed(self, clusters: int) -> int:
        """The fewest records that can be clustered."""
        return max(clusters, self.neighbours) + 1 if self._spectral else clusters


def clustering_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """The accuracy of clusters as classes, under the best one-to-one matching of both.

    A cluster is matched with at most one class and a class with at most one cluster (Hungarian
    method), so records of unmatched clusters count as wrong.

    Args:
        labels: [N], the classes; any integers.
        clusters: [N], the clusters; any integers.

    Returns:
        Above 0, at most 1; does not depend on the numbering of the clusters.

    Raises:
        ConfigError: no records, or not one cluster for each label.
    """
    from scipy.optimize import linear_sum_assignment  # here, because the import takes time

    classes, groups = np.asarray(labels), np.asarray(clusters)
    if classes.ndim != 1 or classes.shape != groups.shape or not classes.size:
        raise ConfigError(
            f"labels has the shape {classes.shape} and clusters {groups.shape}: give two arrays of "
            "the same shape [N], with N at least 1."
        )
    (names, rows), (numbers, columns) = (
        np.unique(values, return_inverse=True) for values in (classes, groups)
    )
    counts = np.zeros((len(names), len(numbers)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    matched = linear_sum_assignment(counts, maximize=True)
    return float(counts[matched].sum() / len(classes))


def spectral_embedding(
    features: Float[np.ndarray, "N D"], clusters: int, *, neighbours: int = 10, seed: int = 0
) -> tuple[Float[np.ndarray, "N E"], int]:
    """Coordinates in which the clusters of normalised spectral clustering are far apart.

        A_ij = 1 if i is one of the neighbours of j, or j of i;   S = Δ^-1/2 A Δ^-1/2,
        Δ the diagonal matrix of the row sums of A

    The rows of the leading eigenvectors of S, scaled to length 1. Each connected component of the
    graph has an eigenvector with eigenvalue 1 in closed form, so separate groups, whose eigenvalues
    are all equal, are found exactly. If there are more components than clusters, all of them are
    kept.

    Args:
        features: one row per record.
        clusters: number of eigenvectors, below N.
        neighbours: nearest neighbours of each record in the graph, below N.
        seed: seed of the start vector of the eigensolver.

    Returns:
        The coordinates, where E is `clusters` or the number of components if that is larger, and
        the number of components.

    Reference:
        Ng, Jordan and Weiss, On Spectral Clustering: Analysis and an algorithm, NIPS 2001.
    """
    from scipy.sparse import diags  # here, because the imports take a second
    from scipy.sparse.csgraph import connected_components
    from scipy.sparse.linalg import LinearOperator, eigsh
    from sklearn.neighbors import kneighbors_graph

    directed = kneighbors_graph(features, neighbours)
    A = directed.maximum(directed.T)
    degree = np.asarray(A.sum(axis=1)).ravel()
    scale = diags(1 / np.sqrt(degree))
    S = (scale @ A @ scale).tocsr()
    components, member = connected_components(A, directed=False)
    known = np.zeros((len(degree), components))
    known[np.arange(len(degree)), member] = np.sqrt(degree)
    known /= np.linalg.norm(known, axis=0)
    if components < clusters:

        def others(x: np.ndarray) -> np.ndarray:
            # Moves the known eigenvectors from eigenvalue 1, the largest, to -1, the smallest.
            return S @ x - 2 * (known @ (known.T @ x))

        missing = clusters - components
        start = np.random.default_rng(seed).uniform(-1, 1, len(degree))
        operator = LinearOperator(S.shape, matvec=others, dtype=S.dtype)
        basis = min(len(degree), max(4 * missing, 40))  # a larger basis needs fewer restarts
        _, found = eigsh(operator, missing, which="LA", v0=start, ncv=basis, tol=1e-8)
        known = np.hstack([known, found])
    return known / np.linalg.norm(known, axis=1, keepdims=True), int(components)
