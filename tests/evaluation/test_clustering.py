"""Clustering: the matching in closed form, groups that are there, and what is refused."""

import dataclasses
import itertools

import numpy as np
import pytest
from representations import VIEWS, experiment, predictor, without
from sklearn.neighbors import kneighbors_graph

from mmjax.cca import LinearCCA
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import CCA, Clustering, clustering_accuracy
from mmjax.evaluation.clustering import spectral_embedding


@pytest.mark.parametrize(
    ("labels", "clusters", "accuracy"),
    [
        ([0, 0, 1, 1, 2, 2], [5, 5, 3, 3, -1, -1], 1),
        ([7], [0], 1),
        # Counts [[5, 1], [2, 2]]: 5 + 2 of 10. Counts [[3, 2], [3, 0]]: 2 + 3 of 8, not 3 + 0.
        ([0] * 6 + [1] * 4, [0] * 5 + [1] + [0] * 2 + [1] * 2, 0.7),
        ([0] * 5 + [1] * 3, [0] * 3 + [1] * 2 + [0] * 3, 5 / 8),
        ([0, 0, 0, 1], [4, 4, 4, 4], 3 / 4),  # one cluster: the largest class
        ([0, 0, 0, 0], [0, 1, 2, 3], 1 / 4),  # a class is matched once
    ],
)
def test_accuracy_in_closed_form(labels, clusters, accuracy):
    assert clustering_accuracy(labels, clusters) == accuracy


def test_accuracy_is_that_of_the_best_renumbering():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 4, (2, 50))
    renumbered = [np.array(order)[clusters] for order in itertools.permutations(range(4))]
    assert clustering_accuracy(labels, clusters) == max((r == labels).mean() for r in renumbered)
    assert len({clustering_accuracy(labels, r) for r in renumbered}) == 1


