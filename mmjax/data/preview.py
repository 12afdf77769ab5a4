"""An image of a few examples of a data set, as the model reads them.

One column per example, one row per modality (two for audio: waveform and log-mel spectrogram),
drawn from the arrays that the source gives to training, without matplotlib's global state.
"""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmjax.audio import frame_mask, log_mel
from mmjax.data.dataset import Dataset, Modality, Target
from mmjax.errors import ConfigError
from mmjax.structs import Batch, unit_floats

_INK = "#1f4e79"
_FAINT = "#9aa5b1"
_COLUMN = 2.0  # inches
MOST = 48  # examples of a preview, which has a column of drawings for each
_CHARACTERS = 24  # per column
_MEL_BANDS = 40
_RANGE = 12.0  # of a spectrogram, in nats below its loudest: 52 decibels


@runtime_checkable
class Captioned(Protocol):
    """A data set that can turn the word ids of its text into words."""

    def caption(self, ids: np.ndarray) -> str:
        """The words of the ids [L] of one text, without the padding."""
        ...


@runtime_checkable
class Folded(Protocol):
    """A data set with vectors that are flattened images."""

    @property
    def layouts(self) -> Mapping[str, tuple[int, int]]:
        """Modality -> height and width of its image."""
        ...


def preview(
    dataset: Dataset,
    folder: Path | None,
    path: Path,
    *,
    split: str = "train",
    count: int = 6,
    seed: int = 0,
) -> None:
    """Draws some examples of a split into a PNG file; overwrites the file.

    Args:
        dataset: the data set. If it is `Captioned`, texts are shown as words, else as numbers. If
            it is `Folded`, vectors are shown as images, else as curves.
        folder: the folder of raw data; None for a data set that needs none.
        path: the file to write, in a folder that exists.
        split: name of the split.
        count: number of examples; all if there are fewer.
        seed: chooses the examples.

    Raises:
        ConfigError: the path cannot be a file, or the count is not from 1 to `MOST`; and the
            errors of `dataset.load`.
    """
    if not path.parent.is_dir():
        raise ConfigError(
            f"The preview cannot be written to {path}, because the folder {path.parent} does not "
            "exist: create it first."
        )
    if path.is_dir():
        raise ConfigError(
            f"The preview cannot be written to {path}, because it is a folder: name a file in it."
        )
    if not 1 <= count <= MOST:
        raise ConfigError(f"A preview of {count} examples: choose a --count from 1 to {MOST}.")
    source = dataset.load(split, folder)
    chosen = np.random.default_rng(seed).choice(
        len(source), size=min(count, len(source)), replace=False
    )
    figure = _figure(dataset, source.take(np.sort(chosen)), f"{dataset.name} · {split}")
    figure.savefig(path, format="png", dpi=130)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of panels: its label, its height in inches, and a function that draws example `row`."""

    label: str
    height: float
    draw: Callable[[Axes, int], None]


def _figure(dataset: Dataset, batch: Batch, title: str) -> Figure:
    """All modalities of all examples."""
    rows = [
        (name, row)
        for name, modality in dataset.modalities.items()
        for row in _rows(dataset, name, modality, batch)
    ]
    count = len(batch.ids)
    heights = [row.height for _, row in rows]
    size = (_COLUMN * count + 0.8, sum(heights) + 0.3 * len(rows) + 1)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold")
    grid = figure.subplots(len(rows), count, squeeze=False, height_ratios=heights)
    for (name, row), line in zip(rows, grid, strict=True):
        line[0].set_ylabel(row.label, fontsize=8)
        for column, axes in enumerate(line):
            axes.tick_params(labelsize=7, length=2, labelleft=column == 0)
            axes.spines[["top", "right"]].set_visible(False)
            if batch.present[name][column]:
                row.draw(axes, column)
            else:
                _write(axes, "absent", _FAINT)
    for column, axes in enumerate(grid[0]):
        lines = [f"record {batch.ids[column]}"]
        for name, values in batch.targets.items():
            words = _in_words(dataset.targets.get(name), np.asarray(values[column]))
            lines += textwrap.wrap(f"{name} {words}", _CHARACTERS + 4)
        axes.set_title("\n".join(lines), fontsize=9, parse_math=False)
    return figure


def _rows(dataset: Dataset, name: str, modality: Modality, batch: Batch) -> list[_Row]:
    """The rows that show one modality."""
    values = np.asarray(batch.inputs[name])
    if modality.kind == "image":
        return [_pictures(name, values)]
    if modality.kind == "vector" and isinstance(dataset, Folded) and name in dataset.layouts:
        return [_pictures(name, values.reshape(-1, *dataset.layouts[name], 1))]
    if modality.kind == "vector":
        return [_curves(name, values)]
    # Without a mask every position is valid.
    mask = np.asarray(batch.masks.get(name, np.ones(values.shape, bool)))
    if modality.kind == "text":
        words = dataset.caption if isinstance(dataset, Captioned) else _numbers
        return [_texts(name, [words(ids[valid]) for ids, valid in zip(values, mask, strict=True)])]
    return [
        _waveforms(name, values, mask, modality.sample_rate),
        _spectrograms(f"{name}\nmel bands", values, mask, modality.sample_rate),
    ]


def _pictures(label: str, values: np.ndarray) -> _Row:
    """Images [B, height, width, channels]; channels are averaged unless there are one or three."""
    values = unit_floats(values)
    if values.shape[-1] not in (1, 3):
        values = values.mean(axis=-1, keepdims=True)
        label = f"{label}\nmean of channels"

    def draw(axes: Axes, row: int) -> None:
        picture = np.clip(values[row], 0, 1)
        axes.imshow(
            picture.squeeze(-1) if picture.shape[-1] == 1 else picture, "gray", vmin=0, vmax=1
        )
        _bare(axes)

    height, width = values.shape[1:3]
    return _Row(label, float(np.clip(_COLUMN * height / width, 0.5, 2 * _COLUMN)), draw)


def _curves(label: str, values: np.ndarray) -> _Row:
    """Vectors [B, D], each value over its index, all with the same scale."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0

    def draw(axes: Axes, row: int) -> None:
        axes.plot(values[row], color=_INK, linewidth=0.6)
        axes.set_ylim(low - margin, high + margin)
        axes.margins(x=0)

    return _Row(label, 1.0, draw)


