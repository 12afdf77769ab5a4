"""Cross-modal retrieval: against scikit-learn, over all orders of ties, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from representations import VIEWS, experiment, predictor, without
from sklearn.metrics import average_precision_score

from mmjax.cca import LinearCCA
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import (
    CCA,
    Retrieval,
    mean_average_precision,
    median_rank,
    ranking,
    recall_at,
)
from mmjax.evaluation.metrics import f1_of_counts
from mmjax.evaluation.ranking import average_precision, random_average_precision
from mmjax.evaluation.retrieval import _centred


def test_average_precision_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores, relevant = rng.standard_normal((20, 50)), rng.random((20, 50)) < 0.2
    expected = [average_precision_score(*each) for each in zip(relevant, scores, strict=True)]
    np.testing.assert_allclose(average_precision(scores, relevant), expected, rtol=1e-12)
    assert mean_average_precision(scores, relevant) == pytest.approx(np.mean(expected))


def test_average_precision_in_closed_form():
    scores = np.array([[4.0, 3.0, 2.0, 1.0]] * 3)
    relevant = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
    expected = [(1 + 2 / 3) / 2, 1 / 4, 1]
    np.testing.assert_allclose(average_precision(scores, relevant), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int32, np.float32])
def test_numbers_of_any_type_are_ranked_as_they_are(dtype):
    info = np.iinfo(dtype) if np.issubdtype(dtype, np.integer) else np.finfo(dtype)
    scores = np.array([[info.min, info.max, 3]], dtype)
    best = np.array([[0, 1, 0]])
    assert average_precision(scores, best.astype(bool))[0] == 1
    assert average_precision(scores, 1 - best)[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert recall_at(scores, 1, np.array([1])) == median_rank(scores, np.array([1], np.uint8)) == 1
    assert f1_of_counts(*np.array([200, 200, 200], np.uint8)) == 1


@pytest.mark.parametrize(
    "scores", [[0, 0, 0, 0, 0, 0], [2, 1, 1, 1, 0, 0], [1, 1, 0, 0, -1, -1], [3, 0, 0, 0, 0, -1]]
)
def test_ties_give_the_mean_over_all_orders(scores):
    scores = np.array(scores, float)
    for chosen in itertools.product([False, True], repeat=6):
        relevant = np.array(chosen)
        if not relevant.any():
            continue
        # Each order of all six, as a little on top of the scores, orders the ties among them.
        extra = np.array(list(itertools.permutations(range(6)))) * 1e-3
        orders = average_precision(scores + extra, np.broadcast_to(relevant, extra.shape))
        found = average_precision(scores[None], relevant[None])[0]
        assert found == pytest.approx(orders.mean())
        places = ranking.places(scores[None] + extra, np.full(len(extra), 2))
        for k in (1, 2, 4):
            within = np.mean(places[0] < k)
            assert recall_at(scores[None], k, np.array([2])) == pytest.approx(within)


def test_queries_without_a_relevant_candidate_are_left_out():
    scores, relevant = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[False, True], [False, False]])
    np.testing.assert_array_equal(average_precision(scores, relevant), [0.5, np.nan])
    assert mean_average_precision(scores, relevant) == 0.5
    with pytest.raises(ConfigError, match="No query has a relevant candidate"):
        mean_average_precision(scores[1:], relevant[1:])


def test_random_scores_give_the_floor():
    rng, classes = np.random.default_rng(0), 5
    labels = rng.integers(0, classes, 400)
    relevant = labels[:, None] == labels
    floor = random_average_precision(relevant.sum(axis=1), 400)
    np.testing.assert_allclose(floor, average_precision(np.zeros((400, 400)), relevant))
    found = average_precision(rng.standard_normal((400, 400)), relevant)
    # Four standard errors of a mean over 400 queries; the prevalence is a little below the floor.
    error = 4 * found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(floor.mean(), abs=error)
    assert 0 < floor.mean() - relevant.mean() < 0.02


def test_ranks_in_closed_form():
    # The right candidates have the ranks 1, 3 and, as one of two equal ones, 2 or 3.
    scores = np.array([[9, 1, 2, 0], [3, 1, 2, 0], [5, 2, 2, 0]], float)
    assert median_rank(scores) == 2.5
    assert [recall_at(scores, k) for k in (1, 2, 3, 9)] == pytest.approx([1 / 3, 1.5 / 3, 1, 1])
    assert median_rank(scores, np.array([3, 3, 3])) == 4
    nothing = np.zeros((8, 8))  # all candidates alike
    assert recall_at(nothing, 2) == 2 / 8
    assert median_rank(nothing) == 4.5


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_chunks_make_no_difference(chunk, monkeypatch):
    rng = np.random.default_rng(0)
    scores, relevant = rng.integers(0, 9, (30, 40)).astype(float), rng.random((30, 40)) < 0.2
    made = predictor(classes())
    whole = (
        mean_average_precision(scores, relevant),
        recall_at(scores, 5),
        median_rank(scores),
        Retrieval(VIEWS)(made, "test"),
        Retrieval(VIEWS, target="")(made, "test"),
    )
    monkeypatch.setattr(ranking, "CHUNK", chunk)
    assert mean_average_precision(scores, relevant) == pytest.approx(whole[0])
    assert (recall_at(scores, 5), median_rank(scores)) == pytest.approx(whole[1:3])
    assert Retrieval(VIEWS)(made, "test") == pytest.approx(whole[3])
    assert Retrieval(VIEWS, target="")(made, "test") == pytest.approx(whole[4])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: average_precision(np.zeros((2, 3)), np.zeros((3, 2), bool)), "one row per query"),
        (lambda: average_precision(np.full((1, 2), np.nan), np.ones((1, 2), bool)), "NaN values"),
        (lambda: average_precision(np.ones((1, 2)), np.array([[0, 2]])), "no grades"),
        (lambda: mean_average_precision(np.zeros((0, 2)), np.ones((0, 2), bool)), "No query"),
        (lambda: recall_at(np.zeros((2, 2)), 0), "k is 0: it must be at least 1"),
        (lambda: recall_at(np.zeros((3, 2)), 1), "one column per candidate"),
        (lambda: median_rank(np.zeros((0, 0))), "one column per candidate"),
        (lambda: median_rank(np.zeros((2, 2)), np.array([0])), "one match per query"),
        (lambda: median_rank(np.zeros((2, 2)), np.array([0, -1])), "one column per candidate"),
    ],
    ids=range(9),
)
def test_bad_arrays(call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call()


def classes(noise=1.5, mixing=None):
    """Four classes that both views show, with a part of each record's own in common."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((4, 6))
    made = {}
    for name, size in {"train": 200, "test": 60}.items():
        labels = rng.integers(0, 4, size)
        own = centres[labels] + 0.5 * rng.standard_normal((size, 6))
        views = {view: own + noise * rng.standard_normal((size, 6)) for view in VIEWS}
        if mixing is not None:
            views["right"] = views["right"] @ mixing
        made[name] = (views, labels)
    return made


