"""What is not read of a model is neither computed nor kept."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from mmjax.data import DigitsHalves, Selected
from mmjax.encoders import MLP
from mmjax.errors import DataError, RunError
from mmjax.evaluation import (
    CCA,
    Classification,
    Clustering,
    HeldOutCorrelation,
    LinearProbe,
    Predictor,
    RawCorrelation,
    Reads,
    Retrieval,
)
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Outputs, Prediction
from mmjax.training import Experiment, Training
from mmjax.training.setup import Setup

VIEWS = ("left", "right")


@pytest.mark.parametrize(
    ("evaluator", "reads"),
    [
        (Classification("tone"), Reads(predictions=("tone",))),
        (LinearProbe("left"), Reads(embeddings=("left",), targets=("label",))),
        (
            LinearProbe("left", projection=CCA(VIEWS, 2)),
            Reads(embeddings=("left", *VIEWS), targets=("label",)),
        ),
        (Clustering(VIEWS), Reads(embeddings=VIEWS, targets=("label",))),
        (Retrieval(VIEWS, target=""), Reads(embeddings=VIEWS)),
        (HeldOutCorrelation(VIEWS, 2), Reads(embeddings=VIEWS)),
        (RawCorrelation(VIEWS, 2), Reads()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reads(evaluator, reads):
    assert evaluator.reads == reads


def test_union():
    one = Reads(embeddings=("left",), predictions=("label",))
    other = Reads(embeddings=("right", "left"), targets=("label",))
    both = Reads(embeddings=VIEWS, predictions=("label",), targets=("label",))
    assert Reads.union([one, other]) == both
    assert Reads.union([]) == Reads()


EXPERIMENT = Experiment(
    name="reads",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(), width=3) for view in VIEWS}),
    objectives=(CrossEntropy(),),
    training=Training(steps=1, batch_size=50),
)


@pytest.fixture(scope="module")
def setup():
    return Setup(EXPERIMENT, None)


def products(setup, reads):
    """The shapes of the matrix products in the compiled evaluation."""
    batch = DigitsHalves().load("test").take(np.arange(50))
    lowered = setup._eval_step(reads).lower(setup.abstract_state, batch)
    return lowered.compile().as_text().count(" dot(")


def test_what_is_not_read_is_not_computed(setup):
    # An encoder is one product, and the head another one.
    assert products(setup, Reads(embeddings=("left",))) == 1
    assert products(setup, Reads(embeddings=VIEWS)) == 2
    assert products(setup, Reads(predictions=("label",))) == 3
    assert products(setup, Reads()) == 0


def test_what_is_not_read_is_not_kept(setup):
    state = setup.create_state()
    kept = setup.predictor(state, [LinearProbe("left")])("test")
    assert {name: each.shape for name, each in kept.embeddings.items()} == {"left": (400, 3)}
    assert (kept.predictions, kept.generated) == ({}, {})
    assert (list(kept.targets), list(kept.target_masks)) == (["label"], ["label"])
    # What a streamed evaluation reads is computed and not kept.
    both = setup.predictor(state, [Classification(), Retrieval(VIEWS, target="")])
    assert both.state(Classification(), "test").counts.sum() == 400
    kept = both("test")
    assert (list(kept.embeddings), kept.predictions, kept.targets) == (["left", "right"], {}, {})
    np.testing.assert_array_equal(kept.ids, np.arange(400))


def given(**outputs):
    """A predictor that gives these outputs for the 400 records of `test`."""
    source = DigitsHalves().load("test")

    def forward(batch):
        rows = {name: jax.tree.map(lambda x: x[batch.ids], each) for name, each in outputs.items()}
        return Outputs(**({"embeddings": {}} | rows), present=batch.present)

    return Predictor(forward, lambda split: source, 64, DigitsHalves())


def test_examples_are_a_seeded_draw_and_no_more_are_run():
    ids = np.arange(400, dtype=np.float32)[:, None]
    made, seen = given(embeddings={"left": ids}), []
    forward = made._forward
    made._forward = lambda batch: seen.append(int(batch.weight.sum())) or forward(batch)
    some = made("test", examples=70, seed=1)
    assert sum(seen) == 70
    np.testing.assert_array_equal(some.embeddings["left"][:, 0], some.ids)
    assert (np.diff(some.ids) > 0).all()
    assert made("test", examples=70, seed=1) is some
    assert set(made("test", examples=70, seed=2).ids) != set(some.ids)
    assert made("test", examples=400) is made("test") is made("test", examples=999)
    assert sum(seen) == 70 + 70 + 400


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_named(bad):
    values = np.zeros((400, 2), np.float32)
    values[333, 1] = bad
    with pytest.raises(RunError, match=r"The embedding 'left' .* 'test' is not finite"):
        given(embeddings={"left": values})("test")
    with pytest.raises(RunError, match=r"The prediction of 'label' .* 'test' is not finite"):
        given(predictions={"label": Prediction(values)})("test")


def test_a_split_without_examples_is_refused():
    empty = Selected(DigitsHalves().load("test"), np.zeros(0, int))
    made = Predictor(lambda batch: batch, lambda split: empty, 64, DigitsHalves())
    with pytest.raises(DataError, match="'test' of digits_halves has no examples: evaluate anoth"):
        made("test")


class Writing(nnx.Module):
    """A model that writes, beside what it embeds."""

    def __init__(self):
        self.scale = nnx.Param(np.ones(()))

    def __call__(self, batch, *, train, rngs):
        return Outputs(embeddings={"left": batch.inputs["left"]}, present=batch.present)

    def generate(self, batch):
        ids = (batch.inputs["left"][:, :4] > 0.5).astype(np.int32)
        return {"caption": Prediction(ids, mask=ids > 0)}


@dataclasses.dataclass(frozen=True)
class Writer(FusionModel):
    def build(self, modalities, targets, *, dtype, rngs):
        return Writing()


def test_tokens_are_generated_only_where_they_are_read():
    setup = Setup(dataclasses.replace(EXPERIMENT, model=Writer({"left": MLP()})), None)
    state = setup.create_state()
    batch = DigitsHalves().load("test").take(np.arange(50))
    written = setup.forward(state, Reads(generated=("caption",)))(batch)
    expected = batch.inputs["left"][:, :4] > 0.5
    np.testing.assert_array_equal(written.generated["caption"].values, expected)
    assert written.embeddings == {}
    assert setup.forward(state, Reads(embeddings=("left",)))(batch).generated == {}