@pytest.mark.parametrize("wrong", [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_accuracy_refuses(wrong):
    with pytest.raises(ConfigError, match="give two arrays of the same shape"):
        clustering_accuracy(*wrong)


def blobs(counts, spread, seed=0):
    """Groups about the corners of a simplex, of `counts` records each."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return spread * np.eye(len(counts))[labels] + rng.standard_normal((len(labels), len(counts)))


def test_spectral_embedding_is_that_of_the_leading_eigenvectors():
    features = blobs([40, 30, 30], spread=3)
    found, components = spectral_embedding(features, 4, neighbours=8)
    graph = kneighbors_graph(features, 8).toarray()
    A = np.maximum(graph, graph.T)
    degree = A.sum(axis=1)
    eigenvalues, vectors = np.linalg.eigh(A / np.sqrt(degree[:, None] * degree))
    assert components == 1 == np.sum(eigenvalues > 1 - 1e-9)
    expected = vectors[:, -4:] / np.linalg.norm(vectors[:, -4:], axis=1, keepdims=True)
    # Products, for a basis of the same space may be turned; 1e-5: tolerance of the search.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-5)


@pytest.mark.parametrize("clusters", [3, 6, 8])
def test_separate_groups_are_found_whatever_their_number(clusters):
    counts = [12, 15, 20, 25, 30, 40]
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(6), counts))
    features = 1000 * np.eye(6)[labels] + rng.standard_normal((len(labels), 6))
    found, components = spectral_embedding(features, clusters, neighbours=8)
    assert components == 6
    assert found.shape == (sum(counts), max(clusters, 6))
    apart = labels[:, None] != labels
    np.testing.assert_allclose((found @ found.T)[apart], 0, atol=1e-6)  # tolerance of the search
    if clusters <= 6:
        np.testing.assert_allclose((found @ found.T)[~apart], 1, atol=1e-6)


def test_negative_eigenvalues_hide_no_eigenvector():
    # All are neighbours of all: eigenvalue 1 once, and all others are -1 / 11.
    features = np.random.default_rng(0).standard_normal((12, 2))
    found, components = spectral_embedding(features, 3, neighbours=11)
    assert components == 1
    assert np.linalg.matrix_rank(found, tol=1e-6) == 3


def rings(size=250):
    """A ring about another: no two centres can tell them apart, neighbours can."""
    rng = np.random.default_rng(0)
    labels, angles = np.arange(size) % 2, rng.uniform(0, 2 * np.pi, size)
    radii = 1 + 3 * labels + 0.1 * rng.standard_normal(size)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1), labels


def test_both_methods_on_rings():
    inputs, labels = rings()
    made = predictor({"test": ({"left": inputs}, labels)})
    spectral = Clustering("left", "spectral", clusters=2)(made, "test")
    assert spectral == {
        "left_spectral_clustering_accuracy": 1,
        "left_spectral_nmi": pytest.approx(1),
        "left_spectral_components": 2,
    }
    kmeans = Clustering("left", clusters=2)(made, "test")
    assert kmeans.keys() == {"left_kmeans_clustering_accuracy", "left_kmeans_nmi"}
    assert 0.5 <= kmeans["left_kmeans_clustering_accuracy"] < 0.75
    assert 0 <= kmeans["left_kmeans_nmi"] < 0.2


def classes(size=250, seed=0):  # up to 256, k-means keeps to one thread
    """The ten classes, far apart in the first ten columns of either view."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, size)
    shared = 12 * np.eye(10)[labels] + rng.standard_normal((size, 10))
    return {view: shared + 0.1 * rng.standard_normal((size, 10)) for view in VIEWS}, labels


@pytest.mark.parametrize("method", ["kmeans", "spectral"])
def test_as_many_clusters_as_classes_by_default(method):
    made = predictor({"test": classes()})
    found = Clustering("left", method)(made, "test")
    assert found[f"left_{method}_clustering_accuracy"] == 1
    assert found[f"left_{method}_nmi"] == pytest.approx(1)
    assert Clustering("left", method)(made, "test") == found


def test_no_groups_no_information():
    rng = np.random.default_rng(0)
    made = {"test": ({"left": rng.standard_normal((250, 3))}, rng.integers(0, 10, 250))}
    found = Clustering("left")(predictor(made), "test")
    assert 0.1 < found["left_kmeans_clustering_accuracy"] < 0.25  # the matching lifts it above 0.1
    assert found["left_kmeans_nmi"] < 0.12


def test_projections_are_fitted_on_the_training_split():
    rng = np.random.default_rng(0)
    made = {"train": classes(seed=1), "test": classes()}
    for views, labels in made.values():  # large noise of its own in either view
        for view in VIEWS:
            noise = 60 * rng.standard_normal((len(labels), 3))
            views[view] = np.concatenate([views[view], noise], axis=1)
    raw = Clustering("left")(predictor(made), "test")["left_kmeans_clustering_accuracy"]
    found = Clustering("left", projection=CCA(VIEWS, 10))(predictor(made), "test")
    assert raw < 0.5
    assert found["cca10_left_kmeans_clustering_accuracy"] > 0.95

    cca = LinearCCA(10).fit(*(np.float32(made["train"][0][view]) for view in VIEWS))
    projected = cca.transform(*(np.float32(made["test"][0][view]) for view in VIEWS))[0]
    by_hand = predictor({"test": ({"left": projected}, made["test"][1])})
    expected = Clustering("left")(by_hand, "test")["left_kmeans_nmi"]
    assert found["cca10_left_kmeans_nmi"] == pytest.approx(expected)


def test_records_without_the_view_and_beyond_the_draw_do_not_count():
    (views, labels), rng = classes(), np.random.default_rng(1)
    rows = rng.random(len(labels)) < 0.7
    spoilt = without({"test": (views, labels)}, {"test": {"left": rows, "right": rows}})
    found = Clustering("left", clusters=7)(predictor(spoilt), "test")
    kept = {"test": ({"left": views["left"][rows]}, labels[rows])}
    assert found == Clustering("left", clusters=7)(predictor(kept), "test")

    drawn = Clustering("left", clusters=7, examples=50)(predictor(kept), "test")
    assert drawn != found
    assert drawn == Clustering("left", clusters=7, examples=50)(predictor(kept), "test")


def test_names_and_several_views():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    views = {  # either view tells two groups from two
        "left": 20.0 * (labels[:, None] // 2) + rng.standard_normal((200, 2)),
        "right": 20.0 * (labels[:, None] % 2) + rng.standard_normal((200, 2)),
    }
    made = predictor({"test": (views, labels)})
    one = Clustering("left", clusters=4, name="clusters")
    both = Clustering(VIEWS, clusters=4)
    assert one(made, "test")["clusters_kmeans_clustering_accuracy"] < 0.7
    assert both(made, "test")["left+right_kmeans_clustering_accuracy"] == 1
    alike = dataclasses.replace(experiment(), evaluation=(one, dataclasses.replace(one, seed=1)))
    with pytest.raises(ConfigError, match="give a metric 'clusters_kmeans_nmi'"):
        one.check(alike)


def test_too_few_records_are_refused():
    made = predictor({"test": ({"left": np.eye(9)}, np.arange(9))})
    with pytest.raises(DataError, match="'test' has 9 records with the view 'left', too few"):
        Clustering("left")(made, "test")
    with pytest.raises(DataError, match="lower `clusters` or `neighbours`"):
        Clustering("left", "spectral", clusters=2, neighbours=9)(made, "test")
    Clustering("left", "spectral", clusters=2, neighbours=8)(made, "test")


@pytest.mark.parametrize(
    ("evaluator", "sentence"),
    [
        (Clustering("left"), None),
        (Clustering("left", "spectral", projection=CCA(VIEWS, 6), examples=11), None),
        (Clustering("lfet"), "no view 'lfet': did you mean 'left'"),
        (Clustering("left", target="lable"), "no target 'lable': did you mean 'label'"),
        (Clustering("left", projection=CCA(VIEWS, 7)), "k=7 is more than the 6 .* 'right'"),
        (Clustering("left", examples=9), "too few for 10 clusters: set it to 10 or more"),
        (
            Clustering("left", "spectral", neighbours=30, examples=30),
            "too few for 10 clusters and 30 neighbours: set it to 31 or more",
        ),
    ],
    ids=str,
)
def test_check(evaluator, sentence):
    if sentence is None:
        evaluator.check(experiment())
    else:
        with pytest.raises(ConfigError, match=sentence):
            evaluator.check(experiment())


@pytest.mark.parametrize("options", [{"clusters": -1}, {"neighbours": 0}, {"examples": -1}])
def test_bad_values(options):
    with pytest.raises(ConfigError, match=f"Clustering.{next(iter(options))}"):
        Clustering("left", **options)
