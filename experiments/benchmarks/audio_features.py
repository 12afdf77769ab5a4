"""mmjax.audio beside librosa: differences on real clips, and how much sound a second each handles.

    pip install 'mmjax[peers]'        # in an environment of its own: librosa, numba, llvmlite
    taskset -c 0,1 python experiments/benchmarks/audio_features.py --data-dir FOLDER
    python experiments/benchmarks/audio_features.py --data-dir FOLDER --write tests/audio

FOLDER holds `esc10/audio` and `fsdd/recordings`. Both run in this process, in float32, in turn. A
difference is the largest one, divided by the range (greatest minus least) of librosa's values; the
table gives its greatest over the clips. A ratio is of two times of one round: medians and quartiles
over rounds. librosa takes one clip after the other, as it has no batches; mmjax takes batches of
equal length that are on the device, compiled before.

Differences came out below 2e-5, but for power without a dynamic range (4e-3 in one clip), and mmjax
was 6 to 9 times as fast (`RESULTS.md`). Three minutes on two busy cores.

With `--write`, the references of `tests/audio/test_librosa.py` are computed instead.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import soundfile

from mmjax.audio import LIBROSA, Convention, cepstra, deltas, log_mel
from mmjax.benchmarks.objective import quartiles
from mmjax.training.provenance import environment

HTK_AREA = Convention(
    scale="htk", triangles="hertz", area=True, window="hamming", centre="reflect", unit="decibel"
)
MAGNITUDE = Convention(
    scale="slaney",
    triangles="hertz",
    window="rectangular",
    exponent=1,
    unit="decibel",
    reference="max",
    top_db=60.0,
)
PLAIN = Convention(scale="htk", triangles="hertz", centre="zeros")
# Name -> sizes, our convention, and librosa's keywords for the same.
SETTINGS: dict[str, tuple[dict[str, Any], Convention, dict[str, Any]]] = {
    "librosa_default": (
        {"frame_length": 512, "hop": 128, "bands": 40},
        LIBROSA,
        {"pad_mode": "constant"},
    ),
    "htk_hamming_reflect": (
        {"frame_length": 400, "hop": 160, "n_fft": 512, "bands": 32, "low": 60.0},
        HTK_AREA,
        {"htk": True, "window": "hamming", "pad_mode": "reflect"},
    ),
    "slaney_magnitude_not_centred": (
        {"frame_length": 256, "hop": 100, "bands": 24, "high": 3800.0},
        MAGNITUDE,
        {"norm": None, "power": 1.0, "window": "boxcar", "center": False},
    ),
    "htk_natural_logarithm": (
        {"frame_length": 512, "hop": 256, "bands": 40},
        PLAIN,
        {"htk": True, "norm": None, "pad_mode": "constant"},
    ),
}
COEFFICIENTS = 13
FEATURES = ("log_mel", "mfcc", "deltas")
Waves = np.ndarray


def clips(folder: Path, of_each: int) -> dict[str, tuple[Waves, int]]:
    """Data set -> its clips [N, S] float32 and their sample rate.

    They are evenly spaced through the sorted names, and cut to one length; shorter ones are left
    out.
    """
    found = {}
    kinds = (("esc10", "esc10/audio/*.ogg", 5.0), ("fsdd", "fsdd/recordings/*.wav", 0.4))
    for name, pattern, seconds in kinds:
        paths = sorted(folder.glob(pattern))
        chosen = paths[:: max(1, len(paths) // of_each)][:of_each]
        read = [soundfile.read(path, dtype="float32") for path in chosen]
        rate = read[0][1]
        length = round(seconds * rate)
        found[name] = (np.stack([w[:length] for w, _ in read if len(w) >= length]), rate)
    return found


def peer(setting: str, wave: Waves, rate: int) -> dict[str, np.ndarray]:
    """Feature -> librosa's values [F, D]."""
    sizes, convention, options = SETTINGS[setting]
    mel = librosa.feature.melspectrogram(
        y=wave,
        sr=rate,
        n_fft=sizes.get("n_fft", sizes["frame_length"]),
        win_length=sizes["frame_length"],
        hop_length=sizes["hop"],
        n_mels=sizes["bands"],
        fmin=sizes.get("low", 0.0),
        fmax=sizes.get("high"),
        **options,
    )
    if convention.unit == "nat":
        level = np.log(np.maximum(mel, 1e-10))
    elif convention.exponent == 1:
        level = librosa.amplitude_to_db(mel, ref=np.max, top_db=convention.top_db)
    else:
        level = librosa.power_to_db(mel, top_db=convention.top_db)
    coefficients = librosa.feature.mfcc(S=level, n_mfcc=COEFFICIENTS)
    slopes = librosa.feature.delta(coefficients, width=9)
    return dict(zip(FEATURES, (level.T, coefficients.T, slopes.T), strict=True))


