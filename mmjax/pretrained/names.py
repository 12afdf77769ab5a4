"""Published names of tensors to the paths of our modules, by one table per architecture."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmjax.errors import DataError

SHOWN = 5  # names of each kind of mismatch that an error tells


class Rule(NamedTuple):
    r"""Where the tensors of some names go.

    Attributes:
        name: regular expression of the whole published name.
        path: our dotted path, with `\1` for the groups of the name; several, between bars, for a
            tensor that holds them one after another on its first axis; empty: left out.
        transform: a name of `TRANSFORMS`.
    """

    name: str
    path: str
    transform: str = "same"


class Transform(NamedTuple):
    """From a published tensor to ours, and back."""

    ours: Callable[[np.ndarray], np.ndarray]
    published: Callable[[np.ndarray], np.ndarray]


def _of_map(side: int) -> Transform:
    """Of a dense layer that reads a map of side x side: channels first, there; last, here."""
    return Transform(
        lambda x: x.reshape(len(x), -1, side, side).transpose(0, 2, 3, 1).reshape(len(x), -1).T,
        lambda x: (
            x.T.reshape(x.shape[1], side, side, -1).transpose(0, 3, 1, 2).reshape(x.shape[1], -1)
        ),
    )


def _of_map_convolution(side: int) -> Transform:
    """The same layer, published as a convolution whose kernel covers the map."""
    return Transform(
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x)),
        lambda x: x.reshape(side, side, -1, x.shape[1]).transpose(3, 2, 0, 1),
    )


TRANSFORMS: Mapping[str, Transform] = {
    "same": Transform(lambda x: x, lambda x: x),
    "linear": Transform(lambda x: x.T, lambda x: x.T),  # [out, in] to [in, out]
    # [out, in, height, width] to [height, width, in, out]
    "convolution": Transform(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)),
    # [out, in, time] to [time, in, out], and with one step of time to [in, out]
    "convolution of time": Transform(
        lambda x: x.transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0)
    ),
    "pointwise": Transform(lambda x: x.transpose(2, 1, 0)[0], lambda x: x.T[:, :, None]),
    "dense 6x6": _of_map(6),
    "dense 7x7": _of_map(7),
    "convolved dense 7x7": _of_map_convolution(7),
    "convolved dense": _of_map_convolution(1),
}


def linear(name: str, path: str) -> list[Rule]:
    """The rules of a dense layer."""
    return [
        Rule(f"(?:{name})\\.weight", f"{path}.kernel", "linear"),
        Rule(f"(?:{name})\\.bias", f"{path}.bias"),
    ]


def convolution(name: str, path: str) -> list[Rule]:
    """The rules of a convolution, with or without a bias."""
    return [
        Rule(f"(?:{name})\\.weight", f"{path}.kernel", "convolution"),
        Rule(f"(?:{name})\\.bias", f"{path}.bias"),
    ]


def convolution_of_time(name: str, path: str) -> list[Rule]:
    """The rules of a convolution over one axis, with or without a bias."""
    return [
        Rule(f"(?:{name})\\.weight", f"{path}.kernel", "convolution of time"),
        Rule(f"(?:{name})\\.bias", f"{path}.bias"),
    ]


def layer_norm(name: str, path: str) -> list[Rule]:
    """The rules of a layer norm."""
    return [
        Rule(f"(?:{name})\\.weight", f"{path}.scale"),
        Rule(f"(?:{name})\\.bias", f"{path}.bias"),
    ]


def batch_norm(name: str, path: str) -> list[Rule]:
    """The rules of a batch norm; the number of batches that it has seen is left out."""
    return [
        *layer_norm(name, path),
        Rule(f"(?:{name})\\.running_mean", f"{path}.mean"),
        Rule(f"(?:{name})\\.running_var", f"{path}.var"),
        Rule(f"(?:{name})\\.num_batches_tracked", ""),
    ]


class Placed(NamedTuple):
    """Where one published tensor went."""

    paths: tuple[str, ...]
    transform: str


def place(
    tensors: Mapping[str, np.ndarray],
    rules: Iterable[Rule],
    shapes: Mapping[str, tuple[int, ...]],
    what: str,
) -> tuple[dict[str, np.ndarray], dict[str, Placed]]:
    """Published tensors to ours.

    Args:
        tensors: published name -> array.
        rules: the first that fits a name counts.
        shapes: our path -> shape, of every parameter and running statistic.
        what: the file and the architecture, for the error.

    Returns:
        (our path -> float32 array, published name -> where it went; nowhere if left out).

    Raises:
        DataError: a name that no rule knows, a path that no name fills or two do, another shape,
            or a value that is not finite; all in one sentence.
    """
    compiled = [(re.compile(rule.name), rule) for rule in rules]
    found: dict[str, np.ndarray] = {}
    placed: dict[str, Placed] = {}
    unknown, twice, shaped, infinite = [], [], [], []
    for name, tensor in tensors.items():
        fits = ((pattern.fullmatch(name), rule) for pattern, rule in compiled)
        match, rule = next((each for each in fits if each[0]), (None, None))
        if match is None or rule is None:
            unknown.append(name)
            continue
        paths = tuple(filter(None, match.expand(rule.path).split("|")))
        placed[name] = Placed(paths, rule.transform)
        if not paths:
            continue
        if not set(paths) <= shapes.keys():
            unknown.append(name)
            continue
        if not _fits(tensor, len(paths)):
            shaped.append(f"{name} is {tensor.shape}")
            continue
        if not np.isfinite(tensor).all():
            infinite.append(name)
        for path, part in zip(paths, np.split(tensor, len(paths)), strict=True):
            try:
                value = TRANSFORMS[rule.transform].ours(part)
            except ValueError:  # a tensor with another number of axes
                value = part
            if path in found:
                twice.append(name)
            elif value.shape != shapes[path]:
                shaped.append(f"{name} is {part.shape}, {value.shape} for us, not {shapes[path]}")
            found[path] = np.asarray(value, np.float32)
    seen = {path for one in placed.values() for path in one.paths}
    missing = [path for path in shapes if path not in seen]
    mismatches = [
        f"{len(names)} {text}: {_some(names)}"
        for names, text in (
            (unknown, "unknown"),
            (missing, "missing (our names)"),
            (twice, "given twice"),
            (shaped, "of another shape"),
            (infinite, "with values that are not finite"),
        )
        if names
    ]
    if mismatches:
        raise DataError(
            f"The tensors in {what} do not fit: {'; '.join(mismatches)}. Give the whole weights of "
            "that architecture, or name the right one in config.json."
        )
    return found, placed


def published(
    ours: Mapping[str, Any], placed: Mapping[str, Placed], left_out: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Our arrays under their published names: `place` undone."""
    tensors = {}
    for name, (paths, transform) in placed.items():
        if paths:
            parts = [TRANSFORMS[transform].published(np.asarray(ours[path])) for path in paths]
            tensors[name] = np.ascontiguousarray(np.concatenate(parts))
        else:
            tensors[name] = left_out[name]
    return tensors


def _fits(tensor: np.ndarray, parts: int) -> bool:
    return parts == 1 or (tensor.ndim > 0 and len(tensor) % parts == 0)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
