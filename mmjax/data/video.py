"""Reads some frames of a video file, evenly spaced."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmjax.data.files import open_bytes
from mmjax.errors import ConfigError, DataError

_GET_AGAIN = "download or export the original file again"


def read_video(path: Path | str, *, frames: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """The frames in the middle of `frames` equal parts of a video.

    The file is decoded twice, first to count its frames, because headers get that number wrong. A
    video of fewer frames gives some of them several times. The rotation that a phone notes in the
    file is applied. Nothing but the file itself is read: playlists, which name other files or
    addresses, are refused. Needs PyAV: `pip install 'mmjax[video]'`.

    Args:
        path: the file, in any format that FFmpeg reads from one file.
        frames: T, number of frames to give.
        size: height and width to resize the frames to, whatever their proportions; None: as they
            are.

    Returns:
        [T, height, width, 3] uint8, RGB.

    Raises:
        ConfigError: PyAV is not installed, or a number is below 1.
        DataError: the file is missing, not a video, damaged, or has no frames; or its header
            promises more frames than are there. A Matroska file does not say how many it has: one
            that is cut short gives frames of what is left.
    """
    if frames < 1 or (size is not None and min(size) < 1):
        raise ConfigError(
            f"read_video has frames={frames} and size={size}: choose 1 or more frames, and a "
            "height and width of 1 or more."
        )
    path = Path(path)
    with open_bytes(path) as file:
        count = sum(1 for _ in _decoded(file, path))
        if not count:
            raise DataError(f"{path} has no frames: {_GET_AGAIN}, or leave it out.")
        wanted = ((np.arange(frames) + 0.5) * count / frames).astype(int)
        found: dict[int, np.ndarray] = {}
        for number, frame in enumerate(_decoded(file, path)):
            if number in wanted:
                found[number] = _picture(frame, size)
                size = size or found[number].shape[:2]  # a stream may change its size
            if number == wanted[-1]:
                break
    return np.stack([found[number] for number in wanted])


def _decoded(file: BinaryIO, path: Path) -> Iterator[Any]:
    """The frames of the first video stream of a file."""
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            "Reading a video needs PyAV, which is not installed: pip install 'mmjax[video]'."
        ) from error
    file.seek(0)
    try:
        # FFmpeg gets an open file, not a name, and no protocol by which to open another one.
        with av.open(file, "r", options={"protocol_whitelist": "none"}) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream that can be read: {_GET_AGAIN}.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            count = 0
            for frame in container.decode(stream):
                count += 1
                yield frame
            if count < 0.9 * stream.frames:  # an edit list may leave out a few
                raise DataError(
                    f"{path} is cut short: its header promises {stream.frames} frames, but there "
                    f"are {count}; {_GET_AGAIN}."
                )
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(
            f"{path} is damaged or not a video ({error.strerror}): {_GET_AGAIN}."
        ) from error


def _picture(frame: Any, size: tuple[int, int] | None) -> np.ndarray:
    """[height, width, 3] uint8: a frame, turned as its file says, and resized."""
    turns = round(frame.rotation / 90)  # counter-clockwise
    height, width = (size[::-1] if turns % 2 else size) if size else (None, None)
    picture = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(picture, turns))
