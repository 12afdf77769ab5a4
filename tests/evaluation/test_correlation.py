"""Held-out correlation: fitted on the training split, refused before the training where it can."""

import dataclasses

import numpy as np
import pytest

from mmjax.cca import LinearCCA
from mmjax.data import DigitsHalves, Shapes
from mmjax.data.dataset import ArraySource
from mmjax.encoders import MLP, LeNet, TextTransformer
from mmjax.errors import ConfigError
from mmjax.evaluation import CCA, HeldOutCorrelation, Predictor, RawCorrelation
from mmjax.evaluation.predictor import some
from mmjax.fusion import Concat
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA
from mmjax.structs import Outputs
from mmjax.training import Experiment, Training

VIEWS = ("left", "right")
K, D = 3, 12
SIZES = {"train": 400, "test": 30}


def splits():
    """Views that share one direction; 30 examples of 12 columns, so a fit to them finds more."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((2, D, D))
    views = {}
    for split, size in SIZES.items():
        left, right = rng.standard_normal((2, size, D))
        right[:, 0] = left[:, 0] + 0.5 * right[:, 0]
        mixed = (left @ mixing[0], right @ mixing[1])
        views[split] = dict(zip(VIEWS, (view.astype(np.float32) for view in mixed), strict=True))
    return views


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A source with garbage where a view is absent."""

    views: dict
    present: dict

    def __len__(self):
        return len(self.views["left"])

    def take(self, indices):
        labels = np.zeros(len(self), np.int32)
        batch = ArraySource(self.views, {"label": labels}).take(indices)
        return batch.replace(present={name: there[indices] for name, there in self.present.items()})


def predictor(views, present):
    sources = {split: Sparse(views[split], present[split]) for split in views}

    def forward(batch):
        return Outputs(embeddings=batch.inputs, present=batch.present)

    return Predictor(forward, sources.get, 64, DigitsHalves())


def everywhere():
    return {split: dict.fromkeys(VIEWS, np.ones(size, bool)) for split, size in SIZES.items()}


def by_hand(fit, scored):
    """CCA in float64 without a ridge, by the covariances' inverse roots; Pearson of `scored`."""
    means = [fit[view].mean(axis=0, dtype=np.float64) for view in VIEWS]
    x, y = (fit[view] - mean for view, mean in zip(VIEWS, means, strict=True))

    def inverse_root(covariance):
        values, vectors = np.linalg.eigh(covariance)
        return vectors / np.sqrt(values) @ vectors.T

    roots = inverse_root(x.T @ x), inverse_root(y.T @ y)
    U, _, Vt = np.linalg.svd(roots[0] @ x.T @ y @ roots[1])
    a, b = roots[0] @ U[:, :K], roots[1] @ Vt[:K].T
    p, q = ((scored[view] - m) @ w for view, m, w in zip(VIEWS, means, (a, b), strict=True))
    return np.array([np.corrcoef(p[:, i], q[:, i])[0, 1] for i in range(K)])


@pytest.mark.parametrize(
    ("evaluator", "prefix"),
    [
        (HeldOutCorrelation(VIEWS, K, ridge=0.0), ""),
        (RawCorrelation(VIEWS, K, ridge=0.0), "linear_cca_"),
    ],
    ids=["held_out", "raw"],
)
def test_projections_are_fitted_on_the_training_split(evaluator, prefix):
    views = splits()
    found = evaluator(predictor(views, everywhere()), "test")
    expected = by_hand(views["train"], views["test"])
    # 1e-6: float64 after float32 views.
    np.testing.assert_allclose(found[f"{prefix}correlations"], expected, atol=1e-6)
    assert found[f"{prefix}total_correlation"] == pytest.approx(expected.sum(), abs=1e-6)

    refitted = by_hand(views["test"], views["test"]).sum()
    assert refitted > found[f"{prefix}total_correlation"] + 0.5
    on_train = evaluator(predictor(views, everywhere()), "train")
    assert on_train[f"{prefix}total_correlation"] > found[f"{prefix}total_correlation"]


