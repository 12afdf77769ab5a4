"""The configs that an experiment lists: which rows count, and what they say of wrong names."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import ConfigError
from mmjax.objectives import (
    DCCA,
    CrossEntropy,
    InfoNCE,
    JointEmbedding,
    SigmoidContrastive,
    cross_entropy,
    dcca_loss,
    info_nce,
    joint_embedding,
    sigmoid_contrastive,
)
from mmjax.objectives.objective import check_two_views
from mmjax.structs import Batch, Outputs

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
    return Outputs(embeddings=embeddings, present=present, logits=logits), batch


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
            expected = dcca_loss(z1, z2, k=2)
        case InfoNCE():
            expected = info_nce(z1, z2, temperature=0.07)
        case SigmoidContrastive():
            expected = sigmoid_contrastive(z1, z2, temperature=10.0, bias=-10.0)
        case JointEmbedding(target=None):
            expected = joint_embedding(z1, z2, jnp.eye(9), regularization=1e-3, margin=1.0)
        case JointEmbedding():
            same = jnp.float32(label[:, None] == label[None, :])
            expected = joint_embedding(z1, z2, same, regularization=1e-3, margin=1.0)
    np.testing.assert_allclose(objective(outputs, batch), expected, rtol=1e-5)  # float32 sums


def test_cross_entropy_is_the_mean_over_the_rows_that_are_no_padding():
    outputs, batch = step()
    total, count = cross_entropy(outputs.logits[:11], batch.targets["label"][:11])
    got = CrossEntropy()(outputs, batch)
    np.testing.assert_allclose(got, total / count, rtol=1e-6)  # float32 sums
    assert CrossEntropy()(outputs, batch.replace(weight=np.zeros(B, np.float32))) == 0


def test_names_are_those_of_the_functions():
    names = [objective.name for objective in (CrossEntropy(), *COUPLED[:4])]
    assert names == ["cross_entropy", "dcca", "info_nce", "sigmoid_contrastive", "joint_embedding"]


@pytest.mark.parametrize("objective", [CrossEntropy(), *COUPLED])
def test_every_field_is_described(objective):
    described = type(objective).__doc__.split("Attributes:")[1]
    for field in dataclasses.fields(objective):
        assert f"        {field.name}: " in described


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
    with pytest.raises(ConfigError, match=r"no target 'lable': did you mean 'label'"):
        CrossEntropy(target="lable")(outputs, batch)
    with pytest.raises(ConfigError, match="no target 'topic'"):
        JointEmbedding(views=VIEWS, target="topic")(outputs, batch)
    with pytest.raises(ConfigError, match="one integer label"):
        CrossEntropy(target="score")(outputs, batch)
    with pytest.raises(ConfigError, match="no classifier head"):
        CrossEntropy()(outputs.replace(logits=None), batch)


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
