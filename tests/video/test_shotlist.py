"""--shots: what a file may say, and which kept frames it means."""

from fractions import Fraction

import numpy as np
import pytest
from clips import TICK, UNEVEN, make_clip

from kinopaint.errors import SettingsError
from kinopaint.video.reader import open_here
from kinopaint.video.shotlist import kept_cuts, parse_shots


def write(tmp_path, text):
    path = tmp_path / "cuts.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_words():
    assert parse_shots("auto") == "auto"
    assert parse_shots("off") == "off"


def test_a_file_holds_frames_and_times(tmp_path):
    path = write(tmp_path, "\ufeff# my cuts\n12\n\n 2.5   # a door\r\n00:01:02.250\n0\n")
    assert parse_shots(path) == (12, Fraction(5, 2), Fraction("62.25"), 0)
    assert parse_shots(str(path)) == parse_shots(path)


def test_marks_can_be_given_themselves():
    assert parse_shots([12, 2.5, "00:00:07", "3", Fraction(1, 3)]) == (12, Fraction(5, 2), 7, 3, Fraction(1, 3))


def test_numbers_of_numpy_are_frames_too():
    assert parse_shots(np.array([48, 96])) == (48, 96)
    assert parse_shots([np.int64(5), 2.5]) == (5, Fraction(5, 2))


@pytest.mark.parametrize("wrong", [None, 3, b"12", [True], np.array(3)], ids=str)
def test_what_says_no_cuts(wrong):
    with pytest.raises(SettingsError, match="KP-SHOTS-MARK"):
        parse_shots(wrong)


@pytest.mark.parametrize("line", ["soon", "-3", "1e3", "1:99", "12 13", "²", "0x10"])
def test_a_line_that_is_no_mark_is_named(tmp_path, line):
    with pytest.raises(SettingsError, match="KP-SHOTS-MARK") as caught:
        parse_shots(write(tmp_path, f"5\n\n{line}\n"))
    assert caught.value.where.endswith("cuts.txt, line 3")


@pytest.mark.parametrize("content", [b"\xff\xfe1\x002\x00", b"1\n" * 2**20])
def test_what_is_no_list_of_cuts(tmp_path, content):
    (tmp_path / "cuts.txt").write_bytes(content)
    with pytest.raises(SettingsError, match="KP-SHOTS-FILE"):
        parse_shots(tmp_path / "cuts.txt")


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, "atuo", "a\0b"):
        with pytest.raises(SettingsError, match="KP-SHOTS-FILE"):
            parse_shots(path)


def test_marks_mean_frames_of_the_source(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[7680 + t for t in UNEVEN])
    reader = open_here(clip)
    assert kept_cuts(reader, (0, 2, 5, 2)) == (2, 5)  # frame 0 always begins the first shot
    after = [t * TICK for t in (700, 701)]  # exactly at frame 2, and just after it
    assert kept_cuts(reader, tuple(after)) == (2, 3)
    assert kept_cuts(reader, "off") == ()


def test_a_cut_between_kept_frames_is_at_the_next_one(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 512 * 20, 512))
    with open_here(clip, start=Fraction(4, 30), every=3) as reader:  # frames 4, 7, 10, 13, 16, 19
        assert kept_cuts(reader, (2, 4, 7, 8, 9, 16)) == (1, 2, 4)
    with open_here(clip, every=7) as reader:  # 0, 7, 14
        assert kept_cuts(reader, (15, 19)) == ()


@pytest.mark.parametrize("mark", [6, Fraction(1, 5), Fraction(99)])
def test_marks_behind_the_end_are_refused(tmp_path, mark):
    with pytest.raises(SettingsError, match="KP-SHOTS-RANGE"):
        kept_cuts(open_here(make_clip(tmp_path / "a.mp4")), (mark,))


def test_how_far_the_search_is_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("kinopaint.video.reader.TOLD_EVERY", -1)
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 512 * 9, 512))
    events = []
    with open_here(clip) as frames:
        assert kept_cuts(frames, "auto", events.append) == kept_cuts(frames, "auto")
    assert [event["frames_done"] for event in events] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert {event["event"] for event in events} == {"shots"}
    assert {event["frames"] for event in events} == {9}
    assert events[-1]["eta_s"] == 0
