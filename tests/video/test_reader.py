import os
import struct
import sys
import tracemalloc
from fractions import Fraction
from itertools import pairwise

import av
import av.filter
import cv2
import numpy as np
import pytest
from clips import TICK, UNEVEN, make_clip, picture

from kinopaint.errors import SettingsError
from kinopaint.video.reader import open_here as open_clip
from kinopaint.video.reader import turned


def read(path, **options):
    with open_clip(path, **options) as clip:
        return list(clip)


def close(image, expected, tolerance=4):
    return image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() <= tolerance


def test_frames_are_rgb_in_order(tmp_path):
    frames = read(make_clip(tmp_path / "a.mp4"))
    assert [f.index for f in frames] == [0, 1, 2, 3, 4, 5]
    assert all(close(f.image, picture(f.index)) for f in frames)
    assert all(f.image.dtype == np.uint8 and f.image.flags.c_contiguous for f in frames)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_uneven_times_are_exact(tmp_path, name):
    clip = make_clip(tmp_path / name, times=[0, 40, 55, 180, 1900], time_base=Fraction(1, 1000))
    assert [f.time for f in read(clip)] == [Fraction(t, 1000) for t in (0, 40, 55, 180, 1900)]


def test_a_duration_lasts_until_the_next_frame(tmp_path):
    frames = read(make_clip(tmp_path / "a.mp4", times=UNEVEN, last_duration=300))
    assert [f.duration / TICK for f in frames] == [512, 188, 1200, 100, 3000, 300]


def test_b_frames_come_in_order_of_display(tmp_path):
    frames = read(make_clip(tmp_path / "a.mp4", options={"bf": "3"}))
    assert [f.pts for f in frames] == [0, 512, 1024, 1536, 2048, 2560]
    assert all(close(f.image, picture(f.index)) for f in frames)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_rotation_is_applied_once(tmp_path, rotation, mirrored):
    frames = read(make_clip(tmp_path / "a.mp4", rotation=rotation, mirrored=mirrored, times=[0]))
    shown = np.rot90(picture(0), -rotation // 90)
    assert close(frames[0].image, shown[:, ::-1] if mirrored else shown)  # the matrix mirrors what is turned already


def test_turning_is_clockwise_then_mirrored():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, 2)
    assert turned(image, 90, False)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert turned(image, 90, True)[..., 0].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_photo_is_turned_as_its_exif_says(tmp_path):
    image = picture(0)
    jpeg = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + exif + jpeg[2:])
    assert close(read(tmp_path / "a.jpg")[0].image, np.rot90(image, -1))


@pytest.mark.parametrize(("size", "pixel_format"), [((63, 47), "yuv444p"), ((2, 2), "yuv420p"), ((1, 5), "yuv444p")])
def test_any_size(tmp_path, size, pixel_format):
    frame = read(make_clip(tmp_path / "a.mp4", size=size, pixel_format=pixel_format))[0]
    assert frame.image.shape == (size[1], size[0], 3)


def test_part_of_a_clip_keeps_its_times(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 5120, 512), options={"g": "4"})
    frames = read(clip, start=Fraction(3, 30), end="0.3", every=2)
    assert [f.pts for f in frames] == [1536, 2560, 3584]
    assert [f.index for f in frames] == [0, 1, 2]
    assert frames[-1].duration == 2 * 512 * TICK  # what it stands for, up to the end of the range


def test_times_count_from_the_first_frame(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[15360, 15872, 16384])
    assert [f.pts for f in read(clip, start=Fraction(1, 30))] == [15872, 16384]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_jumping_gives_the_same_pictures_as_reading_on(tmp_path, name):
    clip = make_clip(
        tmp_path / name, times=range(0, 1200, 40), time_base=Fraction(1, 1000), options={"g": "7", "bf": "2"}
    )
    jumped, read_on = read(clip, start="0.5"), [f for f in read(clip) if f.time >= Fraction(1, 2)]
    assert [f.pts for f in jumped] == [f.pts for f in read_on]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(jumped, read_on, strict=True))


