"""Sentiment of utterances from text, voice and face, and what missing labels cost.

    MMJAX_DATA=... mmjax ablate experiments/mosi_sentiment.py

The number `sentiment` by squared error and its sign `positive` by cross-entropy, from one modality
or from all three side by side; error, correlation and accuracy on the 752 test utterances of Poria
et al., whose features were fitted with labels of the training part. Then nine sentiments in ten are
hidden: alone, and with the signs still known.
"""

from mmjax.data import MOSIUtterance
from mmjax.encoders import MLP
from mmjax.evaluation import Classification, Regression
from mmjax.fusion import Concat
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy, SquaredError
from mmjax.studies import Published, Study
from mmjax.training import AdamW, Cosine, Experiment, Training

names = ("text", "audio", "visual")
error, sign = SquaredError(target="sentiment"), CrossEntropy(target="positive")
errors = Regression(target="sentiment")

experiment = Experiment(
    name="mosi-sentiment",
    data=MOSIUtterance(),
    model=FusionModel(
        encoders={name: MLP(hidden=(), width=32) for name in names},
        fusion=Concat(),
    ),
    objectives=(error, sign),
    optimizer=AdamW(learning_rate=1e-3, weight_decay=1e-1, schedule=Cosine(warmup_steps=20)),
    training=Training(steps=300, batch_size=128, log_every=50, final_splits=("test",)),
    evaluation=(errors, Classification(target="positive")),
)

alone = {"objectives": (error,), "evaluation": (errors,)}


def published(value):
    """The binary accuracy of their model, which reads the utterances of a video in context."""
    source = "Poria et al. 2017, bc-LSTM, MOSI, test"
    return {"test/accuracy": Published(value, source, "unverified")}


study = Study(
    rows={name: {"model.modalities": (name,)} for name in names}
    | {
        "all": {},
        "all, sentiment alone": alone,
        "all, sentiment alone, 90 % hidden": alone | {"data.hidden": 0.9},
        "all, 90 % hidden": {"data.hidden": 0.9},
    },
    columns=("test/mae", "test/correlation", "test/accuracy"),
    published={
        "text": published(0.781),
        "audio": published(0.603),
        "visual": published(0.558),
        "all": published(0.803),
    },
    baseline="text",
    seeds=3,
)