def by_hand(left, right, labels):
    """Mean average precision by scikit-learn, and recalls and median ranks by sorting."""
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))
    scores, relevant, values = left @ right.T, labels[:, None] == labels, {}
    for name, table in (("left_to_right", scores), ("right_to_left", scores.T)):
        each = [average_precision_score(*row) for row in zip(relevant, table, strict=True)]
        ranks = 1 + np.argmax(np.argsort(-table, axis=1) == np.arange(len(table))[:, None], axis=1)
        values[f"map_{name}"] = np.mean(each)
        values |= {f"recall_at_{k}_{name}": np.mean(ranks <= k) for k in (1, 5, 10)}
        values[f"median_rank_{name}"] = np.median(ranks)
    return values


def test_agrees_with_a_count_by_hand_both_ways():
    made = classes()
    views, labels = made["test"]
    expected = by_hand(*(np.float32(views[view]).astype(float) for view in VIEWS), labels)
    by_class = Retrieval(VIEWS)(predictor(made), "test")
    by_record = Retrieval(VIEWS, target="")(predictor(made), "test")
    found = by_class | by_record
    for name, value in expected.items():
        assert found.pop(name) == pytest.approx(value, abs=1e-9), name
    for name in ("map", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank"):
        both = [expected[f"{name}_{way}"] for way in ("left_to_right", "right_to_left")]
        assert found.pop(f"{name}_mean") == pytest.approx(np.mean(both))
    counts = np.bincount(labels)[labels]
    assert found.pop("map_random") == pytest.approx(random_average_precision(counts, 60).mean())
    chance = {f"recall_at_{k}_random": k / 60 for k in (1, 5, 10)} | {"median_rank_random": 30.5}
    assert found == pytest.approx(chance)
    assert by_class["map_random"] < by_class["map_mean"] < 1


def test_the_same_vectors_find_their_own_whatever_their_length():
    made = classes(noise=0.0)
    views, _ = made["test"]
    views["right"] = views["right"] * np.random.default_rng(0).uniform(0.1, 9, (60, 1))
    found = Retrieval(VIEWS, target="", k=(1,))(predictor(made), "test")
    assert {value for name, value in found.items() if not name.endswith("_random")} == {1}
    assert len(found) == 8


def test_a_representation_that_has_collapsed_is_at_the_floor():
    made = classes()
    views, labels = made["test"]
    for view in VIEWS:
        views[view] = np.zeros_like(views[view])
    found = Retrieval(VIEWS)(predictor(made), "test")
    assert found["map_mean"] == pytest.approx(found["map_random"])
    found = Retrieval(VIEWS, target="")(predictor(made), "test")
    assert found["recall_at_5_mean"] == pytest.approx(5 / len(labels))
    assert found["median_rank_mean"] == found["median_rank_random"] == (len(labels) + 1) / 2
    assert found["recall_at_5_mean"] == pytest.approx(found["recall_at_5_random"])


def test_any_of_several_captions_of_a_picture_counts():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.arange(10), rng.integers(1, 5, 10))  # one to four captions each
    left = rng.standard_normal((10, 6))
    right = left[picture] + 2 * rng.standard_normal((len(picture), 6))
    made = {"test": (dict(zip(VIEWS, (left[picture], right), strict=True)), picture)}
    found = Retrieval(VIEWS, target="", group="label", k=(1, 5))(predictor(made), "test")

    left, right = (np.float32(x).astype(float) for x in (left, right))
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))
    scores, own = left @ right.T, np.arange(10)[:, None] == picture
    order = np.argsort(-scores, axis=1)
    ranks = 1 + np.argmax(np.take_along_axis(own, order, axis=1), axis=1)  # of the best caption
    for k in (1, 5):
        assert found[f"recall_at_{k}_left_to_right"] == pytest.approx(np.mean(ranks <= k))
        expected = recall_at(scores.T, k, picture)  # every caption among the ten pictures
        assert found[f"recall_at_{k}_right_to_left"] == pytest.approx(expected)
    assert found["median_rank_left_to_right"] == np.median(ranks)
    captions = own.sum(axis=1)
    chance = np.mean(
        [1 - math.comb(len(picture) - t, 5) / math.comb(len(picture), 5) for t in captions]
    )
    assert found["recall_at_5_random"] == pytest.approx((chance + 5 / 10) / 2)

    alike = {"test": ({view: np.zeros_like(x) for view, x in made["test"][0].items()}, picture)}
    blind = Retrieval(VIEWS, target="", group="label", k=(5,))(predictor(alike), "test")
    assert blind["recall_at_5_mean"] == pytest.approx(found["recall_at_5_random"])
    assert blind["median_rank_mean"] == found["median_rank_random"]


