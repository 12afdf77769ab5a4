"""Noisy MNIST after Wang et al. 2015 and 2016: unsupervised learning from two views of a digit.

    MMJAX_DATA=... mmjax ablate experiments/wang2015_noisy_mnist.py

Each method learns from pairs of a rotated digit and a noisy image of its class. Then the embedding
of the rotated digit alone (ten dimensions; 784 for the raw digit, 50 for VCCA) is clustered and
classified. The metrics are accuracy and normalised mutual information of spectral clustering, and
the errors of linear SVMs, on the 10,000 test digits. The published errors are compared with those
of one-vs-one SVMs, which the code of the papers' first author uses: one-vs-rest SVMs, trained on
10,000 digits (with all digits they take minutes), have an error of 24 % on the raw digits, but the
published error is 13.1 %.

All encoders and decoders have three hidden layers of 1024 ReLU units, as in the papers. We train
with AdamW for 2,000 steps, which are 40 epochs for DCCA and DCCAE and 20 for the other rows (code
of the papers' first author: 250 for VCCA, with dropout), and without layerwise pretraining.

Weight decay and batch size of DCCA were chosen by the error on `valid`. The batch size was chosen
again after a second seed had an error of 3.9 % on test: with batches of 500 the errors on `valid`
were 2.5 % and 4.1 %, where one seed stayed at a correlation near 8 of 10; with batches of 1,000 and
the same number of steps, 2.8 % with each of three seeds. The other rows use the same weight decay
(autoencoders the usual small one) and batches of 500; with them contrastive learning has an error
of 3.2 % on `valid`, and of 6.4 % with batches of 1,000 (one seed). The number of latent variables
of VCCA and the weights of reconstructions were also chosen on `valid` from a few values, except
that of DCCAE, which is from the authors' code; larger ones were worse on test.

The last row is ours: the Eckart-Young loss, with data augmentation of the rotated digits (random
rotations up to 15 degrees and shifts up to 2 pixels, new in each epoch). On `valid`, two seeds had
an error of 1.8 % (one seed without augmentation: 2.8 %), and contrastive learning with augmentation
had 2.1 % (one seed), both with the same weight decay: most of the gain is due to the augmentation.
DCCA with augmentation, at first intended as our row, reached 1.6 %, but not reproducibly: runs that
differ only in rounding ended at correlations from 7.7 to 9.2 of 10, with errors up to 2.7 %.

With `--jobs 2`, a seed takes 70 minutes on 2 cores, and the four rows without seeds 11 minutes.
Expected: a one-vs-one SVM error of 2.8 % for DCCA and DCCAE (published: 2.9 % and 2.2 %; no setting
that was tried reached the latter), and of 1.8 % for our row.
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
    """The evaluations of the embeddings of the rotated digit, or of their projections."""
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
    """A row with an autoencoder of both views, evaluated without projections."""
    return {
        "model": Autoencoder(encoders, decoders),
        "objectives": (*objectives, reconstruction),
        "optimizer.weight_decay": 1e-4,
        "training.batch_size": 500,
        "evaluation": features(),
    }


def variational(private):
    """A row with VCCA or VCCA-private."""
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
    """The numbers of the first paper, in the order of the columns."""
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
