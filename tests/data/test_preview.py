import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmjax.data.dataset import About, ArraySource, Dataset, Modality
from mmjax.data.preview import Captioned, Folded, preview
from mmjax.data.shapes import Shapes
from mmjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Odd(Dataset):
    """Every kind of modality that shapes does not have, of two records."""

    missing: bool = False

    name = "odd"
    about = About("", "", "")
    modalities = {  # noqa: RUF012
        "half": Modality("vector", (15,)),
        "curve": Modality("vector", (40,)),
        "text": Modality("text", (20,), vocabulary=30),
        "scan": Modality("image", (6, 9, 4)),
    }
    targets = {"digit": 2, "tags": 2}  # noqa: RUF012

    def load(self, split, folder):
        draws = np.random.default_rng(0)
        inputs = {
            "half": draws.random((2, 15)).astype(np.float32),
            "curve": draws.normal(size=(2, 40)).astype(np.float32),
            "text": draws.integers(1, 30, (2, 20)).astype(np.int32),
            "scan": draws.random((2, 6, 9, 4)).astype(np.float32),
        }
        targets = {"digit": np.array([0, 1]), "tags": np.array([[0, 1], [1, 1]])}
        source = ArraySource(inputs, targets)
        return Holey(source) if self.missing else source


@dataclasses.dataclass(frozen=True)
class OddFolded(Odd):
    layouts = {"half": (3, 5)}  # noqa: RUF012


@dataclasses.dataclass(frozen=True)
class Holey:
    """A source whose scans are all missing."""

    whole: ArraySource

    def __len__(self):
        return len(self.whole)

    def take(self, indices):
        batch = self.whole.take(indices)
        return batch.replace(present={**batch.present, "scan": np.zeros(len(indices), bool)})


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"), float)


def drawn(path, dataset, **options):
    preview(dataset, None, path, **options)
    return pixels(path)


def test_a_preview_shows_the_pictures_of_the_records_it_chose(tmp_path):
    """Every colour that is seen in the chosen records is found on the page."""
    config = Shapes(pixel_noise=0.0, train_size=2)
    page = drawn(tmp_path / "page.png", config, count=2)
    images = config.load("train").take(np.arange(2)).inputs["image"]
    for image in images:
        brightest = 255 * image.reshape(-1, 3)[image.sum(axis=-1).argmax()]
        distance = np.abs(page - brightest).max(axis=-1)
        assert (distance < 2).sum() > 100
    ground = 255 * images[0, 0, 0]
    assert (np.abs(page - ground).max(axis=-1) < 2).mean() > 0.02


def test_pictures_of_bytes_look_like_the_same_of_floats(tmp_path, monkeypatch):
    first = drawn(tmp_path / "a.png", Odd(), count=2)
    load = Odd.load

    def of_bytes(self, split, folder):
        source = load(self, split, folder)
        scan = np.round(255 * source.inputs["scan"]).astype(np.uint8)
        return dataclasses.replace(source, inputs={**source.inputs, "scan": scan})

    monkeypatch.setattr(Odd, "load", of_bytes)
    second = drawn(tmp_path / "b.png", Odd(), count=2)
    np.testing.assert_allclose(second, first, atol=3)


def test_a_preview_is_reproducible_and_follows_its_options(tmp_path):
    config = Shapes()
    first = drawn(tmp_path / "a.png", config, count=2)
    np.testing.assert_array_equal(drawn(tmp_path / "b.png", config, count=2), first)
    for options in ({"seed": 1}, {"split": "test"}):
        other = drawn(tmp_path / "c.png", config, count=2, **options)
        assert other.shape != first.shape or np.any(other != first)
    wider = drawn(tmp_path / "d.png", config, count=3)
    assert wider.shape[1] > first.shape[1]


def test_what_a_data_set_offers_decides_how_text_and_vectors_are_shown(tmp_path):
    assert isinstance(Shapes(), Captioned)
    assert not isinstance(Odd(), Captioned | Folded)
    assert isinstance(OddFolded(), Folded)
    plain = drawn(tmp_path / "plain.png", Odd())
    folded = drawn(tmp_path / "folded.png", OddFolded())
    assert plain.shape != folded.shape  # a picture of 3 x 5 is taller than a curve


def test_more_than_there_are_gives_all(tmp_path):
    np.testing.assert_array_equal(
        drawn(tmp_path / "all.png", Odd(), count=2), drawn(tmp_path / "more.png", Odd(), count=9)
    )


def test_a_missing_modality_is_left_blank(tmp_path):
    whole = drawn(tmp_path / "whole.png", Odd())
    holey = drawn(tmp_path / "holey.png", Odd(missing=True))
    assert (whole < 250).mean() > (holey < 250).mean() + 0.05


def test_where_nothing_can_be_written_one_sentence_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist"):
        preview(Odd(), None, tmp_path / "nowhere" / "page.png")
    with pytest.raises(ConfigError, match="a folder"):
        preview(Odd(), None, tmp_path)
    with pytest.raises(ConfigError, match="from 1 to 48"):
        preview(Odd(), None, tmp_path / "page.png", count=0)
    with pytest.raises(ConfigError, match="dev"):
        preview(Shapes(), None, tmp_path / "page.png", split="dev")
    assert list(Path(tmp_path).iterdir()) == []
