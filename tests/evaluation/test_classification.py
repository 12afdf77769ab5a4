"""Classification of made-up predictions against scikit-learn, and what its check refuses."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from mmjax.data import DigitsHalves, Target
from mmjax.data.dataset import ArraySource
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification, Predictor
from mmjax.heads import Classifier
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.structs import Outputs, Prediction
from mmjax.training import Experiment, Training

ENCODERS = {"left": MLP((), 4), "right": MLP((), 4)}


def predictor(logits, labels, batch_size):
    """Gives these logits, row by row; the last batch is padded."""
    source = ArraySource({"left": logits}, {"label": labels})

    def forward(batch):
        left = batch.inputs["left"]
        said = {"label": Prediction(left)}
        return Outputs(embeddings={"left": left}, present=batch.present, predictions=said)

    return Predictor(forward, lambda split: source, batch_size, DigitsHalves())


@pytest.mark.parametrize("batch_size", [7, 20, 64])
def test_agrees_with_scikit_learn(batch_size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60).astype(np.int32)  # nothing is of class 4
    logits = rng.standard_normal((60, 5)).astype(np.float32)
    logits[np.arange(60), labels] += 1.5
    logits[:, 3] = -9  # never predicted
    found = Classification()(predictor(logits, labels, batch_size), "test")

    predicted = logits.argmax(axis=1)
    options = {"labels": range(5), "zero_division": 0}
    expected = {"accuracy": accuracy_score(labels, predicted)}
    for average in ("macro", "weighted"):
        scores = precision_recall_fscore_support(labels, predicted, average=average, **options)
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            expected[f"{average}_{name}"] = score
    np.testing.assert_array_equal(
        found.pop("confusion"), confusion_matrix(labels, predicted, labels=range(5))
    )
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.3 < found["accuracy"] < 0.9


@dataclasses.dataclass(frozen=True)
class TwoTargets(DigitsHalves):
    @property
    def targets(self):
        return {"label": Target("class", 10), "parity": Target("class", 2)}


def experiment(model=None, data=None):
    return Experiment(
        name="test",
        data=data or DigitsHalves(),
        model=model or FusionModel(ENCODERS),
        objectives=(CrossEntropy(),),
        training=Training(steps=1),
    )


def test_check():
    Classification().check(experiment())
    parity = FusionModel(ENCODERS, heads={"parity": Classifier()})
    Classification("parity").check(experiment(parity, TwoTargets()))

    with pytest.raises(ConfigError, match="no target 'lable': did you mean 'label'"):
        Classification("lable").check(experiment())
    aligned = dataclasses.replace(
        experiment(DualEncoder(ENCODERS)), objectives=(DCCA(views=("left", "right")),)
    )
    with pytest.raises(ConfigError, match="no head of the model for the target 'label'"):
        Classification().check(aligned)
    with pytest.raises(
        ConfigError, match=r"no head of the model for the target 'label'. Available: parity"
    ):
        Classification().check(experiment(parity, TwoTargets()))
