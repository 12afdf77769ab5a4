"""Distillation beside its equation, and teachers that do not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import Arrays, DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy, Distillation, distillation
from mmjax.training import AdamW, Experiment, Taught, Training, train
from mmjax.training.load import load

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (3 * RNG.standard_normal((4, 5)).astype(np.float32) for _ in range(2))


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_paper(temperature):
    weight = np.array([1, 0, 2, 1], np.float32)
    spoilt = np.where(weight[:, None] > 0, STUDENT, np.nan)
    total, count = distillation(spoilt, TEACHER, temperature=temperature, weight=weight)
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    divergence = (p * np.log(p / q)).sum(1)
    assert total == pytest.approx(temperature**2 * (weight * divergence).sum(), rel=1e-5)
    assert count == 4
    gradient = jax.grad(
        lambda x: distillation(x, TEACHER, temperature=temperature, weight=weight)[0]
    )(jnp.asarray(spoilt))
    np.testing.assert_allclose(gradient, temperature * weight[:, None] * (q - p), atol=1e-5)
    assert distillation(TEACHER, TEACHER)[0] == pytest.approx(0, abs=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="choose a teacher with the classes of the student"):
        distillation(STUDENT, TEACHER[:, :4])
    with pytest.raises(ConfigError, match=r"temperature=0\.0 must be above 0"):
        Distillation(temperature=0.0)


EXPERIMENT = Experiment(
    name="teacher",
    data=DigitsHalves(),
    model=FusionModel(
        {view: MLP((), width=8) for view in ("left", "right")}, heads={"label": Classifier()}
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=0.05),
    training=Training(steps=20, batch_size=64, log_every=1, final_splits=()),
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    run = tmp_path_factory.mktemp("teacher") / "run"
    train(EXPERIMENT, run, None)
    return str(run)


def test_a_teacher_with_both_views_teaches_a_student_with_one(teacher, tmp_path):
    data = Taught(DigitsHalves(), teacher)
    batch = data.load("valid", None).take(np.array([3, 1]))
    expected = load(teacher).predict(DigitsHalves(), "valid")["label"][[3, 1]]
    np.testing.assert_allclose(np.exp(batch.targets["label_teacher"]), expected, atol=1e-6)
    student = dataclasses.replace(
        EXPERIMENT,
        name="student",
        data=data,
        model=FusionModel({"left": MLP((), width=8)}, heads={"label": Classifier()}),
        objectives=(Distillation(),),
    )
    train(student, tmp_path / "student", None)
    ours, theirs = (
        load(run).predict(DigitsHalves(), "valid")["label"].argmax(1)
        for run in (tmp_path / "student", teacher)
    )
    # Chance is 0.1: it learned from the teacher alone.
    assert np.mean(ours == theirs) > 0.6


def test_a_teacher_of_other_classes_is_refused(teacher, tmp_path):
    inputs = {view: np.zeros((20, 8, 4), np.float32) for view in ("left", "right")}
    other = Arrays(inputs=inputs, targets={"label": np.arange(20) % 3}, name="other")
    with pytest.raises(ConfigError, match=r"has 10 classes for 'label', but other has 3 classes"):
        Taught(other, teacher).load("train", None)
    with pytest.raises(ConfigError, match=r"Taught.target is 'lable', but the targets of the kin"):
        Taught(other, teacher, target="lable").load("train", None)
