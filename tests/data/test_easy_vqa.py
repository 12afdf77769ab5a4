"""easy-VQA: splits, records and damaged files; a small release made here, and the real one."""

import json

import numpy as np
import pytest
from PIL import Image

from mmjax.data import EasyVQA, easy_vqa
from mmjax.data.preprocessing import Pictures
from mmjax.errors import ConfigError, DataError

COUNTS = {"train": 12, "test": 3}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(easy_vqa, "_COUNTS", COUNTS)
    root = tmp_path / "easy_vqa"
    for split, count in COUNTS.items():
        (root / split / "images").mkdir(parents=True)
        questions = []
        for number in range(count):
            picture = np.full((4, 4, 3), 20 * number, np.uint8)
            Image.fromarray(picture).save(root / split / "images" / f"{number}.png")
            questions += [["what color?", "red", number], [f"is it {number}?", "yes", number]]
        (root / split / "questions.json").write_text(json.dumps(questions))
    (root / "answers.txt").write_text("\n".join(EasyVQA.answers) + "\n")
    return tmp_path


def words(ids):
    return bytes(int(i) - 1 for i in ids if i).decode()


def test_records_are_questions_with_their_picture_and_answer(folder):
    source = EasyVQA(side=4).load("test", folder)
    assert len(source) == 6
    batch = source.take(np.array([3, 0]))
    np.testing.assert_array_equal(batch.inputs["image"][:, 0, 0, 0], [20, 0])
    assert [words(row) for row in batch.inputs["question"]] == ["is it 1?", "what color?"]
    assert [EasyVQA.answers[label] for label in batch.targets["label"]] == ["yes", "red"]
    assert batch.masks["question"].sum(1).tolist() == [8, 11]


def test_valid_has_pictures_of_its_own(folder):
    data = EasyVQA(pictures=Pictures(size=(2, 3), resize=6, mean=(0.5,), std=(0.5,)))
    shades = {}
    for split in ("train", "valid"):
        source = data.load(split, folder)
        images = source.take(np.arange(len(source))).inputs["image"]
        assert images.shape[1:] == data.modalities["image"].shape == (2, 3, 3)
        shades[split] = set(images[:, 0, 0, 0].tolist())
    assert shades["valid"] == {0, 200}
    assert len(shades["train"]) == 10
    assert not shades["train"] & shades["valid"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda root: (root / "test/images/2.png").unlink(), r"has no picture 2\.png"),
        (lambda root: (root / "answers.txt").write_text("maybe"), "lists other answers"),
        (lambda root: (root / "test/questions.json").write_text("[["), "is damaged"),
        (lambda root: (root / "test/questions.json").write_text("{}"), "not a list of questions"),
        (
            lambda root: (root / "test/questions.json").write_text('[["a?", "perhaps", 0]]'),
            r"Entry 0 of .* is \['a\?', 'perhaps', 0\]",
        ),
        (
            lambda root: (root / "test/questions.json").write_text('[["a?", "yes", -1]]'),
            "a picture from 0 to 2",
        ),
    ],
)
def test_damage_is_named(folder, change, sentence):
    change(folder / "easy_vqa")
    with pytest.raises(DataError, match=sentence):
        EasyVQA().load("test", folder)


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="side is 0"):
        EasyVQA(side=0)


def test_the_real_release(data_folder):
    source = {split: EasyVQA().load(split, data_folder) for split in EasyVQA.splits}
    assert len(source["train"]) + len(source["valid"]) == 38_575
    assert len(source["test"]) == 9_673
    batch = source["test"].take(np.array([0]))
    assert words(batch.inputs["question"][0]) == "what is the red shape?"
    assert EasyVQA.answers[int(batch.targets["label"][0])] == "triangle"
    assert batch.inputs["image"].shape == (1, 64, 64, 3)
