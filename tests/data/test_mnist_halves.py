import numpy as np
import pytest

from mmjax.data import MNISTHalves
from mmjax.data.mnist import load_mnist


@pytest.fixture(scope="module")
def sources(data_folder):
    return {split: MNISTHalves().load(split, data_folder) for split in MNISTHalves.splits}


def rejoin(source):
    left, right = (source.inputs[side].reshape(-1, 28, 14) for side in ("left", "right"))
    return np.concatenate([left, right], axis=2)


def test_split_sizes_are_those_of_the_paper(sources):
    assert [len(sources[split]) for split in ("train", "valid", "test")] == [54_000, 6_000, 10_000]


def test_train_and_valid_are_the_60000_each_once(sources, data_folder):
    images, labels = load_mnist("train", data_folder, MNISTHalves.about)

    def count(pixels, targets):  # an exact, order-free fingerprint: MNIST has no duplicate images
        flat = np.rint(pixels.reshape(len(pixels), -1)).astype(np.uint8)
        return sorted(zip((row.tobytes() for row in flat), targets.tolist(), strict=True), key=hash)

    made = [rejoin(sources[split]) * 255 for split in ("train", "valid")]
    targets = [sources[split].targets["label"] for split in ("train", "valid")]
    assert count(np.concatenate(made), np.concatenate(targets)) == count(images, labels)


def test_test_is_t10k_in_order(sources, data_folder):
    images, labels = load_mnist("t10k", data_folder, MNISTHalves.about)
    np.testing.assert_allclose(rejoin(sources["test"]) * 255, images, atol=1e-4)
    np.testing.assert_array_equal(sources["test"].targets["label"], labels)


def test_examples_are_what_the_modalities_say(sources):
    batch = sources["valid"].take(np.arange(50, 150))
    for name, modality in MNISTHalves().modalities.items():
        assert batch.inputs[name].shape == (100, *modality.shape)
        assert batch.inputs[name].dtype == np.float32
        assert batch.inputs[name].max() <= 1
    assert batch.ids.tolist() == list(range(50, 150))
