"""silero-vad on real clips: spoken digits, sounds of the surroundings, and silence.

    python experiments/benchmarks/voice_activity.py --data-dir FOLDER

FOLDER holds `weights/silero_vad_16k.safetensors`, `fsdd/recordings` and `esc10`. For each kind of
clip: the mean over clips of the mean and of the greatest probability of speech of a clip's chunks,
and the share of clips with one above 0.5, with which the package marks speech. Every tenth digit.
Measured: speech in 99 % of the digits, in none of the rain and the silence (`RESULTS.md`). A minute
on two cores.
"""

import argparse
import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.pretrained import load

BATCH = 40
THRESHOLD = 0.5


def kinds(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Name -> the clips: files, or arrays at 16 kHz."""
    recordings = sorted((folder / "fsdd" / "recordings").glob("*.wav"))
    yield "spoken digits (FSDD)", recordings[::10]
    with (folder / "esc10" / "esc10.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for category in sorted({row["category"] for row in rows}):
        names = [row["filename"] for row in rows if row["category"] == category]
        yield f"{category} (ESC-10)", [folder / "esc10" / "audio" / name for name in names]
    yield "silence: zeros", [np.zeros(80_000, np.float32)]
    noise = np.random.default_rng(0).standard_normal((BATCH, 80_000)).astype(np.float32)
    yield "silence: white noise at -60 dB", list(1e-3 * noise)
    yield "white noise at -20 dB", list(1e-1 * noise)


def main(folder: Path) -> Iterator[str]:
    """Lines of a table."""
    detector = load(folder / "weights" / "silero_vad_16k.safetensors")
    yield "| clips | number | mean | greatest | clips with speech |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, sounds in kinds(folder):
        means, greatest = [], []
        for start in range(0, len(sounds), BATCH):
            inputs = detector.preprocess(sounds[start : start + BATCH], sample_rate=16_000)
            # Whole seconds, so that few shapes are compiled.
            beyond = ((0, 0), (0, -inputs.shape[1] % 16_000))
            inputs = np.pad(inputs, beyond, constant_values=np.nan)
            valid = np.asarray(detector.features(inputs).mask)
            speech = np.asarray(detector.speech(inputs))
            means += list(speech.sum(1) / valid.sum(1))
            greatest += list(speech.max(1))
        share = np.mean(np.array(greatest) > THRESHOLD)
        numbers = f"{np.mean(means):.3f} | {np.mean(greatest):.3f} | {share:.1%}"
        yield f"| {name} | {len(sounds)} | {numbers} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MMJAX_DATA", "data"))
    for line in main(Path(parser.parse_args().data_dir)):
        print(line, flush=True)
