"""AST: parity with transformers, where it is; filter banks of real clips, other lengths, errors."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from beginnings import assert_begins_at
from flax import nnx
from safetensors.numpy import load_file, save_file

from mmjax.audio import kaldi_fbank
from mmjax.encoders import AST
from mmjax.errors import ConfigError, DataError
from mmjax.pretrained import load
from mmjax.structs import Modality

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "patch_size": 8,
    "time_stride": 5,
    "frequency_stride": 6,
    "max_length": 48,
    "num_mel_bins": 32,
}


@pytest.fixture(scope="module")
def torch():
    """PyTorch, where it and transformers are installed."""
    for package in ("torch", "torchvision", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'mmjax[parity]'")
    import torch
    from torch import library

    names = library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):  # missing beside a PyTorch without CUDA
        if not hasattr(torch.ops.torchvision, name):
            names.define(f"{name}(Tensor a) -> Tensor")
    torch.kept = names
    return torch


def extractor(**options):
    """transformers' preprocessing, with NumPy."""
    from transformers.models.audio_spectrogram_transformer import (
        feature_extraction_audio_spectrogram_transformer as module,
    )

    assert not module.is_speech_available()  # torchaudio
    return module.ASTFeatureExtractor(**options)


def model_of(torch, folder, *, head=True):
    """Writes a small AST with random weights, as transformers does, and gives its model."""
    from transformers import ASTConfig, ASTForAudioClassification, ASTModel

    torch.manual_seed(0)
    config = ASTConfig(**SIZES, num_labels=3)
    model = (ASTForAudioClassification if head else ASTModel)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    extractor(max_length=48, num_mel_bins=32).save_pretrained(folder)
    return model


