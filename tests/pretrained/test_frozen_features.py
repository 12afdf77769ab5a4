"""Features of frozen encoders: right, computed once, kept whole, keyed by what they depend on."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import mmjax
from mmjax.data import Arrays
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.pretrained import FrozenFeatures, frozen_features, load
from mmjax.training import Experiment, Training

TEXTS = ["a dog runs", "dog", "a dog", "dog"] * 5


@pytest.fixture
def loaded(bert):
    return load(bert)


def raw(loaded):
    return Arrays(
        inputs={"text": loaded.preprocess(TEXTS), "other": np.ones((20, 3))},
        targets={"kind": np.arange(20) % 2, "price": np.arange(20.0)},
        present={"text": np.arange(20) != 6},
        split=["train"] * 10 + ["valid"] * 5 + ["test"] * 5,
        name="mine",
    )


def features(loaded, tmp_path, **options):
    return FrozenFeatures(
        raw(loaded),
        {"text": loaded.encoder},
        folder=str(tmp_path / "kept"),
        batch_size=4,
        **options,
    )


def never(*arguments):
    raise AssertionError("computed again")


def test_features_are_the_pooled_output_and_are_kept(loaded, tmp_path, monkeypatch, capsys):
    data = features(loaded, tmp_path)
    assert data.modalities["text"].shape == (8,)
    batch = data.load("train", None).take(np.arange(10))
    assert "encoding 10 examples of the split 'train' of mine" in capsys.readouterr().err
    expected = np.array(loaded.pooled(loaded.preprocess(TEXTS)[:10]))
    expected[6] = 0  # where there is no text
    np.testing.assert_allclose(batch.inputs["text"], expected, atol=1e-6)
    assert batch.present["text"].tolist() == [row != 6 for row in range(10)]
    assert batch.targets["kind"].tolist() == [0, 1] * 5
    monkeypatch.setattr(frozen_features, "_Once", never)
    again = features(loaded, tmp_path).load("train", None).take(np.arange(10))
    np.testing.assert_array_equal(again.inputs["text"], batch.inputs["text"])
    assert capsys.readouterr().err == ""


def test_equal_inputs_are_encoded_once(loaded, tmp_path, monkeypatch):
    calls = []
    encode = frozen_features._encode
    monkeypatch.setattr(
        frozen_features, "_encode", lambda *given: calls.append(1) or encode(*given)
    )
    features(loaded, tmp_path).load("train", None)
    assert len(calls) == 1  # ten texts, three of them different, all in the first batch


def test_other_weights_encoders_or_data_are_computed_again(bert, loaded, tmp_path):
    first = features(loaded, tmp_path)._file("train", None)
    assert features(loaded, tmp_path)._file("train", None) == first
    other = dataclasses.replace(
        loaded.encoder, encoder=dataclasses.replace(loaded.encoder.encoder, pooling="mean")
    )
    changed = dataclasses.replace(features(loaded, tmp_path), encoders={"text": other})
    assert changed._file("train", None) != first
    assert features(loaded, tmp_path)._file("test", None) != first
    tensors = load_file(bert / "model.safetensors")
    tensors["pooler.dense.bias"] += 1
    save_file(tensors, bert / "model.safetensors")
    assert features(load(bert), tmp_path)._file("train", None) != first


def test_a_damaged_file_is_computed_again(loaded, tmp_path, capsys):
    data = features(loaded, tmp_path)
    before = data.load("test", None).take(np.arange(5)).inputs["text"]
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    after = features(loaded, tmp_path).load("test", None).take(np.arange(5)).inputs["text"]
    np.testing.assert_array_equal(after, before)
    assert "is damaged" in capsys.readouterr().err


def test_wrong_encoders_and_folders_are_told(loaded, tmp_path):
    with pytest.raises(ConfigError, match="is for sound, but mine has text, other"):
        FrozenFeatures(raw(loaded), {"sound": loaded.encoder})
    with pytest.raises(ConfigError, match=r"Published encodes a modality of the kind text"):
        FrozenFeatures(raw(loaded), {"other": loaded.encoder}).modalities  # noqa: B018
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be kept in .*: set FrozenFeatures\.folder"):
        features(loaded, tmp_path).load("train", None)


@pytest.mark.slow
def test_a_run_is_opened_without_weights_and_data(bert, loaded, tmp_path):
    experiment = Experiment(
        name="probe",
        data=features(loaded, tmp_path),
        model=FusionModel(encoders={"text": MLP((4,))}),
        objectives=(CrossEntropy(target="kind"),),
        training=Training(steps=1, batch_size=4, log_every=1, final_splits=()),
        evaluation=(Classification("kind"),),
    )
    mmjax.train(experiment, run_dir=tmp_path / "run")
    for file in bert.glob("*.*"):
        file.unlink() if file.is_file() else None
    run = mmjax.load(tmp_path / "run")
    assert run.predict({"text": np.zeros((2, 8))})["kind"].shape == (2, 2)
