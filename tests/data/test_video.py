"""Videos that the tests write themselves with PyAV, read back."""

import os

import numpy as np
import pytest

from mmjax.data import read_video
from mmjax.errors import ConfigError, DataError

av = pytest.importorskip("av")

HEIGHT, WIDTH, COUNT = 32, 48, 20


def grey(number):
    return 12 * number  # of the frame of this number


def write(path, count=COUNT, **options):
    """A video whose frames become lighter, with a white corner at the top left."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(count):
            picture = np.full((HEIGHT, WIDTH, 3), grey(number), np.uint8)
            picture[:16, :16] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write(tmp_path_factory.mktemp("video") / "film.mp4")


def numbers(frames):
    """The numbers of the frames, by their grey."""
    grey_levels = frames[:, -frames.shape[1] // 4 :, -frames.shape[2] // 4 :].mean(axis=(1, 2, 3))
    return np.rint(grey_levels / 12).astype(int).tolist()


def test_frames_are_the_middles_of_equal_parts(film):
    frames = read_video(film, frames=5)
    assert frames.shape == (5, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert numbers(frames) == [2, 6, 10, 14, 18]
    assert numbers(read_video(str(film), frames=1)) == [10]
    assert numbers(read_video(film, frames=COUNT)) == list(range(COUNT))
    assert frames[:, :12, :12].min() > 230  # the corner is where it was


def test_a_short_video_gives_its_frames_several_times(tmp_path):
    assert numbers(read_video(write(tmp_path / "short.mkv", 3), frames=6)) == [0, 0, 1, 1, 2, 2]


def test_frames_are_resized_to_height_and_width(film):
    frames = read_video(film, frames=2, size=(8, 24))
    assert frames.shape == (2, 8, 24, 3)
    assert numbers(frames) == [5, 15]


def test_a_film_of_a_phone_is_upright(film, tmp_path):
    upright, quarter = (np.array(m, ">i4") << 16 for m in ([1, 0, 0, 0, 1], [0, 1, 0, -1, 0]))
    data = film.read_bytes()
    place = data.index(b"tkhd")
    place = data.index(upright.tobytes(), place)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(data[:place] + quarter.tobytes() + data[place + 20 :])
    # (x, y) is shown at (-y, x): what was at the left is at the top, a quarter clockwise.
    expected = np.rot90(read_video(film, frames=2), -1, axes=(1, 2))
    np.testing.assert_array_equal(read_video(turned, frames=2), expected)
    assert read_video(turned, frames=2, size=(12, 8)).shape == (2, 12, 8, 3)


def test_damaged_and_missing_files_are_named(film, tmp_path):
    data = film.read_bytes()
    bad = tmp_path / "bad.mp4"
    for content in (b"", b"no video at all" * 40, data[: len(data) // 2]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad.mp4 (is damaged or not a|has no) video"):
            read_video(bad, frames=2)
    with pytest.raises(DataError, match=r"none.mp4 does not exist"):
        read_video(tmp_path / "none.mp4", frames=2)
    with pytest.raises(DataError, match="cannot be read"):
        read_video(tmp_path, frames=2)


def test_a_film_that_is_cut_short_is_refused(tmp_path):
    data = write(tmp_path / "film.mp4", movflags="faststart").read_bytes()  # the header first
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: (data.index(b"mdat") + len(data)) // 2])
    with pytest.raises(
        DataError, match=r"cut.mp4 is cut short: its header promises 20 frames, but there are \d+"
    ):
        read_video(cut, frames=2)


def test_a_sound_without_frames_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1_024), np.float32), "fltp", "mono")
        sound.sample_rate = 8_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"sound.mp4 has no video stream"):
        read_video(path, frames=2)


@pytest.mark.parametrize(
    "playlist",
    ["ffconcat version 1.0\nfile film.mkv\n", "#EXTM3U\n#EXTINF:3,\n{}/film.mkv\n#EXT-X-ENDLIST\n"],
)
def test_a_playlist_cannot_name_other_files(playlist, tmp_path, monkeypatch):
    write(tmp_path / "film.mkv", 3)
    path = tmp_path / "list.mp4"
    path.write_text(playlist.format(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert os.path.exists("film.mkv")
    with pytest.raises(DataError, match=r"list.mp4 is damaged or not a video"):
        read_video(path, frames=2)


@pytest.mark.parametrize("options", [{"frames": 0}, {"frames": 1, "size": (0, 4)}])
def test_refuses_impossible_numbers(options, film):
    with pytest.raises(ConfigError, match="choose 1 or more frames"):
        read_video(film, **options)
