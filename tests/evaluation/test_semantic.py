"""Semantic matching: against scikit-learn by hand, without and with a projection."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from representations import VIEWS, experiment, predictor
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from mmjax.cca import LinearCCA
from mmjax.data import DigitsHalves
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import CCA, Retrieval, Semantic

SIZES = {"train": 120, "valid": 60, "test": 50}
COSTS = (1e-3, 1.0)


def splits(noise=1.0):
    """Three classes, shown by views of other widths and units."""
    rng = np.random.default_rng(0)
    centres = {"left": rng.standard_normal((3, 6)), "right": 5 * rng.standard_normal((3, 4))}
    made = {}
    for name, size in SIZES.items():
        labels = rng.integers(0, 3, size)
        views = {
            view: np.float32(centre[labels] + noise * rng.standard_normal((size, centre.shape[1])))
            for view, centre in centres.items()
        }
        made[name] = (views, labels)
    return made


def by_hand(made, columns, costs):
    """Probabilities of the test split's features: of three classes, and 0 of the other seven."""

    def of(name):
        raw, mean, deviation = columns(name), train.mean(axis=0), train.std(axis=0)
        return (raw - mean) / deviation

    train = columns("train")
    fits = [LogisticRegression(C=cost).fit(of("train"), made["train"][1]) for cost in costs]
    scores = [fit.score(of("valid"), made["valid"][1]) for fit in fits]
    return np.pad(fits[int(np.argmax(scores))].predict_proba(of("test")), ((0, 0), (0, 7)))


@pytest.mark.parametrize("distance", ["cosine", "correlation", "euclidean", "l1"])
@pytest.mark.parametrize("projected", [False, True])
def test_agrees_with_scikit_learn_by_hand(projected, distance):
    made = splits()
    projection = CCA(VIEWS, 2) if projected else None
    views = {name: [made[name][0][view].astype(float) for view in VIEWS] for name in made}
    if projected:
        cca = LinearCCA(2).fit(*views["train"])
        views = {name: cca.transform(*both) for name, both in views.items()}
    a, b = (by_hand(made, lambda name, i=i: views[name][i], COSTS) for i in range(2))
    scores = -cdist(a, b, "cityblock" if distance == "l1" else distance)
    labels = made["test"][1]
    relevant = labels[:, None] == labels

    evaluator = Retrieval(
        VIEWS, projection=projection, semantic=Semantic(costs=COSTS), distance=distance
    )
    found = evaluator(predictor(made), "test")
    prefix = "cca2_semantic_" if projected else "semantic_"
    for way, table in (("left_to_right", scores), ("right_to_left", scores.T)):
        each = [average_precision_score(*row) for row in zip(relevant, table, strict=True)]
        # 1e-3: the two optimisers stop a little apart.
        assert found[f"{prefix}map_{way}"] == pytest.approx(np.mean(each), abs=1e-3)
    assert found[f"{prefix}map_mean"] > found[f"{prefix}map_random"] + 0.2


@pytest.mark.parametrize("distance", ["cosine", "correlation", "euclidean", "l1"])
def test_distances_without_classes(distance):
    rng = np.random.default_rng(0)
    left = np.float32(rng.standard_normal((40, 5)) + 2)
    right = np.float32(left + 0.8 * rng.standard_normal((40, 5)))
    made = predictor({"test": ({"left": left, "right": right}, np.zeros(40, int))})
    found = Retrieval(VIEWS, target="", k=(1, 3), distance=distance)(made, "test")
    metric = "cityblock" if distance == "l1" else distance
    distances = cdist(left.astype(float), right.astype(float), metric)
    ranks = 1 + np.argsort(np.argsort(distances, axis=1), axis=1).diagonal()
    assert found["recall_at_3_left_to_right"] == pytest.approx((ranks <= 3).mean())
    assert found["median_rank_left_to_right"] == np.median(ranks)


def test_a_class_that_a_view_never_shows_has_no_probability():
    made = splits(noise=0.1)
    labels = made["train"][1]
    present = {"left": labels != 1, "right": np.ones(len(labels), bool)}
    made["train"] = (*made["train"], present)
    probabilities, _ = Semantic(costs=(1.0,))(predictor(made), "left", "test", None)
    assert probabilities.shape == (SIZES["test"], 10)  # the classes of the data set
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities[:, [0, 2]].sum() == pytest.approx(SIZES["test"])
    present["left"] = labels == 1
    with pytest.raises(DataError, match="semantic matching of 'left' are all of one class"):
        Semantic()(predictor(made), "left", "test", None)


def test_records_of_no_known_class_do_not_count_and_labels_beyond_the_classes_are_refused():
    made = splits()
    views, labels = made["train"]
    known = np.arange(len(labels)) % 5 > 0
    unknown = made | {"train": (views, np.where(known, labels, -1))}
    kept = made | {"train": ({view: x[known] for view, x in views.items()}, labels[known])}
    semantic = Semantic(costs=(1.0,))
    found, rows = semantic(predictor(unknown), "left", "test", None)
    np.testing.assert_array_equal(found, semantic(predictor(kept), "left", "test", None)[0])
    assert rows.all()
    # A record of the split itself is measured though its class is not known.
    made["test"][1][:] = -1
    assert semantic(predictor(made), "left", "test", None)[1].all()
    labels[3] = 10
    with pytest.raises(
        DataError, match=r"'label' .* is 10 in record 3, but its 10 classes are numb"
    ):
        semantic(predictor(made), "left", "test", None)


def test_names():
    made = predictor(splits())
    semantic = Semantic(costs=(1.0,))
    named = Retrieval(VIEWS, semantic=semantic, name="retrieval")
    found, unnamed = named(made, "test"), dataclasses.replace(named, name="")(made, "test")
    assert found == {
        name.replace("semantic_", "retrieval_"): value for name, value in unnamed.items()
    }

    def check(*evaluators):
        evaluators[0].check(dataclasses.replace(experiment(6, 6), evaluation=evaluators))

    matching = Retrieval(VIEWS, projection=CCA(VIEWS, 2))
    check(named, dataclasses.replace(named, name=""), Retrieval(VIEWS), matching)
    check(Retrieval(VIEWS), Retrieval(VIEWS, target=""))
    with pytest.raises(ConfigError, match="Two evaluations give a metric 'map_mean'"):
        check(Retrieval(VIEWS), Retrieval(VIEWS, distance="l1"))


@dataclasses.dataclass(frozen=True)
class Unchecked(DigitsHalves):
    splits: ClassVar[tuple[str, ...]] = ("train", "test")


def test_check():
    Retrieval(VIEWS, semantic=Semantic()).check(experiment(8, 6))  # of any widths
    with pytest.raises(ConfigError, match="no target 'lable': did you mean 'label'"):
        Retrieval(VIEWS, semantic=Semantic(target="lable")).check(experiment())
    once = experiment(data=Unchecked())
    Retrieval(VIEWS, semantic=Semantic(costs=(1.0,))).check(once)
    with pytest.raises(ConfigError, match=r"Semantic has several costs, .* no 'valid' split"):
        Retrieval(VIEWS, semantic=Semantic()).check(once)
    with pytest.raises(
        ConfigError, match="'correlation', which is undefined for vectors with a single dimension"
    ):
        Retrieval(VIEWS, projection=CCA(VIEWS, 1), distance="correlation").check(experiment())
    with pytest.raises(ConfigError, match=r"Semantic.costs is \(\)"):
        Semantic(costs=())
