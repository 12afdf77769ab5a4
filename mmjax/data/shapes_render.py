"""Renders `shapes`: attributes of B examples -> images, captions and tones.

All functions work on batches and depend only on their arguments, so an example is bit-identical in
every batch.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np

PIXELS = 32
SAMPLE_RATE = 8000  # Hz
SAMPLES = 4000
WORDS = 12

# Attribute -> the names of its values. The last form, noun and pitch are the neutral ones.
FORMS = ("circle", "square", "triangle", "cross", "diamond")
NOUNS = ("circle", "square", "triangle", "cross", "shape")
PITCHES = (300.0, 400.0, 550.0, 750.0, 220.0)  # Hz
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
SIZES = ("small", "medium", "large")  # also the tone's length
TEXTURES = ("plain", "striped", "dotted")  # also the tone's timbre
PLACES = ("top left", "top right", "bottom left", "bottom right", "middle")

ATTRIBUTES: Mapping[str, tuple] = {
    "form": FORMS,
    "noun": NOUNS,
    "pitch": PITCHES,
    "colour": COLOURS,
    "size": SIZES,
    "texture": TEXTURES,
    "place": PLACES,
    "order": ("what first", "where first"),  # of the caption's two phrases
}

# Uniform random numbers that change an example slightly, but not its attributes.
JITTERS = (
    *("across", "down", "radius", "brightness", "background"),
    *("detuning", "phase", "loudness", "length"),
)

_RGB = np.array(
    [
        [0.95, 0.20, 0.20],
        [0.95, 0.90, 0.20],
        [0.20, 0.90, 0.25],
        [0.20, 0.90, 0.90],
        [0.25, 0.35, 1.00],
        [0.90, 0.25, 0.95],
    ],
    np.float32,
)
_RADII = np.array([5.0, 6.5, 8.0], np.float32)  # pixels
_CENTRES = np.array([[11, 11], [21, 11], [11, 21], [21, 21], [16, 16]], np.float32)  # column, row
_LENGTHS = np.array([1700, 2700, 3700], np.float32)  # samples
_FADE = 80  # samples, 10 ms

# Timbre -> the tone's partials and their amplitudes; the fundamental is always the strongest.
_PARTIALS = (
    {1: 1.0},
    {1: 0.65, 3: 0.22, 5: 0.13},
    {1: 0.48, 2: 0.24, 3: 0.16, 4: 0.12},
)


def _distance(form: str, across: np.ndarray, down: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Distance in pixels from the outline of a form, negative inside; arguments broadcast."""
    x, y = np.abs(across), np.abs(down)
    if form == "circle":
        return np.hypot(x, y) - radius
    if form == "square":
        return np.maximum(x, y) - 0.85 * radius
    if form == "diamond":
        return (x + y) * np.float32(0.5**0.5) - 0.75 * radius
    if form == "triangle":
        inner = 0.65 * radius  # of the inscribed circle; the shift centres the box around it
        below = down - 0.5 * inner
        return np.maximum(below, np.float32(0.75**0.5) * x - 0.5 * below) - inner
    bar = 0.35 * radius
    return np.minimum(np.maximum(x - radius, y - bar), np.maximum(x - bar, y - radius))


@functools.cache
def _textures() -> np.ndarray:
    """[textures, 32, 32] float32: the factor for a pixel's colour."""
    down, across = np.mgrid[:PIXELS, :PIXELS]
    striped = (across + down) % 4 < 2
    dotted = (across % 4 < 2) & (down % 4 < 2)
    dark = np.stack([np.zeros_like(striped), striped, dotted])
    return np.where(dark, np.float32(0.5), np.float32(1))


