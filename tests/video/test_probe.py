import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import TICK, UNEVEN, make_clip, picture

from kinopaint.video.probe import scan


def probe(path):
    return scan(path)[0]


def test_what_a_plain_clip_is(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", audio=["aac"]))
    assert (info.codec, info.width, info.height, info.frame_count) == ("h264", 64, 48, 6)
    assert (info.rate, info.time_base, info.frame_step, info.variable_rate) == (30, TICK, 512, False)
    assert info.duration == Fraction(1, 5)
    assert [(s.kind, s.codec) for s in info.streams] == [("video", "h264"), ("audio", "aac")]
    assert info.problems == ()


def test_ntsc_rates_are_exact_fractions(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", time_base=Fraction(1, 30000), times=range(0, 10010, 1001), last_duration=1001)
    assert probe(clip).rate == Fraction(30000, 1001)


def test_uneven_times_are_a_variable_rate(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", times=UNEVEN))
    assert info.variable_rate
    assert info.frame_step is None


def test_millisecond_rounding_is_not_a_variable_rate(tmp_path):
    times = [round(i * 1001 / 24) for i in range(24)]
    info = probe(make_clip(tmp_path / "a.mkv", times=times, time_base=Fraction(1, 1000)))
    assert not info.variable_rate
    assert info.frame_step is None


def test_frames_are_counted_where_the_header_has_no_count(tmp_path):
    clip = make_clip(tmp_path / "a.mkv")
    with av.open(str(clip)) as file:
        assert file.streams.video[0].frames == 0
    assert probe(clip).frame_count == 6


def test_the_size_is_the_one_shown(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", rotation=90, sample_aspect_ratio=Fraction(4, 3)))
    assert (info.width, info.height, info.coded_width, info.coded_height) == (48, 64, 64, 48)
    assert (info.rotation, info.mirrored, info.sample_aspect_ratio) == (90, False, Fraction(3, 4))


def test_a_mirrored_display_matrix_is_seen(tmp_path):
    assert probe(make_clip(tmp_path / "a.mp4", mirrored=True)).mirrored


def test_a_non_zero_start_is_kept(tmp_path):
    assert probe(make_clip(tmp_path / "a.mp4", times=[7690, 8202, 8714])).start == 7690 * TICK


@pytest.mark.parametrize(("height", "matrix"), [(48, "bt601"), (720, "bt709")])
def test_untagged_colour_is_guessed_by_the_number_of_lines(tmp_path, height, matrix):
    clip = make_clip(tmp_path / "a.mp4", size=(32, height), times=[0], tags=None)
    assert probe(clip).color.matrix == matrix
    assert "720 lines" in probe(clip).color.assumed


def test_colour_tags_are_read(tmp_path):
    color = probe(make_clip(tmp_path / "a.mp4", pixel_format="yuv420p10le", tags=(9, 1, 9, 16))).color
    assert (color.matrix, color.full_range, color.primaries, color.transfer) == ("bt2020", False, "bt2020", "pq")
    assert (color.hdr, color.assumed) == ("pq", "")


def test_a_picture_is_a_clip_of_one_frame(tmp_path):
    for name in ("a.png", "a.jpg", "a.webp", "100%d.png"):
        cv2.imwrite(str(tmp_path / name), picture(0))
        info = probe(tmp_path / name)
        assert (info.is_image, info.frame_count, info.width) == (True, 1, 64)


def test_cover_art_is_not_the_clip(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "b.mp4"), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = out.add_stream_from_template(source.streams.video[0])
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8)).reformat(format="yuvj420p")
        out.mux(cover.encode(frame))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    info = probe(tmp_path / "b.mp4")
    assert info.width == 64
    assert [s.cover_art for s in info.streams_of("video")].count(True) == 1


def test_repeated_times_are_reported(tmp_path):
    clip = make_clip(
        tmp_path / "a.mkv", time_base=Fraction(1, 1000), times=[0, 40, 80], codec="ffv1", pixel_format="bgr0"
    )
    data = bytearray(clip.read_bytes())
    position = data.index(b"\xa3", data.index(b"\xa3", data.index(b"\x1f\x43\xb6\x75")) + 4)  # the second block
    at = data.index(b"\x81\x00\x28", position) + 1
    data[at : at + 2] = b"\0\0"
    clip.write_bytes(data)
    assert "1 repeated timestamps" in probe(clip).problems


def test_the_description_is_json(tmp_path):
    described = json.loads(json.dumps(probe(make_clip(tmp_path / "a.mp4", audio=["aac"])).as_dict()))
    assert described["rate"] == "30/1"
    assert described["fps"] == 30
    assert described["duration_s"] == pytest.approx(0.2)