def test_rows_of_equal_entries_have_no_correlation():
    rows = np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 3.0]])  # the mean of the first is not 0.1
    np.testing.assert_array_equal(_centred(rows), [[0, 0, 0], [-1, 0, 1]])


def test_projections_are_fitted_on_the_training_pairs():
    mixing = np.linalg.qr(np.random.default_rng(3).standard_normal((6, 6)))[0]
    made = classes(noise=0.5, mixing=mixing)
    raw = Retrieval(VIEWS)(predictor(made), "test")
    found = Retrieval(VIEWS, projection=CCA(VIEWS, 3))(predictor(made), "test")
    cca = LinearCCA(3).fit(*(np.float32(made["train"][0][view]) for view in VIEWS))
    views, labels = made["test"]
    expected = by_hand(*cca.transform(*(np.float32(views[view]) for view in VIEWS)), labels)
    for way in ("left_to_right", "right_to_left"):
        assert found[f"cca3_map_{way}"] == pytest.approx(expected[f"map_{way}"], abs=1e-6)
    assert found["cca3_map_mean"] > raw["map_mean"] + 0.2
    assert found["cca3_map_random"] == raw["map_random"]


@pytest.mark.parametrize("cca", [0, 3])
def test_absent_views_are_neither_queries_nor_candidates(cca):
    rng, made = np.random.default_rng(1), classes()
    present = {
        name: {view: rng.random(len(labels)) < 0.7 for view in VIEWS}
        for name, (_, labels) in made.items()
    }
    there = present["test"]
    views, labels = made["test"]
    vectors = {view: np.float32(views[view]).astype(float) for view in VIEWS}
    if cca:
        both = np.logical_and(*present["train"].values())
        fit = LinearCCA(cca).fit(*(np.float32(made["train"][0][view])[both] for view in VIEWS))
        vectors = dict(zip(VIEWS, fit.transform(*vectors.values()), strict=True))
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in vectors.values())
    scores = left @ right.T
    scores[:, ~there["right"]] = -np.inf
    projection = CCA(VIEWS, cca) if cca else None
    prefix, spoilt = f"cca{cca}_" if cca else "", predictor(without(made, present))

    found = Retrieval(VIEWS, projection=projection)(spoilt, "test")
    asked, relevant = there["left"], (labels[:, None] == labels)[:, there["right"]]
    expected = mean_average_precision(scores[asked][:, there["right"]], relevant[asked])
    assert found[f"{prefix}map_left_to_right"] == pytest.approx(expected, abs=1e-6)

    found = Retrieval(VIEWS, target="", projection=projection)(spoilt, "test")
    pairs = np.flatnonzero(
        there["left"] & there["right"]
    )  # candidates without a pair are in the way
    assert len(pairs) < there["right"].sum()
    expected = recall_at(scores[pairs], 5, pairs)
    assert found[f"{prefix}recall_at_5_left_to_right"] == pytest.approx(expected)
    assert found[f"{prefix}median_rank_left_to_right"] == median_rank(scores[pairs], pairs)


