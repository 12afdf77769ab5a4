"""The configs that an experiment lists: which rows count, and what they say of wrong names."""

import functools

import jax
import numpy as np
import pytest

from mmjax.data import DigitsHalves
from mmjax.encoders import Flatten
from mmjax.errors import ConfigError
from mmjax.models import FusionModel
from mmjax.objectives import (
    DCCA,
    BinaryCrossEntropy,
    CrossEntropy,
    InfoNCE,
    JointEmbedding,
    SigmoidContrastive,
    SquaredError,
    cross_entropy,
    dcca_loss,
    info_nce,
    joint_embedding,
    sigmoid_contrastive,
)
from mmjax.objectives.objective import check_two_views
from mmjax.structs import Batch, Outputs, Prediction
from mmjax.training import Experiment, Training
from mmjax.training.experiment import check

B, D = 12, 4
VIEWS = ("image", "audio")
COUPLED = [
    DCCA(views=VIEWS, k=2),
    InfoNCE(views=VIEWS),
    SigmoidContrastive(views=VIEWS),
    JointEmbedding(views=VIEWS, margin=1.0),
    JointEmbedding(views=VIEWS, margin=1.0, target="label"),
]


def step():
    """Outputs and batch: rows 0 and 5 lack a view, row 11 is padding; all three hold NaN."""
    rng = np.random.default_rng(0)
    present = {name: np.ones(B, bool) for name in VIEWS}
    present["image"][0] = False
    present["audio"][5] = False
    weight = np.ones(B, np.float32)
    weight[11] = 0
    embeddings = {name: np.float32(rng.standard_normal((B, D))) for name in VIEWS}
    embeddings["image"][[0, 11]] = np.nan
    embeddings["audio"][5] = np.nan
    batch = Batch.of(
        {name: np.zeros((B, 1)) for name in VIEWS},
        np.arange(B),
        present=present,
        targets={
            "label": np.arange(B, dtype=np.int32) % 3,
            "score": np.ones(B, np.float32),
        },
    ).replace(weight=weight)
    logits = np.float32(rng.standard_normal((B, 3)))
    predictions = {name: Prediction(logits) for name in batch.targets}
    return Outputs(embeddings, present, predictions=predictions), batch


def test_two_views_are_two():
    for views, sentence in [(("a", "b", "c"), "names 3 of them"), (("a", "a"), "one view twice")]:
        with pytest.raises(ConfigError, match=sentence):
            check_two_views(views)


@pytest.mark.parametrize("objective", COUPLED)
def test_rows_count_where_both_views_are_there(objective):
    outputs, batch = step()
    kept = np.setdiff1d(np.arange(B), [0, 5, 11])
    z1, z2 = (outputs.embeddings[name][kept] for name in VIEWS)
    label = batch.targets["label"][kept]
    match objective:
        case DCCA():
            loss = functools.partial(dcca_loss, k=2)
        case InfoNCE():
            loss = functools.partial(info_nce, temperature=0.07)
        case SigmoidContrastive():
            loss = functools.partial(sigmoid_contrastive, temperature=10.0, bias=-10.0)
        case JointEmbedding():
            same = np.eye(9) if objective.target is None else label[:, None] == label[None, :]
            loss = functools.partial(
                joint_embedding, s=np.float32(same), regularization=1e-3, margin=1.0
            )
    expected = jax.jit(loss)(z1, z2)
    found = jax.jit(objective)(outputs, batch).mean
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32 sums


def test_cross_entropy_is_the_mean_over_the_rows_that_are_no_padding():
    outputs, batch = step()
    total, count = cross_entropy(
        outputs.predictions["label"].values[:11], batch.targets["label"][:11]
    )
    got = CrossEntropy()(outputs, batch).mean
    np.testing.assert_allclose(got, total / count, rtol=1e-6)  # float32 sums
    assert CrossEntropy()(outputs, batch.replace(weight=np.zeros(B, np.float32))).mean == 0


def test_names_are_those_of_the_functions():
    names = [objective.name for objective in (CrossEntropy(), *COUPLED[:4])]
    assert names == ["cross_entropy", "dcca", "info_nce", "sigmoid_contrastive", "joint_embedding"]


@pytest.mark.parametrize("make", [DCCA, InfoNCE, SigmoidContrastive, JointEmbedding])
def test_wrong_views_are_named(make):
    outputs, batch = step()
    with pytest.raises(
        ConfigError, match=r"'imagee': did you mean 'image'\? Available: image, audio"
    ):
        make(views=("audio", "imagee"))(outputs, batch)
    with pytest.raises(ConfigError, match="no embedding 'smell'"):
        make(views=("audio", "smell"))(outputs, batch)
    with pytest.raises(ConfigError, match="one view twice"):
        make(views=("audio", "audio"))
    with pytest.raises(TypeError, match="views"):
        make()


def test_wrong_targets_and_a_missing_head_are_named():
    outputs, batch = step()
    with pytest.raises(ConfigError, match=r"the target 'lable': did you mean 'label'"):
        CrossEntropy(target="lable")(outputs, batch)
    with pytest.raises(ConfigError, match="no target 'topic'"):
        JointEmbedding(views=VIEWS, target="topic")(outputs, batch)
    with pytest.raises(ConfigError, match="needs one integer for each of the logits"):
        CrossEntropy(target="score")(outputs, batch)
    with pytest.raises(
        ConfigError,
        match=r"no head of the model for the target 'label'\. None are available: give the model",
    ):
        CrossEntropy()(outputs.replace(predictions={}), batch)


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (
            SquaredError(target="label"),
            "SquaredError needs a target of the kind number, but 'label' is of the kind "
            "class: choose another objective or another target",
        ),
        (
            BinaryCrossEntropy(target="label"),
            "kind labels, but 'label' is of the kind class",
        ),
        (CrossEntropy(target="lable"), "for CrossEntropy, 'lable': did you mean 'label'"),
        (JointEmbedding(views=("left", "right"), target="topic"), "JointEmbedding, 'topic'"),
    ],
)
def test_targets_that_do_not_fit_are_refused_before_data_is_read(objective, sentence):
    experiment = Experiment(
        name="test",
        data=DigitsHalves(),
        model=FusionModel({"left": Flatten(), "right": Flatten()}),
        objectives=(CrossEntropy(), objective),
        training=Training(steps=1),
    )
    with pytest.raises(ConfigError, match=sentence):
        check(experiment)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DCCA(views=VIEWS, ridge=-1.0), "ridge"),
        (lambda: InfoNCE(views=VIEWS, temperature=0.0), "temperature"),
        (lambda: SigmoidContrastive(views=VIEWS, temperature=-1.0), "temperature"),
        (lambda: JointEmbedding(views=VIEWS, regularization=-1.0), "regularization"),
        (lambda: JointEmbedding(views=VIEWS, margin=-1.0), "margin"),
        (lambda: CrossEntropy(label_smoothing=1.0), "label_smoothing"),
    ],
)
def test_impossible_settings_are_refused_when_they_are_written(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_dcca_checks_the_batch_against_the_width():
    outputs, batch = step()
    wide = {name: np.ones((B, 20), np.float32) for name in VIEWS}
    with pytest.raises(ConfigError, match=r"12 examples .* 20 dimensions"):
        DCCA(views=VIEWS)(outputs.replace(embeddings=wide), batch)
