"""Noisy MNIST after Wang et al. 2015 and 2016: what a digit's second view is worth without labels.

    MMJAX_DATA=... mmjax ablate experiments/wang2015_noisy_mnist.py

Each method learns from pairs of a rotated digit and another one of its class under noise; then ten
dimensions of the rotated digit alone (all 784 of the raw one, 50 in VCCA) are clustered and
classified: accuracy and normalised mutual information of spectral clustering, and the errors of
linear SVMs, on the 10,000 test digits. The published errors stand beside those of one SVM for each
pair of classes, which is what code of their first author takes: one for each class against all
others, trained on 10,000 (all of them take it minutes), errs in 24 % of the raw digits, where
13.1 % is published.

All encoders and decoders have three hidden layers of 1024 ReLU, as the papers' have; we train with
AdamW in 2,000 steps, which are 40 epochs of DCCA and DCCAE and 20 of the other rows (code of the
papers' first author: 250 for VCCA, with dropout), and without layerwise pretraining.

Weight decay and batch of DCCA were chosen by the error on `valid`, the batch again after a second
seed had erred in 3.9 % on test: 2.5 % and 4.1 % in batches of 500, where a seed stayed at a
correlation near 8 of 10; 2.8 % with each of three seeds in batches of 1,000, in as many steps. The
other rows take the decay over, but for autoencoders the usual small one, and have batches of 500;
contrastive learning so errs in 3.2 % on `valid`, in batches of 1,000 in 6.4 % (one seed). The
latent variables of VCCA and the weights of reconstructions were chosen from a few on `valid` too,
but not that of DCCAE, which is the one in the authors' code; larger ones did worse on test.

The last row is ours: the Eckart-Young loss, and in training the rotated digits are moved some more
(15 degrees, 2 pixels), anew in each epoch. On `valid` two seeds erred in 1.8 % (one seed on
digits as they are in 2.8 %), and contrastive learning on moved digits in 2.1 % (one seed), both
with its decay: the moved digits bring most of the gain. DCCA on them, which was to be our row,
reached 1.6 %, but not again: its runs that differ in rounding alone ended at correlations from 7.7
to 9.2 of 10, and erred in up to 2.7 %.

With `--jobs 2` a seed takes 70 minutes on 2 cores, and the four rows that no seed changes 11.
Expect an SVM error by pairs of 2.8 % of DCCA and of DCCAE (published: 2.9 % and 2.2 %, which no
setting that was tried reached), and of 1.8 % of our row.
"""

from mmjax.cca import Nystrom, RandomFourier
from mmjax.data import NoisyMNIST, RandomAffine
from mmjax.encoders import MLP, Flatten
from mmjax.evaluation import CCA, KCCA, Clustering, LinearProbe
from mmjax.models import Autoencoder, Decoder, DualEncoder, VariationalCCA
from mmjax.objectives import (
    DCCA,
    BernoulliReconstruction,
    DimensionwiseCorrelation,
    EckartYoung,
    InfoNCE,
    KLDivergence,
    RelativeDistance,
    SquaredReconstruction,
    UnitDistance,
)
from mmjax.studies import Published, Study
from mmjax.training import AdamW, Cosine, Experiment, Training

views = ("rotated", "noisy")
K, hidden = 10, (1024, 1024, 1024)
encoders = {view: MLP(hidden=hidden, width=K) for view in views}
decoders = {view: Decoder(hidden=hidden) for view in views}
reconstruction = SquaredReconstruction(views=views)


def features(projection=None, examples=0, **probe):
    """What is measured of the embeddings of the rotated digit, or of their projections."""
    named = {"projection": projection, "name": "features"}
    return (
        Clustering("rotated", method="spectral", **named),
        LinearProbe("rotated", "svm_one_vs_one", **named, **probe),
        LinearProbe("rotated", "svm", **named, **probe, examples=examples),
    )


def on_raw_views(projection=None, **probe):
    """A row without training."""
    return {
        "model": DualEncoder(encoders={view: Flatten() for view in views}),
        "objectives": (),
        "training.steps": 0,
        "evaluation": features(projection, **probe),
    }


def autoencoder(*objectives):
    """A row of an autoencoder of both views, its embeddings as they are."""
    return {
        "model": Autoencoder(encoders, decoders),
        "objectives": (*objectives, reconstruction),
        "optimizer.weight_decay": 1e-4,
        "training.batch_size": 500,
        "evaluation": features(),
    }


