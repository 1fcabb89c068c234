"""Image sequences in and out."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip, picture

from kinopaint.errors import InputError, OutputError, SettingsError
from kinopaint.video import open_writer, pictures, probe
from kinopaint.video.reader import open_here as open_clip

pytestmark = pytest.mark.usefixtures("in_this_process")


def write_pictures(folder, names, size=(64, 48), **options):
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(index, size)[..., ::-1], **options)
    return folder


def read(path, **options):
    with open_clip(path, **options) as clip:
        return list(clip), clip


def restyle(source, target, *, fps=None, **options):
    with open_clip(source, fps=fps) as clip, open_writer(target, source=clip.info, **options) as writer:
        for frame in clip:
            writer.write(frame.image, frame)
        return writer.finish()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def shows(frame, index):
    return np.array_equal(frame.image, picture(index))


NUMBERS = [f"shot_{number:04d}.png" for number in range(8, 12)]


@pytest.mark.parametrize("given", ["in", "in/shot_%04d.png", "in/shot_%d.png", "in/*.png", "in/shot_00[01]?.png"])
def test_a_folder_a_numbered_name_and_a_pattern_name_the_same_clip(tmp_path, given):
    write_pictures(tmp_path / "in", NUMBERS)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    frames, clip = read(tmp_path / given)
    assert all(shows(frame, index) for index, frame in enumerate(frames))
    assert [frame.time for frame in frames] == [Fraction(n, 25) for n in range(4)]
    info = clip.info
    assert (info.format, info.is_image, info.frame_count, info.rate) == ("image_sequence", False, 4, 25)
    assert (clip.warnings, clip.expected_frames) == ([], 4)


def test_numbers_are_ordered_as_numbers(tmp_path):
    write_pictures(tmp_path / "in", [f"{number}.png" for number in range(1, 13)])
    frames, clip = read(tmp_path / "in")
    assert all(shows(frame, index) for index, frame in enumerate(frames))
    assert clip.warnings == []


def test_the_rate_is_exact(tmp_path):
    write_pictures(tmp_path / "in", NUMBERS)
    assert [f.time for f in read(tmp_path / "in", fps="24000/1001")[0]] == [Fraction(1001 * n, 24000) for n in range(4)]
    assert [f.time for f in read(tmp_path / "in", fps=0.5)[0]] == [0, 2, 4, 6]


@pytest.mark.parametrize("fps", [0, -1, "fast", "1/0", 1001, float("nan")])
def test_what_is_no_rate_is_refused(tmp_path, fps):
    with pytest.raises(SettingsError, match="KP-SETTING-FPS"):
        open_clip(write_pictures(tmp_path / "in", NUMBERS), fps=fps)


def test_a_clip_with_its_own_times_takes_no_rate(tmp_path):
    with pytest.raises(SettingsError, match=r"KP-SETTING-FPS.*their own times"):
        open_clip(make_clip(tmp_path / "a.mp4"), fps=25)


def test_a_part_of_a_sequence(tmp_path):
    frames, _ = read(write_pictures(tmp_path / "in", NUMBERS), start="0.04", every=2)
    assert [frame.time for frame in frames] == [Fraction(1, 25), Fraction(3, 25)]
    assert shows(frames[1], 3)


def test_a_missing_number_leaves_the_picture_before_it_longer_and_is_said(tmp_path):
    write_pictures(tmp_path / "in", ["a1.png", "a2.png", "a4.png", "a5.png"])
    frames, clip = read(tmp_path / "in")
    assert [frame.time * 25 for frame in frames] == [0, 1, 3, 4]
    assert frames[1].duration == Fraction(2, 25)
    assert any("1 numbers are missing, first after 2" in warning for warning in clip.warnings)


def test_every_tenth_number_is_no_gap(tmp_path):
    frames, clip = read(write_pictures(tmp_path / "in", ["a10.png", "a20.png", "a30.png"]))
    assert [frame.time * 25 for frame in frames] == [0, 1, 2]
    assert clip.warnings == []


@pytest.mark.parametrize("listed", [["a.png", "b.png"], ["a1.png", "b1.png"], ["1.png", "01.png"]])
def test_pictures_that_are_no_numbered_series_come_by_name_and_it_is_said(tmp_path, listed):
    frames, clip = read(write_pictures(tmp_path / "in", listed))
    assert [frame.time * 25 for frame in frames] == [0, 1]
    assert any("order of their names" in warning for warning in clip.warnings)


def test_numbers_that_count_something_else_are_only_an_order(tmp_path):
    frames, clip = read(write_pictures(tmp_path / "in", ["t1.png", "t2.png", "t900.png"]))
    assert [frame.time * 25 for frame in frames] == [0, 1, 2]
    assert any("do not follow each other" in warning for warning in clip.warnings)


def test_pictures_of_mixed_sizes_take_the_first_ones_and_it_is_said(tmp_path):
    write_pictures(tmp_path / "in", ["1.png"])
    cv2.imwrite(str(tmp_path / "in" / "2.png"), picture(1, (32, 32)))
    frames, clip = read(tmp_path / "in")
    assert [frame.image.shape for frame in frames] == 2 * [(48, 64, 3)]
    assert any("size changes" in warning for warning in clip.warnings)


def test_photographs_turn_one_by_one(tmp_path):
    write_pictures(tmp_path / "in", ["1.jpg", "2.jpg"])
    tall = np.ascontiguousarray(np.rot90(picture(1), 1))
    jpeg = cv2.imencode(".jpg", tall[..., ::-1])[1].tobytes()
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    (tmp_path / "in" / "2.jpg").write_bytes(jpeg[:2] + exif + jpeg[2:])
    frames, clip = read(tmp_path / "in")
    assert np.abs(frames[1].image.astype(int) - picture(1)).mean() < 4
    assert clip.warnings == []


def test_sixteen_bits_are_rounded(tmp_path):
    (tmp_path / "in").mkdir()
    for number, value in enumerate((100 * 257 + 100, 100 * 257 - 100, 65535)):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), np.full((48, 64, 3), value, np.uint16))
    frames, clip = read(tmp_path / "in")
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [100, 100, 255]
    assert "16-bit pictures are reduced to 8 bits" in clip.warnings


def test_a_folder_without_pictures_and_a_pattern_without_match(tmp_path):
    with pytest.raises(InputError, match="KP-INPUT-DIRECTORY"):
        open_clip(tmp_path)
    with pytest.raises(InputError, match="KP-INPUT-MISSING"):
        open_clip(tmp_path / "a%04d.png")


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda data: data[: len(data) // 2], "KP-INPUT-TRUNCATED"),
        (lambda data: b"", "KP-INPUT-EMPTY"),
        (lambda data: b"#EXTM3U\n", "KP-INPUT-PLAYLIST"),
        (lambda data: data[:40] + bytes(20) + data[60:], "KP-INPUT-DAMAGED"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(tmp_path, harm, code):
    folder = write_pictures(tmp_path / "in", NUMBERS)
    bad = folder / NUMBERS[2]
    bad.write_bytes(harm(bad.read_bytes()))
    with pytest.raises(InputError, match=code) as caught:
        read(folder)
    assert NUMBERS[2] in caught.value.where
    frames, clip = read(folder, allow_damaged=True)
    assert len(frames) == 3
    assert "1 pictures could not be read" in clip.warnings


@pytest.mark.parametrize(
    ("target", "options", "made"),
    [
        ("out/a_%03d.png", {}, ["a_001.png", "a_002.png", "a_003.png", "a_004.png"]),
        ("out/%d.jpg", {}, ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]),
        ("out", {"codec": "png"}, ["000001.png", "000002.png", "000003.png", "000004.png"]),
        ("out", {"codec": "jpeg", "quality": 90}, ["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg"]),
        ("out/x%02d.webp", {}, ["x01.webp", "x02.webp", "x03.webp", "x04.webp"]),
    ],
)
def test_one_picture_per_frame(tmp_path, target, options, made):
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 2048, 512), audio=["aac"])
    written = restyle(clip, tmp_path / target, metadata={"kinopaint": {}}, **options)
    assert names(tmp_path / "out") == made
    assert names(tmp_path) == ["a.mp4", "out"]
    assert (written.output, written.container, written.metadata) == (tmp_path / "out", "image_sequence", False)
    assert (written.delivery.ok, written.delivery.frames) == (True, 4)
    assert any("no sound" in warning for warning in written.warnings)
    back, _ = read(tmp_path / "out")
    source, _ = read(clip)
    assert max(np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(back, source, strict=True)) < 2


def test_pictures_are_png_without_loss_and_a_clip_again(tmp_path):
    restyle(write_pictures(tmp_path / "in", NUMBERS), tmp_path / "out" / "%d.png")
    assert all(shows(frame, index) for index, frame in enumerate(read(tmp_path / "out")[0]))
    written = restyle(tmp_path / "out", tmp_path / "b.mp4", fps=Fraction(30000, 1001))
    assert (probe(written.output).rate, written.delivery.ok) == (Fraction(30000, 1001), True)


def test_the_folder_has_no_name_before_the_end(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with open_clip(clip) as frames, open_writer(tmp_path / "out" / "%d.png", source=frames.info) as writer:
        for frame in frames:
            writer.write(frame.image, frame)
            assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["a.mp4"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "out" / "%d.png")
    assert len(names(tmp_path / "out")) == 6


def test_earlier_pictures_are_replaced_as_a_whole_and_only_if_wanted(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 512])
    write_pictures(tmp_path / "out", ["1.png", "2.png", "3.png"])
    with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
        restyle(clip, tmp_path / "out" / "%d.png")
    restyle(clip, tmp_path / "out" / "%d.png", overwrite=True)
    assert names(tmp_path / "out") == ["1.png", "2.png"]
    assert names(tmp_path) == ["a.mp4", "out"]


def test_earlier_pictures_come_back_if_they_cannot_be_replaced(tmp_path, monkeypatch):
    write_pictures(tmp_path / "out", ["1.png", "2.png", "3.png"])
    rename = Path.rename

    def failing(path, target):
        if path.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="KP-OUTPUT-WRITE"):
        restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "out" / "%d.png", overwrite=True)
    assert names(tmp_path / "out") == ["1.png", "2.png", "3.png"]
    assert names(tmp_path) == ["a.mp4", "out"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 512])
    with pytest.raises(OutputError, match=r"KP-OUTPUT-DIRECTORY.*a\.mp4"):
        restyle(clip, tmp_path / "%d.png", overwrite=True)
    assert names(tmp_path) == ["a.mp4"]


def test_pictures_that_appear_meanwhile_are_not_replaced(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with open_clip(clip) as frames, open_writer(tmp_path / "out" / "%d.png", source=frames.info) as writer:
        for frame in frames:
            writer.write(frame.image, frame)
        write_pictures(tmp_path / "out", ["1.png"])
        with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
            writer.finish()
    assert names(tmp_path) == ["a.mp4", "out"]
    assert names(tmp_path / "out") == ["1.png"]


@pytest.mark.parametrize("given", ["in", "in/*.png", "in/%d.png", "in/1.png"])
def test_the_input_is_never_the_output(tmp_path, given):
    write_pictures(tmp_path / "in", ["1.png", "2.png"])
    with pytest.raises(SettingsError, match="KP-OUTPUT-IS-INPUT"):
        restyle(tmp_path / given, tmp_path / "in" / "%d.png", overwrite=True)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda file: file.unlink(), "frames: 5 in the output, 6 planned"),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), "3.png is cut off"),
        (lambda file: cv2.imwrite(str(file), picture(0, (32, 32))), "3.png: 32x32 in the output, 64x48 planned"),
        (lambda file: file.write_bytes(b"rubbish" * 99), "3.png cannot be read back"),
    ],
)
def test_the_delivery_check_sees_what_is_wrong_with_a_picture(tmp_path, monkeypatch, harm, sentence):
    write = pictures.SequenceSink.write

    def broken(sink, image, frame):
        write(sink, image, frame)
        if frame.index == 2:
            harm(sink._folder / "3.png")

    monkeypatch.setattr(pictures.SequenceSink, "write", broken)
    with pytest.raises(OutputError, match="KP-OUTPUT-DELIVERY") as caught:
        restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "out" / "%d.png")
    assert sentence in caught.value.what
    assert caught.value.exit_code == 4
    assert names(tmp_path) == ["a.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="the system refuses such names")
def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    write_pictures(tmp_path, ["a%d.png", "a1.png", "[x].png"])
    assert probe(tmp_path / "a%d.png").is_image
    assert probe(tmp_path / "[x].png").is_image
