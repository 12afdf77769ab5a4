"""Pictures and captions that find each other, by the losses of CLIP and SigLIP.

    mmjax ablate experiments/shapes_contrastive.py

InfoNCE and the sigmoid loss, with temperature and bias fixed where the papers start, or learned
from there. Recall of the example's own record among 1,000.
"""

from mmjax.data import Shapes
from mmjax.encoders import LeNet, TextTransformer
from mmjax.evaluation import Retrieval
from mmjax.models import DualEncoder
from mmjax.objectives import InfoNCE, SigmoidContrastive
from mmjax.studies import Study
from mmjax.training import AdamW, Cosine, Experiment, Training

views = ("image", "text")

experiment = Experiment(
    name="shapes-contrastive",
    data=Shapes(test_size=1_000),
    model=DualEncoder(
        {
            "image": LeNet(blocks=2, channels=8, width=32, batch_norm=True),
            "text": TextTransformer(width=32, layers=1, heads=2),
        },
        width=32,
    ),
    objectives=(InfoNCE(views=views),),
    optimizer=AdamW(learning_rate=3e-3, schedule=Cosine(warmup_steps=20)),
    training=Training(steps=300, batch_size=128, log_every=50, final_splits=("test",)),
    evaluation=(Retrieval(views, target="", k=(10,)),),
)

study = Study(
    rows={
        "InfoNCE, fixed": {},
        "InfoNCE, learned": {"objectives.0.learned": True},
        "SigLIP, fixed": {"objectives": (SigmoidContrastive(views=views),)},
        "SigLIP, learned": {"objectives": (SigmoidContrastive(views=views, learned=True),)},
    },
    columns=("test/recall_at_10_mean", "test/median_rank_mean"),
    baseline="InfoNCE, fixed",
    seeds=3,
)
