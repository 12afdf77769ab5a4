import struct

import numpy as np
import pytest
import soundfile

from mmjax.data.wav import read_wav
from mmjax.errors import DataError

TONE = np.sin(np.arange(400) / 5).astype(np.float32) / 2


def write(path, samples, rate=8000, **options):
    soundfile.write(path, samples, rate, format="WAV", **options)
    return path


def test_reads_float32_between_minus_one_and_one(tmp_path):
    samples = read_wav(write(tmp_path / "a.wav", TONE), 8000)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, TONE, atol=2**-15)  # 16-bit steps


def test_full_scale_is_one(tmp_path):
    path = write(tmp_path / "a.wav", np.array([-32768, 16384, 0], np.int16))
    np.testing.assert_array_equal(read_wav(path, 8000), [-1, 0.5, 0])


@pytest.mark.parametrize(
    ("samples", "options", "sentence"),
    [
        (np.zeros(0, np.float32), {}, r"is empty \(0 samples\)"),
        (np.stack([TONE, TONE], 1), {}, "has 2 channels: convert it to mono"),
        (TONE, {"rate": 16000}, "has a sample rate of 16000 Hz: resample it to 8000"),
        (TONE * 3, {"subtype": "FLOAT"}, r"not in \[-1, 1\]"),
        (np.array([0, np.nan], np.float32), {"subtype": "FLOAT"}, r"not in \[-1, 1\]"),
    ],
)
def test_refuses_the_wrong_sound(tmp_path, samples, options, sentence):
    path = write(tmp_path / "a.wav", samples, **options)
    with pytest.raises(DataError, match=sentence) as caught:
        read_wav(path, 8000)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: b"", r"is empty \(0 bytes\)"),
        (lambda data: b"fLaC" + data[4:], "is not a WAV file"),
        (lambda data: data[:-100], "is cut short .744 bytes, but 844 in its header"),
        (lambda data: data[:30], "is cut short"),
        (lambda data: data[:12] + b"junk" + data[16:], "is damaged"),
    ],
)
def test_refuses_a_damaged_file(tmp_path, damage, sentence):
    path = write(tmp_path / "a.wav", TONE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=sentence) as caught:
        read_wav(path, 8000)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def wav(riff, data, magic=b"RIFF", long=None, body=None):
    """A file of 400 samples, 800 bytes, that claims these sizes."""
    sizes = b"" if long is None else b"ds64" + struct.pack("<IQQQI", 28, 872, long, 400, 0)
    kind = b"WAVE" + sizes + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    body = (32768 * TONE).astype("<i2").tobytes() if body is None else body
    return magic + struct.pack("<I", riff) + kind + b"data" + struct.pack("<I", data) + body


@pytest.mark.parametrize(
    "data",
    [
        wav(836, 800),
        wav(2**32 - 1, 2**32 - 1),  # ffmpeg to a pipe
        wav(0x7FFFF024, 0x7FFFF000),  # sox to a pipe
        wav(2**31 + 36, 2**31),  # arecord
        wav(844, 800),  # RecordRTC
        wav(0, 0),  # stopped
        wav(36, 0),  # stopped, of a program that counts the header
        wav(2**32 - 1, 2**32 - 1, b"RF64", long=800),
        wav(2**32 - 1, 2**32 - 1, b"BW64", long=800),
        wav(838, 801, body=(32768 * TONE).astype("<i2").tobytes() + b"a"),  # without a pad byte
        wav(900, 800) + b"LIST\x40\0\0\0INFO",  # cut after its samples
    ],
    ids=range(11),
)
def test_reads_whole_samples_whatever_the_header_claims(tmp_path, data):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    np.testing.assert_allclose(read_wav(path, 8000), TONE, atol=2**-15)  # 16-bit steps


@pytest.mark.parametrize(
    "data", [wav(836, 1800), wav(2**32 - 1, 2**32 - 1, b"RF64", long=1800), wav(836, 802)]
)
def test_samples_that_are_cut_are_refused_whatever_the_size_of_the_file(tmp_path, data):
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"is cut short \(8.. bytes, but .* in its header\)"):
        read_wav(path, 8000)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"The file .*absent\.wav does not exist"):
        read_wav(tmp_path / "absent.wav", 8000)