def _texts(label: str, texts: list[str]) -> _Row:
    """Texts, broken into lines."""
    lines = max(len(textwrap.wrap(text, _CHARACTERS)) for text in texts)
    return _Row(label, 0.2 + 0.17 * lines, lambda axes, row: _write(axes, texts[row], "black"))


def _waveforms(label: str, values: np.ndarray, mask: np.ndarray, sample_rate: int) -> _Row:
    """Waveforms [B, S] over seconds, with samples outside the mask [B, S] in grey."""
    seconds = np.arange(values.shape[1]) / sample_rate

    def draw(axes: Axes, row: int) -> None:
        axes.plot(seconds, np.where(mask[row], np.nan, values[row]), color=_FAINT, linewidth=0.6)
        axes.plot(seconds, np.where(mask[row], values[row], np.nan), color=_INK, linewidth=0.4)
        axes.set_ylim(-1.05, 1.05)
        axes.margins(x=0)
        axes.tick_params(labelbottom=False)

    return _Row(label, 0.8, draw)


def _spectrograms(label: str, values: np.ndarray, mask: np.ndarray, sample_rate: int) -> _Row:
    """Log-mel spectrograms of waveforms [B, S], blank for frames outside the mask [B, S]."""
    samples = values.shape[1]
    length = min(samples, round(0.032 * sample_rate))
    hop = max(1, length // 4)
    # An FFT much longer than the frame interpolates, so that no low band is empty.
    n_fft = 1 << max(10, length.bit_length())
    mel = np.asarray(
        log_mel(
            values,
            sample_rate=sample_rate,
            frame_length=length,
            hop=hop,
            n_fft=n_fft,
            bands=_MEL_BANDS,
        )
    )
    valid = np.asarray(frame_mask(mask, frame_length=length, hop=hop))
    loudest = float(mel.max())
    shown = np.ma.array(mel, mask=np.broadcast_to(~valid[..., None], mel.shape))
    # A frame is drawn around its centre, as wide as a hop.
    start = (length - hop) / 2 / sample_rate
    extent = (start, start + mel.shape[1] * hop / sample_rate, 0.0, float(_MEL_BANDS))

    def draw(axes: Axes, row: int) -> None:
        axes.imshow(
            shown[row].T,
            "magma",
            aspect="auto",
            origin="lower",
            extent=extent,
            vmin=loudest - _RANGE,
            vmax=loudest,
        )
        axes.set_xlim(0, samples / sample_rate)
        axes.set_xlabel("seconds", fontsize=7)

    return _Row(label, 1.0, draw)


def _bare(axes: Axes) -> None:
    """Removes the axes, but not their label."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _write(axes: Axes, words: str, colour: str) -> None:
    """Writes words, broken into lines, instead of drawing."""
    _bare(axes)
    broken = "\n".join(textwrap.wrap(words, _CHARACTERS))
    text = axes.text(0.5, 0.5, broken, ha="center", va="center", fontsize=9, color=colour)
    text.set_transform(axes.transAxes)
    text.set_parse_math(False)


def _in_words(target: object, values: np.ndarray) -> str:
    """The names of the labels that apply, or of the tokens; numbers if they have no names."""
    if (
        not isinstance(target, Target)
        or not target.names
        or target.kind not in ("labels", "tokens")
    ):
        return _numbers(values)
    if target.kind == "labels":
        return ", ".join(target.names[column] for column in np.flatnonzero(values > 0.5))
    return " ".join(target.names[token] for token in values if token not in (0, target.end))


def _numbers(values: np.ndarray) -> str:
    """Numbers as text, shortened in the middle if there are many."""
    return np.array2string(values, threshold=12, edgeitems=4, precision=3)
