import numpy as np
import pytest
import soundfile

from mmjax.data import SpokenDigits, fsdd
from mmjax.errors import DataError

ABOUT = SpokenDigits.about


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a small release, 3 recordings each; only those of index 0 are sounds."""
    monkeypatch.setattr(fsdd, "TAKES", 3)
    recordings = tmp_path / "fsdd" / "recordings"
    recordings.mkdir(parents=True)
    for digit in range(10):
        for speaker in fsdd.SPEAKERS:
            for take in range(fsdd.TAKES):
                (recordings / f"{digit}_{speaker}_{take}.wav").touch()
            tone = np.full(5 + digit, (digit + 1) / 16, np.float32)
            soundfile.write(recordings / f"{digit}_{speaker}_0.wav", tone, 8000)
    return tmp_path


def load(folder, takes=(0,)):
    return fsdd.load_clips(takes, 9, folder, ABOUT)


def test_clips_are_sorted_padded_and_cut(folder):
    clips = load(folder)
    assert clips.names[:2] == ("0_george_0.wav", "0_jackson_0.wav")
    assert clips.digits.tolist() == sorted(list(range(10)) * 6)
    assert clips.lengths[::6].tolist() == [5, 6, 7, 8, 9, 9, 9, 9, 9, 9]
    valid = np.arange(9) < clips.lengths[:, None]
    expected = np.where(valid, (clips.digits[:, None] + 1) / 16, 0)
    np.testing.assert_array_equal(clips.waveforms, expected)


def test_a_damaged_clip_is_named(folder):
    with pytest.raises(DataError, match=r"0_george_1\.wav is empty"):
        load(folder, takes=(1,))


def test_a_missing_clip_of_any_split_is_named(folder):
    (folder / "fsdd" / "recordings" / "7_theo_2.wav").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 180 clips, among them 7_theo_2\.wav"):
        load(folder)


def test_a_missing_speaker_is_named(folder):
    for path in (folder / "fsdd" / "recordings").glob("*_lucas_*"):
        path.unlink()
    with pytest.raises(DataError, match=r"lacks 30 of the 180 clips, .*0_lucas_0\.wav"):
        load(folder)


@pytest.mark.parametrize("name", ["theo_7_3.wav", "7_theo_3.mp3", "7_theo_03.wav", ".DS_Store"])
def test_a_name_that_cannot_be_read_is_named(folder, name):
    (folder / "fsdd" / "recordings" / name).touch()
    with pytest.raises(DataError, match="is not named digit_speaker_index") as caught:
        load(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["7_alice_2.wav", "7_theo_3.wav"])
def test_a_clip_of_another_release_is_named(folder, name):
    (folder / "fsdd" / "recordings" / name).touch()
    with pytest.raises(DataError, match="of each of the 6 speakers") as caught:
        load(folder)
    assert name in str(caught.value)


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    with pytest.raises(DataError, match=r"fsdd/recordings is empty: .*free-spoken-digit-dataset"):
        load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="does not have fsdd/recordings/"):
        load(tmp_path)