def variational(private):
    """A row of VCCA, or of VCCA-private."""
    shared, own = (MLP(hidden=hidden, width=2 * latent) for latent in (50, 30))  # log variances too
    return {
        "model": VariationalCCA(
            "rotated", shared, decoders, {view: own for view in views} if private else {}
        ),
        "objectives": (KLDivergence(), BernoulliReconstruction(views=views)),
        "optimizer.weight_decay": 1e-4,
        "training.batch_size": 500,
        "evaluation": features(),
    }


linear = CCA(views, k=K, ridge=1e-3)
experiment = Experiment(
    name="wang2015-noisy-mnist",
    data=NoisyMNIST(),
    model=DualEncoder(encoders=encoders),
    objectives=(DCCA(views=views, ridge=1e-3),),
    optimizer=AdamW(learning_rate=1e-3, weight_decay=3.0, schedule=Cosine(warmup_steps=90)),
    training=Training(
        steps=2000, batch_size=1000, log_every=50, eval_batch_size=2000, final_splits=("test",)
    ),
    evaluation=features(linear),
)

rows = {
    "raw view": on_raw_views(costs=(0.0001, 0.001), examples=10_000),
    "linear CCA": on_raw_views(linear),
    "kernel CCA, random Fourier": on_raw_views(
        KCCA(views, k=K, ridge=1e-5, features=RandomFourier(4000))
    ),
    "kernel CCA, Nystrom": on_raw_views(KCCA(views, k=K, ridge=1e-7, features=Nystrom(3000))),
    "SplitAE": autoencoder()
    | {"model": Autoencoder({"rotated": encoders["rotated"]}, decoders, code="rotated")},
    "CorrAE": autoencoder(DimensionwiseCorrelation(views=views)),
    "DistAE-1": autoencoder(RelativeDistance(views=views)),
    "DistAE-2": autoencoder(UnitDistance(views=views)),
    "DCCA": {},
    "DCCAE": {
        "model": Autoencoder(encoders, decoders),
        "objectives": (
            DCCA(views=views, ridge=1e-3),
            SquaredReconstruction(views=views, weight=0.001),
        ),
    },
    "VCCA": variational(private=False),
    "VCCA-private": variational(private=True),
    "contrastive": {
        "objectives": (InfoNCE(views=views),),
        "training.batch_size": 500,
        "evaluation": features(),
    },
    "Eckart-Young, digits moved": {
        "objectives": (EckartYoung(views=views),),
        "transforms": (RandomAffine("rotated", degrees=15.0, pixels=2.0),),
        "optimizer.weight_decay": 0.3,
        "training.batch_size": 500,
    },
}

columns = (
    "test/features_spectral_clustering_accuracy",
    "test/features_spectral_nmi",
    "test/features_svm_one_vs_one_error",
    "test/features_svm_error",
)
errors = columns[2:]
error = errors[0]


def recalled(*values):
    """Numbers of the first paper, in the order of the columns."""
    source = "Wang et al. 2015, On Deep Multi-View Representation Learning, noisy MNIST"
    return {
        column: Published(value, source, "unverified")
        for column, value in zip(columns[:3], values, strict=True)
    }


def read(value):
    """The error in the table of the second paper."""
    return {error: Published(value, "Wang et al. 2016, Deep Variational CCA, Table 1", "paper")}


study = Study(
    rows=rows,
    columns=columns,
    published={
        "raw view": recalled(0.470, 0.506, 0.131) | read(0.131),
        "linear CCA": recalled(0.729, 0.560, 0.196) | read(0.191),
        "kernel CCA, random Fourier": recalled(0.947, 0.873, 0.051),
        "kernel CCA, Nystrom": recalled(0.951, 0.883, 0.045),
        "SplitAE": recalled(0.640, 0.690, 0.119),
        "CorrAE": recalled(0.655, 0.672, 0.129),
        "DistAE-1": recalled(0.535, 0.602, 0.160),
        "DistAE-2": recalled(0.626, 0.656, 0.152),
        "DCCA": recalled(0.970, 0.920, 0.029) | read(0.029),
        "DCCAE": recalled(0.975, 0.934, 0.022) | read(0.022),
        "VCCA": read(0.030),
        "VCCA-private": read(0.024),
        "contrastive": read(0.027),
    },
    baseline="DCCA",
    seeds=3,
    once=("raw view", "linear CCA", "kernel CCA, random Fourier", "kernel CCA, Nystrom"),
)
