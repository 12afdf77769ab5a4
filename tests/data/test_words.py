"""Vocabularies learned from the train split, kept with the run, and used on strings afterwards."""

import numpy as np
import pytest

import mmjax
from mmjax.data import Arrays, Modality
from mmjax.data.words import learned_words
from mmjax.encoders import BagOfWords
from mmjax.errors import DataError
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import Experiment, Training

TEXTS = ["A dog runs", "a cat sleeps", "a dog sleeps", "", "the cat", "one zebra"]
SPLIT = ["train", "train", "train", "train", "valid", "test"]
WORDS = ("", "<unknown>", "a", "dog", "sleeps", "cat", "runs")


def texts(**options):
    return Arrays({"text": TEXTS}, {"label": [0, 1, 0, 1, 1, 0]}, split=SPLIT, **options)


def test_words_are_those_of_train_the_most_frequent_first():
    modality = texts().modalities["text"]
    assert modality == Modality("text", (3,), vocabulary=7, words=WORDS)
    ids = {split: texts().load(split) for split in ("train", "valid", "test")}
    assert ids["train"].inputs["text"].tolist() == [[2, 3, 6], [2, 5, 4], [2, 3, 4], [0, 0, 0]]
    assert ids["valid"].inputs["text"].tolist() == [[1, 5, 0]]
    assert ids["test"].inputs["text"].tolist() == [[1, 1, 0]]  # nothing of it was learned
    np.testing.assert_array_equal(ids["valid"].masks["text"], [[True, True, False]])


def test_the_size_the_length_and_the_words_may_be_declared():
    limited = texts(modalities={"text": Modality("text", (5,), vocabulary=4)})
    assert limited.modalities["text"].words == WORDS[:4]
    assert limited.load("test").inputs["text"].tolist() == [[1, 1, 0, 0, 0]]
    own = ("", "<unknown>", "zebra")
    given = texts(modalities={"text": Modality("text", (3,), vocabulary=3, words=own)})
    assert given.load("test").inputs["text"].tolist() == [[1, 2, 0]]
    assert learned_words(["b a"], 0) == ("", "<unknown>", "a", "b")


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"'A dog runs' of 'text' has 3 words, but .* at most 2"):
        texts(modalities={"text": Modality("text", (2,), vocabulary=9)})
    with pytest.raises(DataError, match="strings, but is declared as a modality of the kind 'vec"):
        texts(modalities={"text": Modality("vector", (2,))})
    with pytest.raises(DataError, match="the value None among its texts"):
        Arrays({"text": np.array([*TEXTS[1:], None], object)}, split=SPLIT)


def test_a_trained_run_reads_strings(tmp_path):
    experiment = Experiment(
        name="texts",
        data=texts(),
        model=FusionModel({"text": BagOfWords(4)}),
        objectives=(CrossEntropy(),),
        training=Training(steps=2, batch_size=4),
    )
    mmjax.train(experiment, run_dir=tmp_path / "run")
    run = mmjax.load(tmp_path / "run")
    ours = run.embed({"text": ["A DOG sleeps", "unheard words", ""]})
    theirs = run.embed({"text": np.array([[2, 3, 4], [1, 1, 0], [0, 0, 0]], np.int32)})
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