def test_a_query_whose_class_no_candidate_has_is_left_out():
    made = classes()
    views, labels = made["test"]
    labels[0] = 9
    right = np.arange(len(labels)) > 0
    present = {"test": {"left": np.ones(len(labels), bool), "right": right}}
    found = Retrieval(VIEWS)(predictor(without({"test": made["test"]}, present)), "test")
    rest = {"test": ({view: array[1:] for view, array in views.items()}, labels[1:])}
    expected = Retrieval(VIEWS)(predictor(rest), "test")["map_left_to_right"]
    assert found["map_left_to_right"] == pytest.approx(expected)


def test_nothing_to_find_is_an_error():
    made = classes()
    half = {name: np.arange(len(labels)) % 2 == 0 for name, (_, labels) in made.items()}
    present = {name: {"left": rows, "right": ~rows} for name, rows in half.items()}
    apart = predictor(without(made, present))
    with pytest.raises(DataError, match="No record of the split has both 'left' and 'right'"):
        Retrieval(VIEWS, target="")(apart, "test")
    assert 0 < Retrieval(VIEWS)(apart, "test")["map_mean"] < 1
    classed = {name: (views, 1 - half[name]) for name, (views, _) in made.items()}
    with pytest.raises(DataError, match="No 'left' has a 'right' of its class"):
        Retrieval(VIEWS)(predictor(without(classed, present)), "test")


@pytest.mark.parametrize(
    ("evaluator", "widths", "sentence"),
    [
        (Retrieval(VIEWS), (6, 6), None),
        (Retrieval(VIEWS, target=""), (6, 6), None),
        (Retrieval(VIEWS, projection=CCA(VIEWS, 6)), (8, 6), None),
        (Retrieval(VIEWS), (8, 6), "have 8 and 6 dimensions and cannot be compared"),
        (Retrieval(VIEWS, projection=CCA(VIEWS, 7)), (8, 6), "k=7 is more than the 6 .* 'right'"),
        (Retrieval(VIEWS, projection=CCA(VIEWS, 2, -1.0)), (8, 6), "not negative"),
        (Retrieval(("left", "rihgt")), (6, 6), "no view 'rihgt': did you mean 'right'"),
        (Retrieval(("left", "left")), (6, 6), "'left' twice"),
        (Retrieval(VIEWS, target="lable"), (6, 6), "'lable': did you mean 'label'.* or to '' for"),
        (Retrieval(VIEWS, target="", group="lable"), (6, 6), "no target 'lable'"),
    ],
    ids=str,
)
def test_check(evaluator, widths, sentence):
    if sentence is None:
        evaluator.check(experiment(*widths))
    else:
        with pytest.raises(ConfigError, match=sentence):
            evaluator.check(experiment(*widths))


@pytest.mark.parametrize("options", [{"k": (0, 1)}, {"k": (1, 1)}, {"group": "label"}])
def test_bad_values(options):
    with pytest.raises(ConfigError, match=f"Retrieval.{next(iter(options))}"):
        Retrieval(VIEWS, **options)