def interlaced(path, *, pixel_format="yuv420p", codec="libx264", size=(64, 48)):
    """A bar that moves 4 pixels from field to field; the upper field comes first."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=size[0], height=size[1], format=pixel_format, time_base=Fraction(1, 25))
    mark, sink = graph.add("setfield", "tff"), graph.add("buffersink")
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    options = {"flags": "+ildct", **({"crf": "2"} if codec == "libx264" else {"q": "2"})}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        for index in range(6):
            image = np.full((size[1], size[0], 3), 40, np.uint8)
            for field in range(2):
                left = 4 + 8 * index + 4 * field
                image[field::2, left : left + 8] = 220
            frame = av.VideoFrame.from_ndarray(image).reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            source.push(frame)
            out.mux(stream.encode(sink.pull()))
        out.mux(stream.encode(None))
    return path


def combs(image):
    """How much neighbouring lines differ where the next but one do not, in grey levels."""
    grey = image[..., 1].astype(int)
    return np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).max()


@pytest.mark.parametrize(("name", "pixel_format"), [("a.mp4", "yuv420p"), ("a.mkv", "yuv422p10le")])
def test_interlaced_frames_are_completed_from_their_first_field(tmp_path, name, pixel_format):
    clip = interlaced(tmp_path / name, pixel_format=pixel_format)
    with av.open(str(clip)) as file:
        pictures = list(file.decode(video=0))
    assert combs(pictures[2].to_ndarray(format="rgb24")) > 150
    with open_clip(clip) as reader:
        frames = list(reader)
    assert [f.time for f in frames] == [Fraction(n, 25) for n in range(6)]
    assert max(combs(f.image[4:-4]) for f in frames[1:-1]) < 60
    bar = np.flatnonzero(frames[2].image[24, :, 0] > 130)
    assert (bar[0], bar[-1]) == pytest.approx((20, 27), abs=1)  # where the first field has it
    assert any("interlaced" in warning for warning in reader.warnings)


def test_a_range_of_an_interlaced_clip_gives_the_same_pictures(tmp_path):
    clip = interlaced(tmp_path / "a.mp4")
    part, whole = read(clip, start="0.08"), read(clip)[2:]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=True))


def test_interlaced_frames_that_are_too_small_are_read_as_they_are(tmp_path):
    assert len(read(interlaced(tmp_path / "a.mkv", codec="mpeg2video", size=(16, 8)))) == 6


def test_a_range_outside_the_clip_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"0\.200 s long"):
        open_clip(make_clip(tmp_path / "a.mp4"), start=5)


def test_expected_frames_counts_the_selection(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    assert open_clip(clip).expected_frames == 6
    assert open_clip(clip, start=Fraction(1, 30), every=2).expected_frames == 3


def test_each_iteration_starts_again(tmp_path):
    with open_clip(make_clip(tmp_path / "a.mp4")) as clip:
        assert [f.pts for f in clip] == [f.pts for f in clip]


def test_a_gif_holds_rgb(tmp_path):
    from PIL import Image

    images = [Image.fromarray(picture(i)) for i in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[50, 120, 30], loop=0)
    frames = read(tmp_path / "a.gif")
    assert [f.time for f in frames] == [0, Fraction(5, 100), Fraction(17, 100)]
    assert all(close(f.image, picture(f.index), 8) for f in frames)


@pytest.mark.skipif(sys.platform == "win32", reason="the system refuses such names")
@pytest.mark.parametrize(
    "name", ["-i x.mp4", "a b 😀.mp4", "%d[0-9]*.mp4", "http:x.mp4", "'\"\n.mp4", "é" * 120 + ".mp4"]
)
def test_unusual_names(tmp_path, name, monkeypatch):
    make_clip(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(name)) == 6


def test_a_change_of_size_and_backward_times_are_levelled_and_said(tmp_path):
    parts = [
        make_clip(tmp_path / f"{n}.ts", size=size, times=[0, 3600, 7200], time_base=Fraction(1, 90000))
        for n, size in enumerate([(64, 48), (96, 80)])
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_clip(tmp_path / "a.ts", allow_damaged=True) as clip:
        frames = list(clip)
    assert [f.image.shape for f in frames] == 6 * [(48, 64, 3)]
    assert all(a.time < b.time for a, b in pairwise(frames))
    assert any("size changes" in warning for warning in clip.warnings)


def test_a_link_to_a_file_is_read(tmp_path):
    os.symlink(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    assert len(read(tmp_path / "b.mp4")) == 6


def test_memory_does_not_grow_with_the_clip(tmp_path):
    def peak(count):
        clip = make_clip(tmp_path / f"{count}.mp4", times=range(0, 512 * count, 512), options={"preset": "ultrafast"})
        tracemalloc.start()
        for _ in open_clip(clip):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(5)
    assert peak(300) < peak(30) + 100_000
