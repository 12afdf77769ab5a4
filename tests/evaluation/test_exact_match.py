"""Generated captions against true ones: exactly, token by token, and by what they say."""

import dataclasses

import numpy as np
import pytest

from mmjax.data import ArraySource, Shapes, shapes_targets
from mmjax.encoders import LeNet, TextTransformer
from mmjax.errors import ConfigError
from mmjax.evaluation import Equivalence, ExactMatch, GrammarMatch, Predictor
from mmjax.heads import Classifier
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Outputs, Prediction
from mmjax.training import Experiment, Training

DATA = Shapes(tasks=("caption",))
SHOWN = DATA.attributes("train", np.arange(8))
TRUE = shapes_targets.caption_tokens(SHOWN)
END = DATA.targets["caption"].end


def written():
    """Of eight captions three exact, two with their phrases turned, three wrong; and their mask."""
    ids = TRUE.copy()
    ids[3:5] = shapes_targets.caption_tokens(SHOWN | {"order": 1 - SHOWN["order"]})[3:5]
    ids[5] = shapes_targets.caption_tokens(SHOWN | {"colour": (SHOWN["colour"] + 1) % 6})[5]
    ids[6] = np.where(ids[6] == END, 0, ids[6])  # it does not end
    ids[7] = 0
    return ids


def found(evaluator, ids, true=TRUE, mask=True, batch_size=3, known=None):
    """What an evaluation finds; the ids after the end are garbage that the mask hides."""
    hidden = np.where(ids == 0, 5, ids) if mask else ids
    inputs = {"hidden": hidden, "there": ids != 0}
    masks = {} if known is None else {"caption": known}
    source = ArraySource(inputs, {"caption": true}, target_masks=masks)

    def forward(batch):
        there = batch.inputs["there"] if mask else None
        caption = Prediction(batch.inputs["hidden"], there)
        return Outputs({}, {}, generated={"caption": caption})

    return evaluator(Predictor(forward, lambda split: source, batch_size, DATA), "test")


@pytest.mark.parametrize("batch_size", [3, 8, 20])
@pytest.mark.parametrize("mask", [True, False])
def test_exact_match(batch_size, mask):
    ids = written()
    right = [(ids[row] == TRUE[row])[TRUE[row] != 0].sum() for row in range(8)]
    metrics = found(ExactMatch("caption"), ids, mask=mask, batch_size=batch_size)
    assert metrics == pytest.approx(
        {"exact_match": 3 / 8, "token_accuracy": sum(right) / (TRUE != 0).sum()}, abs=1e-12
    )
    assert right[5] == (TRUE[5] != 0).sum() - 1
    assert right[6] == (TRUE[6] != 0).sum() - 1
    assert right[7] == 0


@pytest.mark.parametrize("batch_size", [3, 20])
def test_grammar_match(batch_size):
    metrics = found(GrammarMatch("caption", name="said"), written(), batch_size=batch_size)
    assert metrics == {"said_grammar_match": 5 / 8}


def test_a_token_too_many_is_not_exact():
    ids = TRUE.copy()
    ids[0, (TRUE[0] != 0).sum()] = 1
    assert found(ExactMatch("caption", name="c"), ids) == pytest.approx(
        {"c_exact_match": 7 / 8, "c_token_accuracy": 1.0}
    )


def test_captions_that_are_not_known_do_not_count():
    known = np.arange(8) < 4
    metrics = found(ExactMatch("caption"), written(), known=known)
    assert metrics["exact_match"] == 3 / 4
    assert found(GrammarMatch("caption"), written(), known=known) == {"grammar_match": 1.0}
    nothing = found(ExactMatch("caption"), written(), true=np.zeros_like(TRUE))
    assert nothing == {"exact_match": 0.0, "token_accuracy": 0.0}


def test_whole_splits_hold_what_was_written():
    ids = written()
    for mask in (True, False):
        inputs = {"ids": np.where(ids == 0, 5, ids) if mask else ids, "there": ids != 0}

        def forward(batch, mask=mask):
            there = batch.inputs["there"] if mask else None
            return Outputs({}, {}, generated={"caption": Prediction(batch.inputs["ids"], there)})

        source = ArraySource(inputs, {"caption": TRUE})
        kept = Predictor(forward, lambda split, source=source: source, 3, DATA)("test")
        np.testing.assert_array_equal(kept.generated["caption"], ids)
        np.testing.assert_array_equal(kept.targets["caption"], TRUE)


@dataclasses.dataclass(frozen=True)
class _NoGrammar(Shapes):
    equivalent = None


def experiment(model, data=DATA):
    return Experiment(
        name="test",
        data=data,
        model=model,
        objectives=(CrossEntropy(target="caption"),),
        training=Training(steps=1),
    )


def test_check():
    image = FusionModel({"image": LeNet()})
    for evaluator in (ExactMatch, GrammarMatch):
        evaluator("caption").check(experiment(image))
        with pytest.raises(ConfigError, match="no target 'captoin': did you mean 'caption'"):
            evaluator("captoin").check(experiment(image))
        both = dataclasses.replace(DATA, tasks=("label", "caption"))
        with pytest.raises(ConfigError, match="'label' is of the kind 'class', but this evaluat"):
            evaluator("label").check(experiment(image, both))
        classes = FusionModel({"image": LeNet()}, heads={"label": Classifier()})
        with pytest.raises(ConfigError, match="no head of the model that generates the target"):
            evaluator("caption").check(experiment(classes, both))
        pair = DualEncoder({"image": LeNet(), "text": TextTransformer()})
        with pytest.raises(ConfigError, match="no head of the model that generates the target"):
            evaluator("caption").check(experiment(pair))
    assert isinstance(DATA, Equivalence)
    with pytest.raises(ConfigError, match="does not know which sentences have the same meaning"):
        GrammarMatch("caption").check(experiment(image, _NoGrammar(tasks=("caption",))))
