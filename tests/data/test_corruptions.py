"""Corruptions: strengths by severity, and the same for a record in any batch."""

import dataclasses

import numpy as np
import pytest

from mmjax.data import Modality
from mmjax.data.corruptions import (
    BY_KIND,
    SEVERITIES,
    AudioDropouts,
    BlurredPixels,
    DeletedWords,
    MissingCells,
    NoisyAudio,
    NoisyPixels,
    OccludedPixels,
    PalePixels,
    ReverberantAudio,
    SwappedWords,
    Typos,
    corrupted,
    corruptions_of,
)
from mmjax.errors import ConfigError
from mmjax.structs import Batch

RNG = np.random.default_rng(0)
INPUTS = {
    "image": RNG.random((6, 16, 12, 3)).astype(np.float32),
    "audio": (0.1 * RNG.standard_normal((6, 4000))).astype(np.float32),
    "text": RNG.integers(1, 50, (6, 40)).astype(np.int32),
    "vector": RNG.standard_normal((6, 30)).astype(np.float32),
}
EVERY = [(kind, name) for kind, names in BY_KIND.items() if kind != "table" for name in names]


def batch(rows=slice(None)):
    ids = np.arange(6)[rows]
    present = np.array([1, 1, 0, 1, 1, 1], bool)[rows]
    return Batch.of(
        {kind: x[rows] for kind, x in INPUTS.items()},
        ids,
        present={kind: present for kind in INPUTS},
    )


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_what_every_corruption_keeps_to(kind, name):
    make, sizes = BY_KIND[kind][name], []
    for severity in SEVERITIES:
        found = corrupted(make(kind, severity), batch(), 3)
        x = found.inputs[kind]
        assert x.dtype == INPUTS[kind].dtype
        assert x.shape == INPUTS[kind].shape
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x[2], INPUTS[kind][2])  # a row without the modality
        for other in INPUTS:
            if other != kind:
                np.testing.assert_array_equal(found.inputs[other], INPUTS[other])
        difference = x != INPUTS[kind] if kind == "text" else np.abs(x - INPUTS[kind])
        sizes.append(difference.mean())
        alone = corrupted(make(kind, severity), batch(slice(3, 5)), 3).inputs[kind]
        np.testing.assert_array_equal(alone, x[3:5])
        again = corrupted(make(kind, severity), batch(), 4).inputs[kind]
        assert name in ("blur", "contrast") or (again != x).any()
    assert sizes[0] > 0
    assert sizes[-1] > 1.5 * sizes[0]
    make("image" if kind == "video" else kind).check(
        {kind: Modality(kind, INPUTS[kind].shape[1:], vocabulary=50 if kind == "text" else 0)}
    )


def one(corruption, x, valid=None):
    return corruption.change(x, valid, np.random.default_rng(0))


def test_strengths_in_closed_form():
    grey = np.full((64, 64, 1), 0.5, np.float32)
    assert one(NoisyPixels("i", 1), grey)[0].std() == pytest.approx(0.08, rel=0.05)
    wave = np.sin(np.arange(8000)).astype(np.float32)
    noise = one(NoisyAudio("a", 3), wave)[0] - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.3)
    white = np.ones((20, 10, 1), np.float32)
    assert np.mean(one(OccludedPixels("i", 5), white)[0] < 1) == pytest.approx(0.5, abs=0.05)
    image = INPUTS["image"][0]
    pale = one(PalePixels("i", 2), image)[0]
    np.testing.assert_allclose(pale.std(axis=(0, 1)), 0.3 * image.std(axis=(0, 1)), rtol=1e-4)
    blurred = one(BlurredPixels("i", 5), image)[0]
    assert blurred.std() < image.std()
    np.testing.assert_allclose(one(BlurredPixels("i", 5), white)[0], white, atol=1e-6)
    echo = one(ReverberantAudio("a", 4), wave)[0]
    assert np.mean(echo**2) == pytest.approx(np.mean(wave**2), rel=1e-4)
    silent = one(AudioDropouts("a", 5), np.ones(5000, np.float32))[0]
    assert np.mean(silent == 0) == pytest.approx(0.6, abs=0.2)
    bytes_ = (255 * image).astype(np.uint8)
    assert one(NoisyPixels("i", 5), bytes_)[0].dtype == np.uint8


def test_words():
    ids = np.array([5, 6, 7, 8, 0, 0])
    kept, _ = one(DeletedWords("t", 5), ids)
    assert kept[0] == 5
    assert len(kept) == 6
    assert (np.diff(np.flatnonzero(kept)) == 1).all()
    valid = ids > 0
    kept, mask = one(DeletedWords("t", 5), ids, valid)
    np.testing.assert_array_equal(kept[mask], [x for x in ids if x in kept[mask]])
    swapped, _ = one(SwappedWords("t", 5), ids)
    assert sorted(swapped) == sorted(ids)
    assert set(one(Typos("t", 5), ids)[0][:4]) <= {5, 6, 7, 8}
    for make in (DeletedWords, SwappedWords, Typos):
        np.testing.assert_array_equal(one(make("t", 5), np.zeros(4, int))[0], 0)


def test_cells_of_a_table_become_unknown():
    known = RNG.random((6, 200)) < 0.9
    table = {"numbers": RNG.random((6, 200)).astype(np.float32), "known": known}
    rows = Batch.of({"t": table}, np.arange(6), present={"t": np.arange(6) != 2})
    found = corrupted(MissingCells("t", 4), rows, 0).inputs["t"]
    np.testing.assert_array_equal(found["numbers"], table["numbers"])
    np.testing.assert_array_equal(found["known"][2], known[2])
    assert not (found["known"] & ~known).any()
    assert found["known"][3:].mean() == pytest.approx(0.45, abs=0.06)
    parts = {"numbers": Modality("vector", (200,))}
    with pytest.raises(ConfigError, match="has no part `known`"):
        MissingCells("t").check({"t": Modality("table", parts=parts)})
    assert not corruptions_of(Modality("table", parts=parts))
    parts["known"] = Modality("vector", (200,), "bool")
    assert list(corruptions_of(Modality("table", parts=parts))) == ["missing"]


def test_what_does_not_fit_is_refused():
    for severity in (0, 6, -1):
        with pytest.raises(ConfigError, match=f"is {severity}: choose it from 1 to 5"):
            NoisyPixels("i", severity)
    with pytest.raises(ConfigError, match="changes a modality of the kind audio"):
        NoisyAudio("i").check({"i": Modality("image", (2, 2, 1))})
    assert not corruptions_of(Modality("graph", parts={"nodes": Modality("sequence", (2, 2))}))
    assert dataclasses.is_dataclass(NoisyPixels)
