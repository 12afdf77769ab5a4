"""Flickr8k: pairs, ids, and damaged files; a small release made here, and the real one."""

import numpy as np
import pytest
from PIL import Image

from mmjax.data import Flickr8k, flickr8k
from mmjax.data.preprocessing import Pictures
from mmjax.errors import ConfigError, DataError

COUNTS = {"train": 3, "valid": 1, "test": 2}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(flickr8k, "_COUNTS", COUNTS)
    root = tmp_path / "flickr8k"
    (root / "images").mkdir(parents=True)
    lines, number = [], 0
    for split, listed in (("train", "train"), ("valid", "dev"), ("test", "test")):
        names = []
        for _ in range(COUNTS[split]):
            names.append(f"{number}.jpg")
            picture = np.full((6 + number, 9, 3), 20 * number, np.uint8)
            Image.fromarray(picture).save(root / "images" / names[-1], quality=100)
            lines += [f"{number}.jpg#{index}\tDog {number} {index} ." for index in range(5)]
            number += 1
        (root / f"Flickr_8k.{listed}Images.txt").write_text("\n".join(names) + "\n")
    (root / "Flickr8k.token.txt").write_text("\n".join(lines))
    return tmp_path


def test_records_are_pairs_of_a_picture_and_one_caption(folder):
    data = Flickr8k(side=4)
    source = data.load("test", folder)
    assert len(source) == 10
    batch = source.take(np.array([1, 9]))
    assert batch.inputs["image"].dtype == np.uint8
    np.testing.assert_allclose(batch.inputs["image"][:, 0, 0, 0], [80, 100], atol=2)
    texts = [bytes(int(i) - 1 for i in row if i).decode() for row in batch.inputs["text"]]
    assert texts == ["Dog 4 1 .", "Dog 5 4 ."]
    assert batch.targets["picture"].tolist() == [4, 5]
    assert batch.masks["text"].sum(1).tolist() == [9, 9]
    assert [len(data.load(split, folder)) for split in data.splits] == [15, 5, 10]


def test_the_preprocessing_of_weights_is_used(folder):
    crop = Pictures(size=(2, 3), resize=6, mean=(0.5,), std=(0.5,))
    data = Flickr8k(pictures=crop)
    assert data.modalities["image"].shape == (2, 3, 3)
    assert data.load("valid", folder).take(np.array([0])).inputs["image"].shape == (1, 2, 3, 3)


def test_damage_is_named(folder):
    root = folder / "flickr8k"
    with pytest.raises(ConfigError, match="side is 0"):
        Flickr8k(side=0)
    (root / "images" / "5.jpg").unlink()
    with pytest.raises(DataError, match=r"does not have the picture '5\.jpg' of the split 'test'"):
        Flickr8k().load("test", folder)
    (root / "images" / "3.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"3\.jpg cannot be read"):
        Flickr8k().load("valid", folder).take(np.array([0]))
    (root / "Flickr_8k.devImages.txt").write_text("3.jpg\n3.jpg\n")
    with pytest.raises(DataError, match="lists 1 different pictures"):
        Flickr8k().load("valid", folder)
    (root / "Flickr_8k.devImages.txt").write_text("../secret.jpg\n")
    with pytest.raises(DataError, match=r"has no caption \.\./secret"):
        Flickr8k().load("valid", folder)
    (root / "Flickr8k.token.txt").write_text("no tab\n")
    with pytest.raises(DataError, match=r"Line 1 of .* has no tab"):
        Flickr8k().load("train", folder)


def test_the_real_pictures(data_folder):
    source = Flickr8k().load("test", data_folder)
    batch = source.take(np.arange(6))
    assert len(source) == 5_000
    assert batch.inputs["image"].shape == (6, 128, 128, 3)
    assert batch.targets["picture"].tolist() == [7_000] * 5 + [7_001]