def ours(setting: str, rate: int, waves: jax.Array) -> dict[str, jax.Array]:
    """Feature -> our values [..., F, D]."""
    sizes, convention, _ = SETTINGS[setting]
    floor = 1e-10 if convention.exponent == 2 else 1e-5
    level = log_mel(waves, sample_rate=rate, floor=floor, convention=convention, **sizes)
    coefficients = cepstra(level, COEFFICIENTS)
    slopes = deltas(coefficients)
    return dict(zip(FEATURES, (level, coefficients, slopes), strict=True))


def difference(expected: np.ndarray, found: Any) -> float:
    """The largest difference, relative to the range of the expected values."""
    return float(np.max(np.abs(expected - np.asarray(found))) / np.ptp(expected))


def write(folder: Path, into: Path) -> None:
    """Half a second of one clip of each data set, and librosa's values for it."""
    for name, (waves, rate) in clips(folder, 7).items():
        wave = max(waves, key=lambda wave: float(np.abs(wave[: rate // 2]).max()))[: rate // 2]
        whole = np.round(wave * 32767).astype(np.int16)
        arrays = {"wave": whole, "rate": np.array(rate)}
        for setting in SETTINGS:
            for feature, values in peer(setting, whole / np.float32(32768), rate).items():
                arrays[f"{setting}/{feature}"] = values.astype(np.float32)
        np.savez_compressed(into / f"librosa_{name}.npz", **arrays)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    begun = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begun


def main() -> None:
    """Measures and prints, or writes the references."""
    parser = argparse.ArgumentParser(description="mmjax.audio beside librosa")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=11)
    parsed = parser.parse_args()
    if not (parsed.data_dir / "esc10").is_dir() or not (parsed.data_dir / "fsdd").is_dir():
        parser.error(f"--data-dir is {parsed.data_dir}: name a folder with esc10 and fsdd in it")
    if parsed.write:
        write(parsed.data_dir, parsed.write)
        return
    machine = environment(["audio_features"], {})
    cores = len(os.sched_getaffinity(0))
    print(f"{machine['processor']}, {cores} cores; {machine['versions']}; {librosa.__version__=}")
    found = clips(parsed.data_dir, parsed.clips)
    print("largest difference, relative to the range: log_mel, mfcc, deltas")
    for name, (waves, rate) in found.items():
        for setting in SETTINGS:
            worst = dict.fromkeys(FEATURES, 0.0)
            mine = jax.jit(partial(ours, setting, rate))(waves)
            for row, wave in enumerate(waves):
                for feature, values in peer(setting, wave, rate).items():
                    apart = difference(values, mine[feature][row])
                    worst[feature] = max(worst[feature], apart)
            figures = "  ".join(f"{worst[feature]:.1e}" for feature in FEATURES)
            print(f"  {name:6} {len(waves)} clips  {setting:30} {figures}", flush=True)
    print("hours of sound a second (quartiles): librosa, mmjax, and the ratio")
    batch, rate = found["esc10"]
    hours, on_device = batch.size / rate / 3600, jnp.asarray(batch)
    for setting in SETTINGS:
        run = jax.jit(partial(ours, setting, rate))
        one_by_one = partial(lambda setting: [peer(setting, w, rate) for w in batch], setting)
        batched = partial(run, on_device)
        one_by_one(), jax.block_until_ready(batched())
        times = [(timed(one_by_one), timed(batched)) for _ in range(parsed.rounds)]
        columns = [[hours / t[0] for t in times], [hours / t[1] for t in times]]
        columns.append([theirs / mine for theirs, mine in times])
        cells = [
            "{:.3g} ({:.3g} to {:.3g})".format(statistics.median(column), *quartiles(column))
            for column in columns
        ]
        print(f"  {setting:30} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
