"""Deep CCA on the left and right halves of MNIST digits, after Andrew et al. 2013.

    MMJAX_DATA=... mmjax ablate experiments/andrew2013_mnist_halves.py

Total correlation of 50 dimensions on the 10,000 test digits, at most 50. Projections are fitted on
the 54,000 training digits; hyperparameters were chosen on the 6,000 validation digits. The rows
without training do not depend on the seed (the kernel features have their own seed).

Expected, five seeds: linear CCA 28.49, kernel CCA 40.37 (random Fourier) and 41.97 (Nystrom), DCCA
46.78 ± 0.04 (published, unverified: 28.0, 33.0, 39.7). On 2 cores, a run takes four minutes for
DCCA and one minute for each kernel CCA.
"""

from mmjax.cca import Nystrom, RandomFourier
from mmjax.data import MNISTHalves
from mmjax.encoders import MLP, Flatten
from mmjax.evaluation import CCA, KCCA, HeldOutCorrelation
from mmjax.models import DualEncoder
from mmjax.objectives import DCCA
from mmjax.studies import Published, Study
from mmjax.training import AdamW, Cosine, Experiment, Training

views = ("left", "right")

experiment = Experiment(
    name="andrew2013-mnist-halves",
    data=MNISTHalves(),
    model=DualEncoder(
        encoders={view: MLP(hidden=(1024, 1024), width=50, dropout=0.2) for view in views}
    ),
    objectives=(DCCA(views=views),),
    optimizer=AdamW(learning_rate=1e-3, schedule=Cosine(warmup_steps=36)),
    training=Training(
        steps=1500, batch_size=1500, log_every=20, eval_every=250, monitor="total_correlation"
    ),
    evaluation=(HeldOutCorrelation(views=views, k=50),),
)


def on_raw_views(projection):
    """A row without training."""
    return {
        "model": DualEncoder(encoders={view: Flatten() for view in views}),
        "objectives": (),
        "training.steps": 0,
        "training.monitor": "",
        "evaluation": (HeldOutCorrelation(projection=projection),),
    }


figure = "test/total_correlation"
source = "Andrew et al. 2013, Deep CCA, MNIST halves, test"
study = Study(
    rows={
        "linear CCA": on_raw_views(CCA(views, k=50, ridge=1e-4)),
        "kernel CCA, random Fourier": on_raw_views(
            KCCA(views, k=50, ridge=1e-6, features=RandomFourier(2000))
        ),
        "kernel CCA, Nystrom": on_raw_views(KCCA(views, k=50, ridge=1e-6, features=Nystrom(1000))),
        "DCCA": {},
    },
    columns=("valid/total_correlation", figure),
    published={
        "linear CCA": {figure: Published(28.0, source, "unverified")},
        "kernel CCA, random Fourier": {figure: Published(33.0, source, "unverified")},
        "kernel CCA, Nystrom": {figure: Published(33.0, source, "unverified")},
        "DCCA": {figure: Published(39.7, source, "unverified")},
    },
    baseline="linear CCA",
    seeds=5,
)