@pytest.mark.parametrize("evaluator", [HeldOutCorrelation, RawCorrelation])
def test_only_rows_with_both_views_count(evaluator):
    views, present = splits(), everywhere()
    rng = np.random.default_rng(1)
    for split, size in SIZES.items():
        for view in VIEWS:
            present[split][view] = rng.random(size) < 0.8
            views[split][view][~present[split][view]] = 1e6
    both = {split: np.logical_and(*present[split].values()) for split in SIZES}
    kept = {s: {view: x[both[s]] for view, x in views[s].items()} for s in SIZES}
    expected = evaluator(VIEWS, K)(
        predictor(kept, {s: dict.fromkeys(VIEWS, np.ones(both[s].sum(), bool)) for s in SIZES}),
        "test",
    )
    found = evaluator(VIEWS, K)(predictor(views, present), "test")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def unrelated_and_few(shared):
    """24 training rows of 12 columns, of which the first `shared` are the same in both views."""
    rng = np.random.default_rng(0)
    views = {}
    for split, size in {"train": 24, "test": 500}.items():
        left, right = rng.standard_normal((2, size, D))
        right[:, :shared] = left[:, :shared]
        views[split] = {"left": left.astype(np.float32), "right": right.astype(np.float32)}
    present = {s: dict.fromkeys(VIEWS, np.ones(len(v["left"]), bool)) for s, v in views.items()}
    return predictor(views, present)


def test_the_floor_is_high_in_sample_and_near_zero_on_held_out_rows():
    evaluator = HeldOutCorrelation(VIEWS, D, permutations=30)
    related = unrelated_and_few(shared=6)
    train, test = (evaluator(related, split) for split in ("train", "test"))
    # 12 dimensions of 24 rows: what looks like a relation is the fit to chance.
    assert 7 < train["total_correlation_floor"] < train["total_correlation"] <= D
    assert abs(test["total_correlation_floor"]) < 0.5
    assert test["total_correlation"] > 2
    # Where there is no relation, the figure is its own floor.
    unrelated = unrelated_and_few(shared=0)
    train, test = (evaluator(unrelated, split) for split in ("train", "test"))
    # 0.8: about three deviations of one draw, measured over seeds of the shuffles.
    assert train["total_correlation"] == pytest.approx(train["total_correlation_floor"], abs=0.8)
    assert test["total_correlation"] == pytest.approx(test["total_correlation_floor"], abs=0.8)


def test_the_floor_is_the_mean_over_seeded_shuffles():
    made = predictor(splits(), everywhere())

    def floor(permutations, seed=0):
        found = HeldOutCorrelation(VIEWS, K, permutations=permutations, seed=seed)(made, "test")
        return found["total_correlation_floor"]

    assert floor(3) == floor(3) != floor(3, seed=1)
    views, rng = splits(), np.random.default_rng(0)
    totals = []
    for _ in range(3):
        right = {s: views[s]["right"][rng.permutation(SIZES[s])] for s in ("train", "test")}
        cca = LinearCCA(K, ridge=1e-4).fit(views["train"]["left"], right["train"])
        totals.append(cca.score(views["test"]["left"], right["test"]))
    assert floor(3) == pytest.approx(np.mean(totals))


def test_the_floor_of_views_that_are_alike_is_that_of_chance():
    rng = np.random.default_rng(0)
    same = {split: rng.standard_normal((1000, 1)).astype("f4") for split in ("train", "test")}
    there = {split: dict.fromkeys(VIEWS, np.ones(1000, bool)) for split in same}
    made = predictor({split: dict.fromkeys(VIEWS, x) for split, x in same.items()}, there)
    found = HeldOutCorrelation(VIEWS, 1, permutations=1)(made, "test")
    assert found["total_correlation"] == pytest.approx(1)
    assert abs(found["total_correlation_floor"]) < 0.1  # three deviations of chance


def test_the_floor_changes_nothing_else():
    made = predictor(splits(), everywhere())
    without = HeldOutCorrelation(VIEWS, K)(made, "test")
    found = HeldOutCorrelation(VIEWS, K, permutations=2)(made, "test")
    assert found.keys() - without.keys() == {"total_correlation_floor"}
    for name, value in without.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(ConfigError, match=r"HeldOutCorrelation.permutations is -1"):
        HeldOutCorrelation(VIEWS, K, permutations=-1)


