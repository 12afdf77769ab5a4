"""Targets that are not known count for nothing; targets, objectives and heads have to fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import ArraySource, DigitsHalves, Target
from mmjax.data.checks import with_known_targets
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import Classification, MultiLabelClassification, Regression
from mmjax.heads import Classifier, Regressor
from mmjax.models import FusionModel
from mmjax.objectives import BinaryCrossEntropy, CrossEntropy, Focal, SquaredError
from mmjax.training import Experiment, Training
from mmjax.training.setup import Setup, prepare
from mmjax.training.step import loss_of

VIEWS = ("left", "right")
ROWS = 24
TARGETS = {
    "label": Target("class", 10),
    "tags": Target("labels", 3),
    "place": Target("number", shape=(2,)),
}


@dataclasses.dataclass(frozen=True)
class Mixed(DigitsHalves):
    """The digits with targets of three kinds, of which a part is not known."""

    gaps: bool = True
    declared: tuple[str, ...] = tuple(TARGETS)

    @property
    def targets(self):
        return {name: TARGETS[name] for name in self.declared}

    def load(self, split, folder=None):
        source, rng = super().load(split), np.random.default_rng(0)
        label = source.targets["label"].astype(np.int32)
        tags = (label[:, None] % np.array([2, 3, 5]) == 0).astype(np.float32)
        place = np.stack([np.cos(label), np.sin(label)], axis=1).astype(np.float32)
        if self.gaps:
            label = np.where(rng.random(len(label)) < 0.3, -1, label)
            tags[rng.random(tags.shape) < 0.3] = -1
            place[rng.random(place.shape) < 0.3] = np.nan
        targets = {"label": label, "tags": tags, "place": place}
        return ArraySource(source.inputs, {name: targets[name] for name in self.declared})


EXPERIMENT = Experiment(
    name="mixed",
    data=Mixed(),
    model=FusionModel({view: MLP(hidden=(6,), width=4) for view in VIEWS}),
    objectives=(CrossEntropy(), BinaryCrossEntropy(target="tags"), SquaredError(target="place")),
    training=Training(steps=1, batch_size=ROWS),
    evaluation=(
        Classification(),
        MultiLabelClassification("tags", name="tags"),
        Regression("place", name="place"),
    ),
)


@pytest.fixture(scope="module")
def state():
    return Setup(EXPERIMENT, None).create_state()


@jax.jit
def found(state, batch):
    (total, (values, _)), gradient = jax.value_and_grad(
        lambda params: loss_of(state, params, batch, key=state.key), has_aux=True
    )(state.params)
    return {"loss": total, **values}, gradient


def rows_of(split="train"):
    batch = Mixed().load(split).take(np.arange(ROWS))
    return with_known_targets(batch, TARGETS, "these")


def test_the_loss_is_that_of_what_is_known(state):
    """Each objective by itself, from the model's own predictions."""
    batch = rows_of()
    values, _ = found(state, batch)
    said = Setup(EXPERIMENT, None).predictor(state, EXPERIMENT.evaluation)
    outputs = jax.device_get(said._forward(batch))
    p = {name: np.float64(each.values) for name, each in outputs.predictions.items()}
    raw = Mixed().load("train").take(np.arange(ROWS)).targets

    known = raw["label"] >= 0
    log_p = p["label"] - np.log(np.exp(p["label"]).sum(axis=1, keepdims=True))
    of_label = -log_p[np.arange(ROWS), raw["label"]][known].mean()
    y, s = raw["tags"], p["tags"]
    of_tags = (np.log1p(np.exp(s)) - y * s)[y >= 0].mean()
    of_place = np.nanmean(np.square(p["place"] - raw["place"]))
    expected = {
        "cross_entropy": of_label,
        "binary_cross_entropy": of_tags,
        "squared_error": of_place,
        "loss": of_label + of_tags + of_place,
    }
    assert 0.5 < known.mean() < 1
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5)  # float32


def test_the_gradient_is_that_of_the_rows_that_are_known(state):
    """Rows of which nothing is known are as if they were not there, whatever else they hold."""
    batch = rows_of()
    kept = np.arange(ROWS) % 3 > 0
    masks = {
        name: mask & kept.reshape(-1, *[1] * (mask.ndim - 1))
        for name, mask in batch.target_masks.items()
    }
    nonsense = {
        name: np.where(masks[name], each, 99 if each.dtype.kind == "i" else np.nan)
        for name, each in batch.targets.items()
    }
    unknown = batch.replace(
        targets={name: each.astype(batch.targets[name].dtype) for name, each in nonsense.items()},
        target_masks=masks,
    )
    absent = jax.tree.map(lambda leaf: leaf[kept], batch)
    one, two = found(state, unknown), found(state, absent)
    # 1e-5, 1e-6: float32 sums in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, two)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(one[1])) > 1e-2


