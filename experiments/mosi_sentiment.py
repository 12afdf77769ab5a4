"""Sentiment of utterances from text, voice and face, and the effect of missing labels.

    MMJAX_DATA=... mmjax ablate experiments/mosi_sentiment.py

The model predicts the number `sentiment` (squared error) and its sign `positive` (cross-entropy),
from one modality or from all three, concatenated; the metrics are error, correlation and accuracy
on the 752 test utterances of Poria et al. Their features were fitted with the labels of the
training part, so no split is suitable for tuning: the settings are the first that were tried. In
further rows, nine of ten sentiments are hidden, with and without the signs as a target.

Expected, three seeds, error, correlation and accuracy: text 0.961 ± 0.005, 0.598 and 0.758 ± 0.005;
audio 1.302, 0.168 and 0.557; visual 1.376, 0.068 and 0.525; all 0.969 ± 0.005, 0.616 and 0.762 ±
0.011, no more accurate than text alone (published, unverified, with the context of a video: 0.781,
0.603, 0.558, 0.803). With nine in ten hidden the error is 1.053 ± 0.025 and the correlation 0.514;
the known signs do not help it. 2 minutes of processor time.
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
    """The binary accuracy of their model, which reads utterances with their context."""
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
