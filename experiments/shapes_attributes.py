"""Several labels at once: what a picture, its caption and its sound each tell of what is shown.

mmjax ablate experiments/shapes_attributes.py
"""

from mmjax.data import Shapes
from mmjax.encoders import LeNet, LogMelCNN, TextTransformer
from mmjax.evaluation import MultiLabelClassification
from mmjax.fusion import MultimodalTransformer
from mmjax.heads import MultiLabel
from mmjax.models import FusionModel
from mmjax.objectives import BinaryCrossEntropy
from mmjax.studies import Study, axis
from mmjax.training import AdamW, Cosine, Experiment, Training

experiment = Experiment(
    name="shapes-attributes",
    data=Shapes(information="synergy", tasks=("attributes",)),
    model=FusionModel(
        encoders={
            "image": LeNet(blocks=3, channels=8, width=32, batch_norm=True),
            "text": TextTransformer(width=32, layers=1, heads=2),
            "audio": LogMelCNN(blocks=2, channels=4, width=32, batch_norm=True),
        },
        fusion=MultimodalTransformer(width=64, layers=1, heads=2),
        heads={"attributes": MultiLabel(hidden=(64,))},
    ),
    objectives=(BinaryCrossEntropy(target="attributes"),),
    optimizer=AdamW(learning_rate=3e-3, schedule=Cosine(warmup_steps=50)),
    training=Training(steps=500, batch_size=64, eval_every=250, log_every=100, eval_batch_size=250),
    evaluation=(MultiLabelClassification("attributes"),),
)

subsets = (("image",), ("text",), ("audio",), ("text", "audio"), ("image", "audio"))

study = Study(
    rows=axis("model.modalities", {" + ".join(subset): subset for subset in subsets}),
    columns=("test/micro_f1", "test/label_accuracy", "test/exact_match"),
    seeds=3,
)