def pictures(attributes: Mapping[str, np.ndarray], jitters: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draws one coloured form per image, on a dark background.

    Args:
        attributes: `form`, `colour`, `size`, `texture`, `place` -> [B] int.
        jitters: names of `JITTERS` -> [B] float32 in [0, 1); moves by up to 1.5 pixels, changes
            radius and brightness by a few per cent, and sets the grey of the background.

    Returns:
        [B, 32, 32, 3] float32 in [0, 1].
    """
    centre = _CENTRES[attributes["place"]]
    grid = np.arange(PIXELS, dtype=np.float32) + 0.5
    across = grid - (centre[:, 0] + 3 * jitters["across"] - 1.5)[:, None]
    down = grid - (centre[:, 1] + 3 * jitters["down"] - 1.5)[:, None]
    radius = _RADII[attributes["size"]] * (0.96 + 0.08 * jitters["radius"])
    coverage = np.empty((len(radius), PIXELS, PIXELS), np.float32)
    for code, form in enumerate(FORMS):
        rows = np.flatnonzero(attributes["form"] == code)
        distance = _distance(
            form, across[rows, None, :], down[rows, :, None], radius[rows, None, None]
        )
        coverage[rows] = np.clip(0.5 - distance, 0, 1)
    ground = 0.02 + 0.13 * jitters["background"]
    colour = _RGB[attributes["colour"]] * (0.85 + 0.15 * jitters["brightness"])[:, None]
    ink = coverage * _textures()[attributes["texture"]]
    bare = (1 - coverage) * ground[:, None, None]
    return ink[..., None] * colour[:, None, None, :] + bare[..., None]


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Word id -> word; id 0 is padding and has an empty word."""
    places = [word for place in PLACES for word in place.split()]
    words = [
        "a",
        "at",
        "the",
        "there",
        "is",
        "in",
        *SIZES,
        *COLOURS,
        *TEXTURES[1:],
        *NOUNS,
        *places,
    ]
    return ("", *dict.fromkeys(words))


@functools.cache
def _all_captions() -> np.ndarray:
    """[orders, sizes, colours, textures, nouns, places, 12] int32: all sentences."""
    ids = {word: number for number, word in enumerate(vocabulary())}
    rows = []
    for size, colour, texture, noun, place in itertools.product(
        SIZES, COLOURS, TEXTURES, NOUNS, PLACES
    ):
        adjectives = [size, colour, *([] if texture == "plain" else [texture])]
        what = ["a", *adjectives, noun]
        where = ["in", "the", place] if place == "middle" else ["at", "the", *place.split()]
        rows.append(([*what, *where], [*where, "there", "is", *what]))
    table = np.zeros((2, len(rows), WORDS), np.int32)
    for row, orders in enumerate(rows):
        for order, words in enumerate(orders):
            table[order, row, : len(words)] = [ids[word] for word in words]
    parts = (SIZES, COLOURS, TEXTURES, NOUNS, PLACES)
    return table.reshape(2, *(len(part) for part in parts), WORDS)


def captions(attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Describes what an image shows and where, with the noun in `noun`.

    Args:
        attributes: `noun`, `colour`, `size`, `texture`, `place`, `order` -> [B] int.

    Returns:
        [B, 12] int32 word ids, 0 after the last word.
    """
    parts = ("order", "size", "colour", "texture", "noun", "place")
    return _all_captions()[tuple(attributes[part] for part in parts)]


def tones(
    attributes: Mapping[str, np.ndarray], jitters: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one tone per waveform, from its first sample on, faded in and out over 10 ms.

    Args:
        attributes: `pitch`, `size` (for the length), `texture` (for the timbre) -> [B] int.
        jitters: names of `JITTERS` -> [B] float32 in [0, 1); detunes by up to 3 per cent, lengthens
            or shortens by up to 300 samples, and sets phase and loudness.

    Returns:
        waveforms [B, 4000] float32 in [-1, 1], 0 after the tone; and the valid samples [B, 4000].
    """
    pitch = np.array(PITCHES, np.float32)[attributes["pitch"]]
    cycles = pitch * (0.97 + 0.06 * jitters["detuning"]) / SAMPLE_RATE  # a sample
    length = _LENGTHS[attributes["size"]] + np.round(600 * jitters["length"] - 300)
    time = np.arange(SAMPLES, dtype=np.float32)
    angle = np.float32(2 * np.pi) * (cycles[:, None] * time + jitters["phase"][:, None])
    wave = np.empty_like(angle)
    for code, partials in enumerate(_PARTIALS):
        rows = np.flatnonzero(attributes["texture"] == code)
        wave[rows] = sum(
            np.float32(amplitude) * np.sin(np.float32(partial) * angle[rows])
            for partial, amplitude in partials.items()
        )
    left = length[:, None] - time
    fade = np.clip(np.minimum(time, left) / _FADE, 0, 1)
    loudness = 0.6 + 0.35 * jitters["loudness"]
    return wave * (fade * loudness[:, None]), left > 0