def test_a_batch_of_which_nothing_is_known_teaches_nothing(state):
    batch = rows_of()
    masks = jax.tree.map(np.zeros_like, batch.target_masks)
    values, gradient = found(state, batch.replace(target_masks=masks))
    assert all(float(value) == 0 for value in values.values())
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))


def changed(**parts):
    return dataclasses.replace(EXPERIMENT, **parts)


def with_heads(**heads):
    return changed(model=dataclasses.replace(EXPERIMENT.model, heads=heads), evaluation=())


def test_it_fits_together():
    heads = prepare(EXPERIMENT, None).abstract_state.params["model"]["heads"]
    assert set(heads) == set(EXPERIMENT.data.targets)
    one = dataclasses.replace(EXPERIMENT.model, heads={"label": Classifier()})
    alone = changed(model=one, objectives=(CrossEntropy(),), evaluation=(Classification(),))
    assert set(prepare(alone, None).abstract_state.params["model"]["heads"]) == {"label"}


@pytest.mark.parametrize(
    ("experiment", "sentence"),
    [
        (
            changed(objectives=(CrossEntropy(target="place"),)),
            "CrossEntropy needs a target of the kind class or tokens, but 'place' is",
        ),
        (changed(objectives=(Focal(target="tags"),)), "Focal needs .* tokens, but 'tags'"),
        (
            changed(objectives=(SquaredError(target="label"),)),
            "SquaredError needs a target of the kind number, but 'label' is of the kind cl",
        ),
        (
            changed(objectives=(BinaryCrossEntropy(target="place"),)),
            "BinaryCrossEntropy needs a target of the kind labels, but 'place'",
        ),
        (
            changed(objectives=(SquaredError(target="plaec"),)),
            "no target of digits_halves, for SquaredError, 'plaec': did you mean 'place'",
        ),
        (
            with_heads(label=Classifier()),
            "no head of the model for the target 'tags'. Available: l",
        ),
        (with_heads(lable=Classifier()), "no target, for a head, 'lable': did you mean 'label'"),
        (with_heads(place=Classifier()), "Classifier predicts a target of the kind class, not num"),
        (
            with_heads(label=Regressor()),
            "Regressor predicts a target of the kind number, not class",
        ),
        (
            changed(evaluation=(Classification(), MultiLabelClassification("tags"))),
            "Two evaluations give a metric 'macro_f1': set `name` of one of them",
        ),
        (
            changed(evaluation=(Regression("place"), Regression("place"))),
            "Two evaluations give a metric 'mae'",
        ),
        (
            changed(evaluation=(Classification(name="a"), Classification(name="a"))),
            "Two evaluations give a metric 'a_accuracy'",
        ),
        (
            changed(evaluation=(Regression("label"),)),
            "'label' is of the kind 'class', but this evaluation needs one of the kind 'number'",
        ),
        (
            changed(evaluation=(Classification("tags"),)),
            "'tags' is of the kind 'labels', but this evaluation needs one of the kind 'class'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(experiment, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        prepare(experiment, None)
    assert "\n" not in str(caught.value)


@dataclasses.dataclass(frozen=True)
class FromOne(Mixed):
    """Labels as some files number them."""

    def load(self, split, folder=None):
        source = super().load(split)
        return ArraySource(source.inputs, source.targets | {"label": source.targets["label"] + 1})


@dataclasses.dataclass(frozen=True)
class Counts(Mixed):
    @property
    def targets(self):
        return {"label": 10}


@dataclasses.dataclass(frozen=True)
class Forgotten(Mixed):
    def load(self, split, folder=None):
        source = super().load(split)
        return ArraySource(source.inputs, {"label": source.targets["label"]})


@pytest.mark.parametrize(
    ("data", "error", "sentence"),
    [
        (FromOne(gaps=False), DataError, "is 10 in record .* 10 classes are numbered from 0 to 9"),
        (Forgotten(), DataError, "The target 'tags' is declared, but not in the targets of the"),
        (Counts(), ConfigError, r"declares the target 'label' as 10: use a mmjax.data.Target"),
    ],
)
def test_data_that_is_not_as_declared_is_refused_before_the_first_step(data, error, sentence):
    with pytest.raises(error, match=sentence):
        prepare(changed(data=data), None)
