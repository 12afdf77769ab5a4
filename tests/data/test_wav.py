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


def test_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"The file .*absent\.wav does not exist"):
        read_wav(tmp_path / "absent.wav", 8000)
