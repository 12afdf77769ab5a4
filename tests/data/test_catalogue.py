import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from mmjax.data import (
    DATASETS,
    DigitsHalves,
    EasyVQA,
    Esc10,
    Flickr8k,
    FsddAudio,
    GMUSynthetic,
    Mfeat,
    MNISTHalves,
    MOSIUtterance,
    NoisyMNIST,
    Shapes,
    SpokenDigits,
    Wikipedia,
    find,
    fingerprint,
    resolve_folder,
    verify,
)
from mmjax.data.catalogue import describe
from mmjax.data.dataset import About
from mmjax.data.files import require, sha256
from mmjax.errors import ConfigError, DataError

CLASSES = {
    "digits_halves": DigitsHalves,
    "shapes": Shapes,
    "mnist_halves": MNISTHalves,
    "noisy_mnist": NoisyMNIST,
    "spoken_digits": SpokenDigits,
    "wikipedia": Wikipedia,
    "mfeat": Mfeat,
    "mosi_utterance": MOSIUtterance,
    "fsdd_audio": FsddAudio,
    "esc10": Esc10,
    "flickr8k": Flickr8k,
    "easy_vqa": EasyVQA,
    "gmu_synthetic": GMUSynthetic,
}
NAMES = tuple(CLASSES)


def test_finds_every_data_set_by_its_name():
    assert tuple(DATASETS) == NAMES
    assert {name: find(name) for name in NAMES} == CLASSES


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    with pytest.raises(ConfigError, match="did you mean 'mnist_halves'") as caught:
        find("mnist_halfs")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_split_gets_a_suggestion(name):
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        find(name)().load("trian", None)


@pytest.mark.parametrize("name", NAMES)
def test_first_examples_are_what_the_data_set_says(name, request):
    dataset = find(name)()
    folder = request.getfixturevalue("data_folder") if dataset.about.files else None
    batch = dataset.load("test", folder).take(np.array([4, 2]))
    assert batch.ids.tolist() == [4, 2]
    assert set(batch.inputs) == set(dataset.modalities)
    for modality, look in dataset.modalities.items():
        assert batch.inputs[modality].shape == (2, *look.shape)
    assert set(batch.targets) == set(dataset.targets)
    for name, target in dataset.targets.items():
        values = batch.targets[name]
        assert values.shape == (2, *target.example_shape)
        if target.kind == "class":
            assert values.dtype == np.int32
            assert 0 <= values.min() <= values.max() < target.classes


def test_a_description_names_everything_one_has_to_know():
    text = describe(SpokenDigits())
    for part in ("audio: audio 8000, 8000 Hz", "label: 10 classes", "CC BY-SA 4.0"):
        assert part in text
    assert all(
        f"{name}  SHA-256 {value}" in text for name, value in SpokenDigits.about.files.items()
    )
    assert "the data is built in" in describe(Shapes())


def test_the_option_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MMJAX_DATA", raising=False)
    assert resolve_folder(None) is None
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path))
    assert resolve_folder(None) == tmp_path
    (tmp_path / "other").mkdir()
    assert resolve_folder(str(tmp_path / "other")) == tmp_path / "other"


def test_a_folder_that_was_named_must_exist(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r".from --data-dir. does not exist"):
        resolve_folder(str(tmp_path / "absent"))
    monkeypatch.setenv("MMJAX_DATA", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r".from MMJAX_DATA. does not exist"):
        resolve_folder(None)


def test_a_file_in_the_place_of_a_folder_is_missing(tmp_path):
    (tmp_path / "recordings").touch()
    about = About("t", "c", "l", homepage="https://example.org")
    with pytest.raises(DataError, match=r"does not have recordings/: .* from https://example.org"):
        require(tmp_path, "recordings/", about)


def test_the_hash_of_a_folder_follows_the_stated_rule(tmp_path):
    for name in ("b.txt", "a.txt", "B.txt"):
        (tmp_path / name).write_text(name)
    lines = "".join(
        f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
        for name in ("B.txt", "a.txt", "b.txt")
    )
    assert sha256(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_verify_tells_ok_missing_and_different(data_folder, tmp_path):
    assert set(verify(SpokenDigits(), data_folder).values()) == {"ok"}
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"no")
    status = verify(MNISTHalves, tmp_path)
    assert list(status) == list(MNISTHalves.about.files)
    assert "is not the published file" in status.pop("mnist/t10k-labels-idx1-ubyte.gz")
    assert all("does not have mnist/" in sentence for sentence in status.values())
    assert verify(DigitsHalves, None) == {}
    assert all("set MMJAX_DATA" in sentence for sentence in verify(MNISTHalves, None).values())


def test_fingerprint_of_files_is_what_is_there(data_folder):
    assert fingerprint(SpokenDigits(), data_folder) == dict(SpokenDigits.about.files)
    with pytest.raises(DataError, match="No data folder was given"):
        fingerprint(SpokenDigits(), None)


def test_fingerprint_of_an_embedded_data_set_follows_its_content():
    assert fingerprint(DigitsHalves(), None) == fingerprint(DigitsHalves(), None)
    assert set(fingerprint(Shapes(), None)) == {"shapes/train", "shapes/valid", "shapes/test"}
    changed = fingerprint(Shapes(seed=1), None)
    assert not set(changed.values()) & set(fingerprint(Shapes(), None).values())
    grown = fingerprint(Shapes(train_size=20_001), None)
    assert grown["shapes/train"] != fingerprint(Shapes(), None)["shapes/train"]


def test_importing_the_data_part_starts_no_device():
    # With a platform that does not exist, whatever starts a device fails.
    environment = {**os.environ, "JAX_PLATFORMS": "absent"}
    code = "import mmjax.data, sys; assert 'sklearn.datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_hidden_files_of_a_system_do_not_change_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"1")
    before = sha256(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"2")
    (tmp_path / "a" / "._x.wav").write_bytes(b"3")
    assert sha256(tmp_path) == before
    (tmp_path / "a" / "y.wav").write_bytes(b"4")
    assert sha256(tmp_path) != before
