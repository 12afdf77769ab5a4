"""Streamed evaluations: batches make no difference, and no array grows with the split."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    hamming_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from mmjax.data import DigitsHalves, Target
from mmjax.data.dataset import ArraySource
from mmjax.evaluation import (
    BestPossible,
    Classification,
    MultiLabelClassification,
    Predictor,
    Regression,
    evaluate,
)
from mmjax.structs import Batch, Outputs, Prediction

ROWS, CLASSES = 37, 4
TARGETS = {
    "label": Target("class", CLASSES),
    "tags": Target("labels", 3),
    "price": Target("number", shape=(2,)),
}


@dataclasses.dataclass(frozen=True)
class Mixed(DigitsHalves):
    """A data set with a target of each kind."""

    @property
    def targets(self):
        return TARGETS

    def best_accuracy(self, subset):
        return 0.8


def predictor(predicted, targets, batch_size, masks=None):
    """Gives predictions row by row, where they are the inputs; the last batch is padded."""
    source = ArraySource(predicted, targets, target_masks=masks or {})

    def forward(batch):
        said = {name: Prediction(values) for name, values in batch.inputs.items()}
        return Outputs(embeddings={}, present=batch.present, predictions=said)

    return Predictor(forward, lambda split: source, batch_size, Mixed())


def made_up(seed=0, rows=ROWS):
    """Predictions, and targets of which a part is not known."""
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, CLASSES, rows).astype(np.int32)
    tags = rng.integers(-1, 2, (rows, 3)).astype(np.float32)
    price = 1e4 + rng.standard_normal((rows, 2)).astype(np.float32)
    predicted = {
        "label": rng.standard_normal((rows, CLASSES)).astype(np.float32),
        "tags": rng.standard_normal((rows, 3)).astype(np.float32),
        "price": price + 0.5 * rng.standard_normal((rows, 2)).astype(np.float32),
    }
    price[rng.random((rows, 2)) < 0.2] = np.nan
    return predicted, {"label": label, "tags": tags, "price": price}


EVALUATORS = (
    Classification(),
    BestPossible(),
    MultiLabelClassification("tags", name="tags"),
    Regression("price"),
)


@settings(max_examples=40, deadline=None)
@given(batch_size=st.integers(1, ROWS + 5), seed=st.integers(0, 5))
def test_the_size_of_the_batches_makes_no_difference(batch_size, seed):
    made = made_up(seed)
    whole = evaluate(EVALUATORS, predictor(*made, ROWS), ["test"])
    found = evaluate(EVALUATORS, predictor(*made, batch_size), ["test"])
    assert found.metrics == pytest.approx(whole.metrics, rel=1e-9)  # float64 sums
    assert found.details == whole.details
    assert found.directions == whole.directions
    assert len(found.metrics) > 15


def test_one_pass_serves_all_evaluations_of_a_split():
    made, seen = predictor(*made_up(), 10), []
    forward = made._forward
    made._forward = lambda batch: seen.append(len(batch.ids)) or forward(batch)
    evaluate(EVALUATORS, made, ["test"])
    assert len(seen) == 4  # batches of 10 rows


def test_a_class_that_is_not_known_counts_for_nothing():
    predicted, targets = made_up()
    known = targets["label"] >= 0
    assert 0.5 < known.mean() < 0.95
    found = evaluate(EVALUATORS[:2], predictor(predicted, targets, 8), ["test"]).metrics
    expected = accuracy_score(targets["label"][known], predicted["label"].argmax(axis=1)[known])
    assert found["test/accuracy"] == pytest.approx(expected)
    assert found["test/share_of_best"] == pytest.approx(expected / 0.8)


def test_labels_agree_with_scikit_learn():
    predicted, targets = made_up(1, rows=200)
    evaluator = MultiLabelClassification("tags", name="tags")
    said, known = predicted["tags"] > 0, targets["tags"] >= 0
    found = evaluator(predictor(predicted, targets, 33), "test")
    by_label = [f1_score(targets["tags"][known[:, c], c], said[known[:, c], c]) for c in range(3)]
    flat = targets["tags"][known], said[known]
    whole = known.all(axis=1)
    expected = {
        "tags_label_accuracy": 1 - hamming_loss(*flat),
        "tags_exact_match": accuracy_score(targets["tags"][whole] > 0, said[whole]),
        "tags_micro_f1": f1_score(*flat),
        "tags_macro_f1": np.mean(by_label),
    }
    np.testing.assert_allclose(found.pop("tags_f1_by_label"), by_label, rtol=1e-12)
    assert found == pytest.approx(expected, rel=1e-12)
    assert 0.1 < whole.mean() < 0.6


def test_labels_that_nobody_has_and_nothing_says_have_no_f1():
    rows = np.zeros((6, 3), np.float32)
    made = made_up(rows=6)[0] | {"tags": rows - 1}
    targets = made_up(rows=6)[1] | {"tags": rows}
    found = MultiLabelClassification("tags")(predictor(made, targets, 4), "test")
    assert found["macro_f1"] == found["micro_f1"] == 0
    assert found["exact_match"] == found["label_accuracy"] == 1


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_numbers_agree_with_scikit_learn_however_far_from_zero(far):
    rng = np.random.default_rng(2)
    price = far + rng.standard_normal((300, 2))
    guess = price + 0.5 * rng.standard_normal((300, 2))
    # What the predictor is given is of type float32: the figures are of these numbers, exactly.
    price, guess = np.float32(price), np.float32(guess)
    known = rng.random((300, 2)) < 0.8
    y, p = price[known].astype(np.float64), guess[known].astype(np.float64)
    predicted, targets = made_up(rows=300)
    predicted, targets = predicted | {"price": guess}, targets | {"price": price}
    masked = predictor(predicted, targets, 7, masks={"price": known})
    unknown = targets | {"price": np.where(known, price, np.nan).astype(np.float32)}
    for made in (masked, predictor(predicted, unknown, 64)):
        found = Regression("price", name="price")(made, "test")
        assert found == pytest.approx(
            {
                "price_mae": mean_absolute_error(y, p),
                "price_rmse": root_mean_squared_error(y, p),
                "price_correlation": np.corrcoef(y, p)[0, 1],
                "price_r2": r2_score(y, p),
            },
            rel=1e-9,
        )


def test_numbers_that_do_not_vary_and_splits_without_any():
    rows = np.ones((5, 2), np.float32)
    predicted, targets = made_up(rows=5)
    constant = predictor(predicted | {"price": 3 * rows}, targets | {"price": rows}, 2)
    found = Regression("price")(constant, "test")
    assert found == {"mae": 2, "rmse": 2, "correlation": 0, "r2": 0}
    unknown = {name: np.full_like(each, -1) for name, each in targets.items()}
    unknown["price"] = np.full_like(targets["price"], np.nan)
    found = evaluate(EVALUATORS, predictor(predicted, unknown, 2), ["test"]).metrics
    assert set(found.values()) <= {0.0, 0.8}


@dataclasses.dataclass(frozen=True)
class MadeUpSource:
    """Rows that are made when they are asked for; class i mod 4, told right 3 times of 4."""

    rows: int

    def __len__(self):
        return self.rows

    def take(self, indices):
        label = (indices % CLASSES).astype(np.int32)
        said = np.where(indices % 16 < 12, label, (label + 1) % CLASSES)
        rest = {"tags": np.zeros((len(indices), 3)), "price": np.zeros((len(indices), 2))}
        logits = np.eye(CLASSES, dtype=np.float32)[said]
        return Batch.of({"label": logits}, indices, targets={"label": label} | rest)


def test_memory_does_not_grow_with_the_split():
    def forward(batch):
        said = {"label": Prediction(batch.inputs["label"])}
        return Outputs(embeddings={}, present=batch.present, predictions=said)

    def peak(rows):
        made = Predictor(forward, lambda split: MadeUpSource(rows), 4096, Mixed())
        tracemalloc.start()
        found = evaluate([Classification(), BestPossible()], made, ["test"])
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.metrics["test/accuracy"] == pytest.approx(0.75, abs=1e-4)
        assert np.sum(found.details["test/confusion"]) == rows
        return used

    peak(8192)  # what is imported and compiled at the first time
    few, many = peak(8192), peak(200_000)
    # The logits of all rows alone would be 3.2 MB more.
    assert many < few + 200_000
