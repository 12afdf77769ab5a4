"""Log-mel spectrograms and cepstra beside librosa: differences on real clips, and speed.

    python experiments/benchmarks/audio_features.py --data-dir DATA
    python experiments/benchmarks/audio_features.py --write tests/audio_by_librosa.npz

Needs librosa (the extra `peers`). A difference is the largest one over the range of librosa's
values. The second command stores librosa's values of a made-up waveform for the tests.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import soundfile

from mmjax import audio
from mmjax.audio import LIBROSA, Convention

COEFFICIENTS, FLOOR = 13, 1e-10


class Setting(NamedTuple):
    """One convention, in our words and in librosa's.

    Attributes:
        convention: ours.
        frame_length: samples of a frame and of the Fourier transform.
        hop: samples between the starts of two frames.
        bands: number of mel bands.
        spectrogram: options of `librosa.feature.melspectrogram`.
        decibel: options of `librosa.power_to_db`, or `amplitude_to_db`; None: natural logarithm.
    """

    convention: Convention
    frame_length: int
    hop: int
    bands: int
    spectrogram: dict[str, Any]
    decibel: dict[str, Any] | None


SETTINGS = {
    "librosa's default": Setting(
        LIBROSA,
        *(512, 128, 40),
        {"htk": False, "norm": "slaney", "power": 2.0, "center": True, "pad_mode": "constant"},
        {"ref": 1.0, "top_db": 80.0},
    ),
    "HTK scale, peaks of 1, not centred": Setting(
        Convention(triangles="hertz", unit="decibel"),
        *(512, 160, 40),
        {"htk": True, "norm": None, "power": 2.0, "center": False},
        {"ref": 1.0, "top_db": None},
    ),
    "magnitude, Hamming, mirrored, 60 dB below the greatest": Setting(
        Convention(
            scale="slaney",
            triangles="hertz",
            area=True,
            window="hamming",
            centre="reflect",
            exponent=1,
            unit="decibel",
            reference="max",
            top_db=60.0,
        ),
        *(256, 80, 32),
        {
            "htk": False,
            "norm": "slaney",
            "power": 1.0,
            "center": True,
            "pad_mode": "reflect",
            "window": "hamming",
        },
        {"ref": np.max, "top_db": 60.0},
    ),
    "HTK scale, no window, natural logarithm": Setting(
        Convention(triangles="hertz", window="rectangular"),
        *(400, 100, 26),
        {"htk": True, "norm": None, "power": 2.0, "center": False, "window": "boxcar"},
        None,
    ),
}


def ours(x: np.ndarray, rate: int, setting: Setting) -> tuple[jax.Array, jax.Array]:
    """Log-mel [F, M] and cepstra [F, 13] by mmjax."""
    options = {
        "sample_rate": rate,
        "frame_length": setting.frame_length,
        "hop": setting.hop,
        "n_fft": setting.frame_length,
        "bands": setting.bands,
        "floor": FLOOR,
        "convention": setting.convention,
    }
    return audio.log_mel(x, **options), audio.mfcc(x, coefficients=COEFFICIENTS, **options)


def theirs(x: np.ndarray, rate: int, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """The same by librosa."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=x,
        sr=rate,
        n_fft=setting.frame_length,
        hop_length=setting.hop,
        n_mels=setting.bands,
        **setting.spectrogram,
    )
    if setting.decibel is None:
        level = np.log(np.maximum(mel, FLOOR))
    elif setting.convention.exponent == 1:
        level = librosa.amplitude_to_db(mel, amin=FLOOR, **setting.decibel)
    else:
        level = librosa.power_to_db(mel, amin=FLOOR, **setting.decibel)
    return level.T, librosa.feature.mfcc(S=level, n_mfcc=COEFFICIENTS).T


def difference(found: Any, expected: np.ndarray) -> float:
    """The largest difference over the range of the expected values."""
    return float(np.abs(np.asarray(found) - expected).max() / np.ptp(expected))


def made_up() -> tuple[np.ndarray, int]:
    """Half a second of a rising tone with noise, and a silent end."""
    rate = 8000
    time_ = np.arange(4000) / rate
    noise = np.random.default_rng(0).standard_normal(4000)
    x = 0.3 * np.sin(2 * np.pi * (200 + 2000 * time_) * time_) + 0.02 * noise
    x[3500:] = 0
    return x.astype(np.float32), rate


def compare(folder: Path) -> None:
    """Prints the differences on real clips."""
    clips = sorted((folder / "fsdd" / "recordings").glob("*_0.wav"))[:20]
    clips += sorted((folder / "esc10" / "audio").glob("*.ogg"))[:20]
    print(f"{len(clips)} clips\n\n| setting | log-mel | MFCC |\n|---|---:|---:|")
    for name, setting in SETTINGS.items():
        worst = np.zeros(2)
        for clip in clips:
            x, rate = soundfile.read(clip, dtype="float32")
            pairs = zip(ours(x, rate, setting), theirs(x, rate, setting), strict=True)
            worst = np.maximum(worst, [difference(*pair) for pair in pairs])
        print(f"| {name} | {worst[0]:.1e} | {worst[1]:.1e} |", flush=True)


def speed(tries: int = 9) -> None:
    """Prints hours of audio per second of both, on 64 clips of 5 s, in turn."""
    setting, rate = SETTINGS["librosa's default"], 16_000
    x = np.random.default_rng(0).standard_normal((64, 5 * rate)).astype(np.float32) / 10
    compiled = jax.jit(lambda x: ours(x, rate, setting))
    jax.block_until_ready(compiled(x))
    theirs(x[0], rate, setting)
    rates: list[list[float]] = [[], []]
    for _ in range(tries):
        begun = time.perf_counter()
        jax.block_until_ready(compiled(x))
        middle = time.perf_counter()
        for row in x:
            theirs(row, rate, setting)
        ended = time.perf_counter()
        hours = x.size / rate / 3600
        rates[0].append(hours / (middle - begun))
        rates[1].append(hours / (ended - middle))
    ratios = [a / b for a, b in zip(*rates, strict=True)]
    for name, each in (("mmjax", rates[0]), ("librosa", rates[1]), ("ratio", ratios)):
        low, middle, high = statistics.quantiles(each, n=4)
        print(f"{name}: {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.write:
        values = {}
        for index, setting in enumerate(SETTINGS.values()):
            for part, value in zip(("mel", "mfcc"), theirs(*made_up(), setting), strict=True):
                values[f"{part}{index}"] = value.astype(np.float32)
        np.savez_compressed(given.write, **values)
    else:
        if given.data_dir:
            compare(given.data_dir)
        print(f"\nhours of audio per second on {jax.devices()[0].device_kind}, log-mel and MFCC")
        speed()
