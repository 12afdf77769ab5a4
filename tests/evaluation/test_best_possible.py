"""The share of the best possible accuracy, for the modalities that the model uses."""

import numpy as np
import pytest

from mmjax.data import DigitsHalves, Shapes
from mmjax.data.dataset import ArraySource
from mmjax.encoders import MLP, LeNet
from mmjax.errors import ConfigError
from mmjax.evaluation import BestPossible, Predictor
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Outputs, Prediction
from mmjax.training import Experiment, Training

DATA = Shapes(information="synergy", classes=2, noise=0.2)


@pytest.mark.parametrize(
    ("modalities", "best"),
    # Both codes intact: 0.8^2, else a guess. One alone tells nothing.
    [(("image", "audio"), 0.64 + 0.36 / 2), (("image",), 0.5), (("image", "text"), 0.5)],
)
def test_share_of_the_best(modalities, best):
    labels = np.tile(np.array([0, 1], np.int32), 20)
    logits = np.eye(2, dtype=np.float32)[labels]
    logits[:10] = logits[:10, ::-1]  # three of four right
    source = ArraySource({"image": logits}, {"label": labels})

    def forward(batch):
        everywhere = np.ones(len(batch.ids), bool)
        return Outputs(
            embeddings=dict.fromkeys(modalities, batch.inputs["image"]),
            present=dict.fromkeys(modalities, everywhere),
            predictions={"label": Prediction(batch.inputs["image"])},
        )

    found = BestPossible()(Predictor(forward, lambda split: source, 16, DATA), "test")
    assert found == pytest.approx({"best_accuracy": best, "share_of_best": 0.75 / best})


def experiment(model, data):
    return Experiment(
        name="test",
        data=data,
        model=model,
        objectives=(CrossEntropy(),),
        training=Training(steps=1),
    )


def test_check():
    image = FusionModel({"image": LeNet()})
    BestPossible().check(experiment(image, DATA))
    with pytest.raises(ConfigError, match="no target 'labels': did you mean 'label'"):
        BestPossible("labels").check(experiment(image, DATA))
    with pytest.raises(ConfigError, match=r"The best .* on 'digits_halves' is unknown"):
        BestPossible().check(experiment(FusionModel({"left": MLP()}), DigitsHalves()))
    pair = DualEncoder({"left": MLP(), "right": MLP()})
    with pytest.raises(ConfigError, match="no head of the model for the target 'label'"):
        BestPossible().check(experiment(pair, DigitsHalves()))
