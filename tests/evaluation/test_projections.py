"""Projections: those of the estimators, by one view alone, fitted once, and what is refused."""

import dataclasses

import numpy as np
import pytest
from representations import VIEWS, experiment, predictor

from mmjax.cca import GCCA, MCCA, KernelCCA, LinearCCA, Nystrom, RandomFourier
from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import (
    CCA,
    KCCA,
    Clustering,
    GCCAProjection,
    HeldOutCorrelation,
    LinearProbe,
    MCCAProjection,
    Retrieval,
    Semantic,
)
from mmjax.evaluation.features import features_of
from mmjax.models import MultiEncoder
from mmjax.training.config import check_types, from_json, to_json
from mmjax.training.overrides import override

THREE = ("left", "right", "sound")
SIZES = {"train": 150, "valid": 40, "test": 60}


def splits(views=THREE, seed=0):
    """Views of 5 columns that share two directions; the records lack each of them now and then."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((len(views), 5, 5))
    made = {}
    for name, size in SIZES.items():
        labels = rng.integers(0, 3, size)
        shared = np.stack([labels, labels == 1], axis=1) + 0.3 * rng.standard_normal((size, 2))
        arrays, present = {}, {}
        for view, mix in zip(views, mixing, strict=True):
            own = rng.standard_normal((size, 3))
            arrays[view] = np.float32(np.concatenate([shared, own], axis=1) @ mix)
            present[view] = rng.random(size) < 0.9
            arrays[view][~present[view]] = 1e6
        made[name] = (arrays, labels, present)
    return made


CASES = [
    (CCA(VIEWS, 2, 0.01), LinearCCA(2, 0.01)),
    (MCCAProjection(THREE, 2, 0.01), MCCA(2, 0.01)),
    (GCCAProjection(THREE, 2, 0.01), GCCA(2, 0.01)),
    (KCCA(VIEWS, 2, 0.01, RandomFourier(40)), KernelCCA(2, 0.01, RandomFourier(40))),
    (KCCA(VIEWS, 2, 0.01, Nystrom(30)), KernelCCA(2, 0.01, Nystrom(30))),
]
IDS = ["cca", "mcca", "gcca", "kcca-fourier", "kcca-nystrom"]


def fitted_by_hand(projection, estimator, made):
    """The fit to the training records that have all its views."""
    views, _, present = made["train"]
    rows = np.logical_and.reduce([present[view] for view in projection.views])
    assert 0.5 < rows.mean() < 0.9
    return estimator.fit(*(views[view][rows] for view in projection.views))


@pytest.mark.parametrize(("projection", "estimator"), CASES, ids=IDS)
def test_features_are_those_of_the_estimator(projection, estimator):
    made = splits()
    views, _, present = made["test"]
    fit = fitted_by_hand(projection, estimator, made)
    # Here all views of all records, spoilt or not; one view's features hang on that view alone.
    expected = fit.transform(*(views[view] for view in projection.views))
    for view, projected in zip(projection.views, expected, strict=True):
        found, there = features_of(predictor(made), (view,), "test", projection)
        np.testing.assert_array_equal(there, present[view])
        np.testing.assert_allclose(found, projected[present[view]], rtol=1e-9, atol=1e-9)
        assert found.shape == (present[view].sum(), 2)


@pytest.mark.parametrize(("projection", "estimator"), CASES, ids=IDS)
def test_held_out_correlation(projection, estimator):
    made = splits()
    views, _, present = made["test"]
    rows = np.logical_and.reduce([present[view] for view in projection.views])
    fit = fitted_by_hand(projection, estimator, made)
    expected = fit.correlations(*(views[view][rows] for view in projection.views))
    evaluator = HeldOutCorrelation(projection=projection, name="kernel", permutations=2)
    found = evaluator(predictor(made), "test")
    np.testing.assert_allclose(found["kernel_correlations"], expected, atol=1e-12)
    assert found["kernel_total_correlation"] == pytest.approx(expected.sum())
    assert found["kernel_total_correlation"] > found["kernel_total_correlation_floor"] + 0.5
    plain = HeldOutCorrelation(projection=projection)(predictor(made), "test")
    assert plain["total_correlation"] == found["kernel_total_correlation"]


def test_several_views_side_by_side():
    made = splits()
    projection = MCCAProjection(THREE, 2)
    views, _, present = made["test"]
    both = present["left"] & present["sound"]
    asked = predictor(made)
    found, rows = features_of(asked, ("sound", "left"), "test", projection)
    np.testing.assert_array_equal(rows, both)
    fit = projection.fitted(asked)
    expected = [fit(view, views[view][both]) for view in ("sound", "left")]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))
    nobody = {"left": present["left"], "right": ~present["left"]}
    apart = predictor(made | {"test": (views, made["test"][1], nobody)})
    with pytest.raises(DataError, match="'test' has all the views 'left', 'right': evaluate"):
        features_of(apart, VIEWS, "test", None)


def test_equal_projections_are_fitted_once(monkeypatch):
    fits, fit = [], LinearCCA.fit
    monkeypatch.setattr(LinearCCA, "fit", lambda self, x, y: fits.append(self.k) or fit(self, x, y))
    evaluators = (
        LinearProbe("left", projection=CCA(VIEWS, 2)),
        LinearProbe("right", "logistic", projection=CCA(VIEWS, 2)),
        Clustering("left", clusters=3, projection=CCA(VIEWS, 2)),
        Retrieval(VIEWS, projection=CCA(VIEWS, 2), semantic=Semantic()),
        HeldOutCorrelation(VIEWS, 2),
        LinearProbe("left", projection=CCA(VIEWS, 3)),
    )
    asked = predictor(splits())
    for evaluator in evaluators:
        for split in ("valid", "test"):
            evaluator(asked, split)
    assert fits == [2, 3]
    evaluators[0](predictor(splits()), "test")  # another model
    assert fits == [2, 3, 2]


def test_a_probe_is_trained_once(monkeypatch):
    from sklearn.svm import LinearSVC

    fits, fit = [], LinearSVC.fit
    monkeypatch.setattr(LinearSVC, "fit", lambda self, *a: fits.append(self.C) or fit(self, *a))
    asked = predictor(splits())
    for split in ("valid", "test"):
        LinearProbe("left", costs=(0.1, 1.0))(asked, split)
    assert fits == [0.1, 1.0]


@pytest.mark.parametrize(
    ("projection", "sentence"),
    [
        (CCA(VIEWS, 6), None),
        (MCCAProjection(VIEWS, 6), None),
        (GCCAProjection(VIEWS, 6), None),
        (KCCA(VIEWS, 20, features=Nystrom(20)), None),  # more than the embeddings have
        (CCA(VIEWS, 7), "k=7 is more than the 6 .* 'right': choose k from 1 to 6"),
        (GCCAProjection(VIEWS, 7), "k=7 is more than the 6 .* 'right': choose k from 1 to 6"),
        (KCCA(VIEWS, 21, features=Nystrom(20)), "KCCA.k is 21, more than the 20 features"),
        (CCA(VIEWS, 0), "k=0 must be a whole number of at least 1"),
        (MCCAProjection(VIEWS, 2, -1.0), "not negative"),
        (CCA(("left", "rihgt"), 2), "no view 'rihgt': did you mean 'right'"),
        (CCA(("left", "left"), 2), "set two or more views, each once"),
        (MCCAProjection(("left",), 2), "set two or more views, each once"),
    ],
    ids=str,
)
def test_check(projection, sentence):
    evaluators = [
        LinearProbe("left", projection=projection),
        Clustering("left", projection=projection),
        Retrieval(VIEWS, projection=projection),
        HeldOutCorrelation(projection=projection),
    ]
    for evaluator in evaluators:
        if sentence is None:
            evaluator.check(experiment())
        else:
            with pytest.raises(ConfigError, match=sentence):
                evaluator.check(experiment())


@dataclasses.dataclass(frozen=True)
class Parts(DigitsHalves):
    @property
    def modalities(self):
        halves = DigitsHalves().modalities
        return {**halves, "sound": halves["left"]}


def test_a_view_that_the_projection_lacks_is_refused():
    model = MultiEncoder(dict.fromkeys(THREE, MLP((), 4)))
    three = dataclasses.replace(experiment(), data=Parts(), model=model)
    LinearProbe(THREE, projection=GCCAProjection(THREE, 4)).check(three)
    with pytest.raises(ConfigError, match="no view of the projection 'sound'"):
        LinearProbe("sound", projection=CCA(VIEWS, 2)).check(three)
    with pytest.raises(ConfigError, match="no embedding of the model 'sound'"):
        LinearProbe("left", projection=CCA(("left", "sound"), 2)).check(
            dataclasses.replace(experiment(), data=Parts())
        )


def test_two_held_out_correlations_need_names():
    plain = HeldOutCorrelation(VIEWS, 2)
    kernel = HeldOutCorrelation(projection=KCCA(VIEWS, 2))
    pair = dataclasses.replace(experiment(), evaluation=(plain, kernel))
    with pytest.raises(ConfigError, match="give a metric 'total_correlation': set a different"):
        plain.check(pair)
    named = dataclasses.replace(kernel, name="kernel")
    plain.check(dataclasses.replace(pair, evaluation=(plain, named)))


def test_experiments_keep_their_projections():
    evaluation = (
        LinearProbe(VIEWS, projection=KCCA(VIEWS, 2, features=Nystrom(9)), name="probe"),
        Retrieval(VIEWS, semantic=Semantic(costs=(1.0,)), projection=MCCAProjection(VIEWS, 2)),
        HeldOutCorrelation(projection=GCCAProjection(VIEWS, 2)),
    )
    whole = dataclasses.replace(experiment(), evaluation=evaluation)
    check_types(whole)
    again = from_json(to_json(whole))
    assert again == whole
    assert {again.evaluation[0]: 1}[evaluation[0]] == 1  # equal, and so found again
    words = ["--evaluation.0.projection.features.count", "12", "--evaluation.0.view", "right"]
    words += ["--evaluation.1.projection.views", *THREE]
    changed = override(whole, words, "train").evaluation
    assert changed[0].projection == KCCA(VIEWS, 2, features=Nystrom(12))
    assert changed[0].view == "right"
    assert changed[1].projection.views == THREE
    words = ["--evaluation.0.view", *THREE]
    assert override(whole, words, "train").evaluation[0].view == THREE