def test_the_fit_is_on_some_training_examples_and_the_model_runs_on_no_others():
    views, made = splits(), predictor(splits(), everywhere())
    forward, seen = made._forward, []
    made._forward = lambda batch: seen.extend(batch.ids[batch.weight > 0]) or forward(batch)
    evaluator = HeldOutCorrelation(VIEWS, K, ridge=0.0, permutations=1, examples=50)
    found = evaluator(made, "test")
    drawn = some(SIZES["train"], 50, 0)
    assert sorted(seen) == sorted([*range(SIZES["test"]), *drawn])
    fit = {view: views["train"][view][drawn] for view in VIEWS}
    # 1e-6: float64 after float32 views.
    np.testing.assert_allclose(found["correlations"], by_hand(fit, views["test"]), atol=1e-6)
    rng = np.random.default_rng(0)
    train, test = (
        each["right"][rng.permutation(len(each["right"]))] for each in (fit, views["test"])
    )
    cca = LinearCCA(K, ridge=0.0).fit(fit["left"], train)
    floor = cca.score(views["test"]["left"], test)
    assert found["total_correlation_floor"] == pytest.approx(floor)

    everything = HeldOutCorrelation(VIEWS, K, examples=SIZES["train"])(made, "test")
    np.testing.assert_array_equal(
        everything["correlations"], HeldOutCorrelation(VIEWS, K)(made, "test")["correlations"]
    )
    by_projection = HeldOutCorrelation(projection=CCA(VIEWS, K, 0.0, examples=50))(made, "test")
    np.testing.assert_array_equal(by_projection["correlations"], found["correlations"])
    with pytest.raises(ConfigError, match=r"HeldOutCorrelation.examples is -1"):
        HeldOutCorrelation(VIEWS, K, examples=-1)


def experiment(model, data=None):
    return Experiment(
        name="test",
        data=data or DigitsHalves(),
        model=model,
        objectives=(DCCA(views=VIEWS),),
        training=Training(steps=1),
    )


def twice(evaluation, name="linear_cca"):
    """An experiment with this evaluation and another one of that name."""
    both = (evaluation, dataclasses.replace(evaluation, name=name))
    return dataclasses.replace(HALVES, evaluation=both)


HALVES = experiment(DualEncoder({"left": MLP((), 8), "right": MLP((), 6)}))
PROJECTED = experiment(DualEncoder({"left": MLP((), 8), "right": MLP((), 6)}, width=5))
SHAPES = experiment(
    FusionModel(
        {"image": LeNet(channels=2, width=8, batch_norm=True), "text": TextTransformer(8, 1)},
        Concat(),
        modalities=("image",),
    ),
    Shapes(train_size=8, valid_size=8, test_size=8),
)


@pytest.mark.parametrize(
    ("evaluator", "experiment", "sentence"),
    [
        (HeldOutCorrelation(VIEWS, 6), HALVES, None),
        (HeldOutCorrelation(VIEWS, 5), PROJECTED, None),
        (RawCorrelation(VIEWS, 32), HALVES, None),
        (RawCorrelation(VIEWS, 32), twice(RawCorrelation(VIEWS, 2), "raw"), None),
        (RawCorrelation(VIEWS, 32), twice(RawCorrelation(VIEWS, 2)), "Two evaluations give"),
        (HeldOutCorrelation(("left", "rihgt"), 2), HALVES, "no view 'rihgt': did you mean 'right'"),
        (RawCorrelation(("left", "rihgt"), 2), HALVES, "no view 'rihgt': did you mean 'right'"),
        (HeldOutCorrelation(VIEWS, 7), HALVES, "k=7 is more than the 6 .* 'right': .* 1 to 6"),
        (HeldOutCorrelation(VIEWS, 6), PROJECTED, "k=6 is more than the 5 .* 'left': .* 1 to 5"),
        (RawCorrelation(VIEWS, 33), HALVES, "k=33 is more than the 32 .* 'left'"),
        (HeldOutCorrelation(VIEWS, 0), HALVES, "k=0 must be a whole number of at least 1"),
        (RawCorrelation(VIEWS, 0), HALVES, "k=0 must be a whole number of at least 1"),
        (HeldOutCorrelation(), HALVES, "set two views and `k`, or set a `projection`"),
        (HeldOutCorrelation((*VIEWS, "left"), 2), HALVES, "set two views and `k`"),
        (HeldOutCorrelation(VIEWS, 2, projection=CCA(VIEWS, 2)), HALVES, "remove its own `views`"),
        (HeldOutCorrelation(ridge=1.0, projection=CCA(VIEWS, 2)), HALVES, "remove its own `views`"),
        (HeldOutCorrelation(examples=9, projection=CCA(VIEWS, 2)), HALVES, "`examples`"),
        (RawCorrelation(VIEWS, 2, ridge=-1.0), HALVES, "not negative"),
        # The data set has it and the model has an encoder for it, but does not use it.
        (HeldOutCorrelation(("image", "text"), 2), SHAPES, "no embedding of the model 'text'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_check(evaluator, experiment, sentence):
    if sentence is None:
        evaluator.check(experiment)
    else:
        with pytest.raises(ConfigError, match=sentence):
            evaluator.check(experiment)
