"""silero-vad: by hand in NumPy, beside the published package where it is, bad files and clips."""

import importlib.util
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from beginnings import assert_begins_at
from flax import nnx
from safetensors.numpy import load_file, save_file

from mmjax.encoders import SileroVAD
from mmjax.errors import ConfigError, DataError
from mmjax.pretrained import Waveforms, load
from mmjax.structs import Modality

SHAPES = {
    "stft_conv.weight": (258, 1, 256),
    "conv1.weight": (128, 129, 3),
    "conv1.bias": (128,),
    "conv2.weight": (64, 128, 3),
    "conv2.bias": (64,),
    "conv3.weight": (64, 64, 3),
    "conv3.bias": (64,),
    "conv4.weight": (128, 64, 3),
    "conv4.bias": (128,),
    "lstm_cell.weight_ih": (512, 128),
    "lstm_cell.weight_hh": (512, 128),
    "lstm_cell.bias_ih": (512,),
    "lstm_cell.bias_hh": (512,),
    "final_conv.weight": (1, 128, 1),
    "final_conv.bias": (1,),
}


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(0)
    return {
        name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


@pytest.fixture(scope="module")
def detector(weights, tmp_path_factory):
    file = tmp_path_factory.mktemp("vad") / "silero_vad_16k.safetensors"
    save_file(weights, file)
    return load(file)


def by_hand(weights, clip):
    """The states and the probability of each chunk of a clip, in NumPy and float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in weights.items()}

    def convolved(x, name, stride):
        x = np.pad(x, ((0, 0), (1, 1)))
        starts = range(0, x.shape[1] - 2, stride)
        y = [np.tensordot(w[f"{name}.weight"], x[:, at : at + 3], 2) for at in starts]
        return np.maximum(np.stack(y, 1) + w[f"{name}.bias"][:, None], 0)

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    clip = np.pad(clip.astype(np.float64), (64, -len(clip) % 512))
    h = c = np.zeros(128)
    states, probabilities = [], []
    for start in range(64, len(clip), 512):
        x = np.pad(clip[start - 64 : start + 512], (0, 64), mode="reflect")
        frames = np.stack([x[at : at + 256] for at in range(0, 385, 128)], 1)
        parts = w["stft_conv.weight"][:, 0] @ frames
        y = np.hypot(parts[:129], parts[129:])
        for index, stride in enumerate((1, 2, 2, 1)):
            y = convolved(y, f"conv{index + 1}", stride)
        gates = w["lstm_cell.weight_ih"] @ y[:, 0] + w["lstm_cell.bias_ih"]
        gates += w["lstm_cell.weight_hh"] @ h + w["lstm_cell.bias_hh"]
        enter, forget, new, leave = np.split(gates, 4)
        c = logistic(forget) * c + logistic(enter) * np.tanh(new)
        h = logistic(leave) * np.tanh(c)
        states.append(h)
        logit = w["final_conv.weight"][:, :, 0] @ np.maximum(h, 0) + w["final_conv.bias"]
        probabilities.append(logistic(logit)[0])
    return np.array(states), np.array(probabilities)


def clips():
    random = np.random.default_rng(1)
    return [0.3 * random.standard_normal(samples).astype(np.float32) for samples in (2000, 1024)]


def test_by_hand_with_clips_of_two_lengths(weights, detector):
    inputs = detector.preprocess(clips(), sample_rate=16_000)
    assert np.isnan(inputs[1, 1024:]).all()
    mask = ~np.isnan(inputs)
    tokens, speech = detector.tokens(inputs), detector.speech(inputs)
    assert tokens.shape == (2, 4, 128)
    np.testing.assert_array_equal(detector.features(inputs).mask, [[1] * 4, [1, 1, 0, 0]])
    for row, clip in enumerate(clips()):
        states, probabilities = by_hand(weights, clip)
        count = len(states)
        # 1e-5: float32 beside float64.
        np.testing.assert_allclose(tokens[row, :count], states, atol=1e-5)
        np.testing.assert_allclose(speech[row, :count], probabilities, atol=1e-5)
        assert (speech[row, count:] == 0).all()
        np.testing.assert_allclose(detector.pooled(inputs)[row], states.mean(0), atol=1e-5)
    filled = np.where(mask, inputs, 7)  # a mask says the same as NaN
    np.testing.assert_array_equal(detector.speech(filled, mask), speech)
    logits = np.asarray(detector.logits(inputs))[0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), speech[0], rtol=1e-5)


def test_an_experiment_begins_at_the_weights(detector):
    assert_begins_at(detector, (1_024,), 16_000)


@pytest.mark.slow
def test_in_pieces_as_in_one(detector):
    whole, module = clips()[0][None], detector.module
    expected, _ = module.listen(jnp.asarray(whole))
    first, heard = module.listen(jnp.asarray(whole[:, :1024]))
    second, _ = module.listen(jnp.asarray(whole[:, 1024:]), None, heard)
    joined = np.concatenate([first.tokens, second.tokens], 1)
    np.testing.assert_allclose(joined, expected.tokens, atol=1e-6)


def test_what_is_exported_is_what_was_read(weights, detector, tmp_path):
    detector.export(tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == weights.keys()
    assert all((again[name] == weights[name]).all() for name in weights)


def test_bad_files_and_clips_are_told(weights, detector, tmp_path):
    file = tmp_path / "vad.safetensors"
    for changes, sentence in (
        ({"stft_conv.weight": np.zeros((130, 1, 128), "f")}, "silero-vad with spectra of 128"),
        ({"conv1.bias": np.zeros(3, np.float32)}, r"conv1.bias is \(3,\)"),
        ({"final_conv.weight": np.zeros(3, np.float32)}, r"final_conv.weight is \(3,\)"),
        ({"conv5.bias": np.zeros(3, np.float32)}, "1 unknown: conv5.bias"),
    ):
        save_file(weights | changes, file)
        with pytest.raises(DataError, match=sentence):
            load(file)
    save_file({name: x for name, x in weights.items() if name != "conv4.bias"}, file)
    with pytest.raises(DataError, match=r"1 missing \(our names\): convs.3.bias"):
        load(file)

    sound = np.zeros(1600, np.float32)
    for raw, options, sentence in (
        (sound, {}, r"sample rate of arrays is not known.* 16000 Hz: pass sample_rate="),
        (sound[:400], {"sample_rate": 16_000}, "Clip 0 has 400 samples .* fewer than the 512"),
        ([sound, sound[:0]], {"sample_rate": 8_000}, "Clip 1 has no samples"),
        (sound.astype(np.int16), {"sample_rate": 8_000}, "Clip 0 cannot be heard.* int16"),
        (sound, {"sample_rate": -1}, "Clip 0 cannot be heard.*from_rate is -1"),
        (sound * np.nan, {"sample_rate": 16_000}, "not finite"),
        (np.zeros((1, 2, 3, 4), "f"), {"sample_rate": 16_000}, r"Clip 0 is \(2, 3, 4\)"),
        ([], {}, "no sound to preprocess"),
        (tmp_path / "none.wav", {}, "none.wav"),
    ):
        with pytest.raises(DataError, match=sentence):
            detector.preprocess(raw, **options)
    for inputs in (np.zeros((1, 511), "f"), np.zeros((1, 600), np.int32), np.zeros(600, "f")):
        with pytest.raises(DataError, match=r"read \[B, at least 512\] of a floating type"):
            detector.tokens(inputs)
    for samples, rate, sentence in ((16_000, 8_000, "at 16000 Hz"), (511, 16_000, "fewer than")):
        modality = Modality("audio", (samples,), sample_rate=rate)
        with pytest.raises(ConfigError, match=sentence):
            SileroVAD().build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


def test_files_become_waveforms(tmp_path):
    stereo = np.stack([np.full(800, 0.5), np.full(800, -0.25)], 1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 8_000, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.flac", np.full(512, 0.25), 16_000)
    heard = Waveforms(16_000, least=512)([tmp_path / "stereo.wav", str(tmp_path / "mono.flac")])
    assert heard.shape == (2, 1600)
    np.testing.assert_allclose(heard[0, 300:1300], 0.125, atol=1e-3)
    np.testing.assert_allclose(heard[1, :512], 0.25)
    data = (tmp_path / "stereo.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[:1000])
    with pytest.raises(DataError, match="is cut short"):
        Waveforms(16_000, least=512)(tmp_path / "cut.wav")


# In the package, the file of safetensors holds other values than the TorchScript and ONNX models.
def test_beside_the_published_package(data_folder, tmp_path):
    for package in ("torch", "silero_vad", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install silero-vad onnxruntime")
    recordings = data_folder / "fsdd" / "recordings"
    files = sorted(recordings.glob("[0-9]_*_0.wav"))[::12]
    file = data_folder / "weights" / "silero_vad_16k.safetensors"
    if not files or not file.exists():
        pytest.skip("the clips and weights are not in MMJAX_DATA")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from silero_vad import load_silero_vad

        torchscript, onnx = load_silero_vad(), load_silero_vad(onnx=True)
    theirs = torchscript._model.state_dict()
    names = {"stft_conv.weight": "stft.forward_basis_buffer"}
    for part in ("weight", "bias"):
        names |= {f"conv{at + 1}.{part}": f"encoder.{at}.reparam_conv.{part}" for at in range(4)}
        names |= {f"lstm_cell.{part}_{of}": f"decoder.rnn.{part}_{of}" for of in ("ih", "hh")}
        names[f"final_conv.{part}"] = f"decoder.decoder.2.{part}"
    values = {name: theirs[other].numpy().copy() for name, other in names.items()}
    save_file(values, tmp_path / "torchscript.safetensors")
    published = load_file(file)
    inputs = load(file).preprocess(files)

    def compare(model, speech):
        for row, probabilities in zip(inputs, np.asarray(speech), strict=True):
            clip = torch.tensor(row[~np.isnan(row)])
            with torch.no_grad():
                expected = model.audio_forward(clip, 16_000).numpy()[0]
            np.testing.assert_allclose(probabilities[: len(expected)], expected, atol=1e-4)

    ours = load(tmp_path / "torchscript.safetensors").speech(inputs)
    compare(torchscript, ours)
    compare(onnx, ours)
    given = {other: torch.tensor(published[name]) for name, other in names.items()}
    torchscript._model.load_state_dict(given)
    speech = load(file).speech(inputs)
    compare(torchscript, speech)
    assert (np.asarray(speech).max(1) > 0.5).all()  # each is a spoken digit