def difference(ours, theirs):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("head", [True, False])
def test_parity_with_transformers(torch, head, tmp_path):
    model = model_of(torch, tmp_path, head=head)
    loaded = load(tmp_path)
    clips = [0.1 * np.random.default_rng(0).standard_normal(n) for n in (4_000, 9_000)]
    inputs = loaded.preprocess(clips, sample_rate=16_000)
    clips = [clip.astype(np.float32) for clip in clips]
    theirs_in = extractor(max_length=48, num_mel_bins=32)(
        clips, sampling_rate=16_000, return_tensors="pt"
    )["input_values"]
    assert difference(inputs, theirs_in) <= 1e-5
    base = model.audio_spectrogram_transformer if head else model
    theirs = base(torch.tensor(inputs))
    assert difference(loaded.tokens(inputs), theirs.last_hidden_state) <= 1e-5
    assert difference(loaded.pooled(inputs), theirs.pooler_output) <= 1e-5
    if head:
        assert difference(loaded.logits(inputs), model(torch.tensor(inputs)).logits) <= 1e-5
    loaded.export(tmp_path / "again.safetensors")
    before, after = (
        load_file(tmp_path / "model.safetensors"),
        load_file(tmp_path / "again.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)

    # The encoder that an experiment takes gives the same from waveforms.
    rows = np.zeros((2, 9_000), np.float32)
    for row, clip in zip(rows, clips, strict=True):
        row[: len(clip)] = clip
    mask = np.arange(9_000) < np.array([[4_000], [9_000]])
    features = loaded.module(
        jnp.asarray(rows), jnp.asarray(mask), jnp.ones(2, bool), train=False, rngs=None
    )
    assert difference(features.tokens, theirs.last_hidden_state) <= 1e-5
    assert features.mask[1].all()
    # 23 of 48 frames: patches that begin at 0, 5, 10, 15, 20 of 0 to 40 have one of them.
    assert features.mask[0].tolist() == [True] * 2 + ([True] * 5 + [False] * 4) * 5


@pytest.mark.filterwarnings("ignore")
def test_other_lengths(torch, tmp_path):
    model_of(torch, tmp_path)
    whole = load(tmp_path).module.positions[...]
    grid = np.asarray(whole[0, 2:]).reshape(5, 9, 16)
    short = load(tmp_path, frames=33)
    assert short.config.frames == 33
    assert_begins_at(short, (short.config.samples,), short.config.sample_rate)
    assert short.preprocess(np.zeros(9_000), sample_rate=16_000).shape == (1, 33, 32)
    cut = np.asarray(short.module.positions[...])
    np.testing.assert_array_equal(cut[0, :2], whole[0, :2])
    np.testing.assert_array_equal(cut[0, 2:].reshape(5, 6, 16), grid[:, :6])
    longer = np.asarray(load(tmp_path, frames=103).module.positions[...])[0, 2:]
    expected = torch.nn.functional.interpolate(
        torch.tensor(grid.transpose(2, 0, 1)[None]), size=(5, 20), mode="bilinear"
    )[0]
    np.testing.assert_allclose(
        longer.reshape(5, 20, 16), expected.numpy().transpose(1, 2, 0), atol=1e-6
    )
    with pytest.raises(ConfigError, match="7 frames and 32 bands, but its patches are of 8"):
        load(tmp_path, frames=7)


@pytest.mark.filterwarnings("ignore")
def test_filter_banks_of_real_clips(torch, data_folder):
    files = sorted((data_folder / "fsdd" / "recordings").glob("[0-9]_*_0.wav"))[::20]
    files += sorted((data_folder / "esc10" / "audio").glob("*.ogg"))[::100]
    if not files:
        pytest.skip("the clips are not in MMJAX_DATA")
    from mmjax.pretrained.sounds import FilterBanks, Waveforms

    banks, theirs = FilterBanks(AST()), extractor()
    ours = banks(files)
    clips = Waveforms(16_000, least=400).clips(files)
    expected = theirs(clips, sampling_rate=16_000, return_tensors="np")["input_values"]
    assert ours.shape == expected.shape == (len(files), 1024, 128)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    # 1e-3 in float32: bands near the floor, beside loud sound, have rounding errors.
    samples = np.stack([np.resize(clip, 16_000) for clip in clips])
    again, _ = AST(frames=98).spectrogram(jnp.asarray(samples), None)
    expected = theirs(list(samples), sampling_rate=16_000, return_tensors="np")["input_values"]
    np.testing.assert_allclose(again, expected[:, :98], atol=1e-3)


def test_filter_bank_by_hand():
    x = np.random.default_rng(0).standard_normal(200)
    frame = x[10:74] - x[10:74].mean()
    frame = frame - 0.9 * np.concatenate([frame[:1], frame[:-1]])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 63)
    energy = np.abs(np.fft.rfft(frame * hann**0.85)) ** 2
    sizes = {"frame_length": 64, "hop": 10, "bands": 3, "preemphasis": 0.9}
    bank = kaldi_fbank(x, sample_rate=1000, window="povey", **sizes)
    assert bank.shape == (14, 3)
    mel = 1127 * np.log(1 + np.arange(33) * 1000 / 64 / 700)
    edges = np.linspace(*1127 * np.log(1 + np.array([20, 500]) / 700), 5)
    for band in range(3):
        weight = np.interp(mel, edges[band : band + 3], [0, 1, 0])
        np.testing.assert_allclose(bank[1, band], np.log(weight @ energy), rtol=1e-5)
    # Silence, and a band without any frequency, are at the floor; the slope there is 0.
    quiet = kaldi_fbank(np.zeros(400), sample_rate=16_000)
    np.testing.assert_allclose(quiet, np.log(2.0**-23), rtol=1e-6)
    slope = jax.grad(lambda x: kaldi_fbank(x, sample_rate=16_000).sum())(jnp.zeros(400))
    assert (slope == 0).all()
    for options, sentence in (
        ({"low": 9_000.0}, "choose at least one band, and low below high"),
        ({"frame_length": 500}, "fewer than one frame of 500"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            kaldi_fbank(np.zeros(400), sample_rate=16_000, **options)


@pytest.mark.filterwarnings("ignore")
def test_bad_folders_and_clips_are_told(torch, tmp_path):
    model_of(torch, tmp_path)
    loaded = load(tmp_path)
    with pytest.raises(DataError, match=r"Clip 0 has 399 samples .* fewer than the 400"):
        loaded.preprocess(np.zeros(399), sample_rate=16_000)
    with pytest.raises(DataError, match=r"read \[B, 48, 32\] of a floating type"):
        loaded.tokens(np.zeros((1, 47, 32), np.float32))
    for samples, rate, sentence in ((9_000, 8_000, "at 16000 Hz"), (399, 16_000, "fewer than one")):
        modality = Modality("audio", (samples,), sample_rate=rate)
        with pytest.raises(ConfigError, match=sentence):
            loaded.config.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))

    file, said = tmp_path / "model.safetensors", tmp_path / "config.json"
    processor = tmp_path / "preprocessor_config.json"
    tensors, description = load_file(file), json.loads(said.read_text())
    sound = json.loads(processor.read_text())
    processor.write_text(json.dumps({name: x for name, x in sound.items() if name != "mean"}))
    with pytest.raises(DataError, match=r"preprocessor_config.json .* incomplete \(KeyError"):
        load(tmp_path)
    processor.write_text(json.dumps(sound | {"max_length": 50}))
    with pytest.raises(DataError, match=r"for 50 frames and 32 bands, but config.json says 48"):
        load(tmp_path)
    processor.write_text(json.dumps(sound | {"do_normalize": False}))
    raw = load(tmp_path).preprocess(np.zeros(400), sample_rate=16_000)
    np.testing.assert_allclose(raw[0, 0], np.log(2.0**-23), rtol=1e-6)
    assert (raw[0, 1:] == 0).all()
    processor.unlink()
    with pytest.raises(DataError, match="Nothing beside the weights"):
        load(tmp_path).preprocess(np.zeros(400), sample_rate=16_000)
    said.write_text(json.dumps(description | {"max_length": 60}))
    with pytest.raises(DataError, match=r"1 of another shape: .*position_embeddings"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"but the 5 x 11 patches of config.json need"):
        load(tmp_path, frames=48)
    said.write_text(json.dumps(description | {"hidden_act": "relu"}))
    with pytest.raises(DataError, match="an AST with the activation 'relu'"):
        load(tmp_path)
    said.write_text(json.dumps(description))
    name = "audio_spectrogram_transformer.embeddings.cls_token"
    save_file({other: x for other, x in tensors.items() if other != name}, file)
    with pytest.raises(DataError, match=r"1 missing \(our names\): class_token"):
        load(tmp_path)
