import contextlib
import json
import os
import re
import resource
from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from clips import TICK, UNEVEN, make_clip, picture, read_packets, shared_file

from kinopaint.errors import InternalError, OutputError, SettingsError, ShapeError
from kinopaint.video import Frame, open_writer
from kinopaint.video.probe import scan
from kinopaint.video.reader import open_here as open_clip

pytestmark = pytest.mark.usefixtures("in_this_process")

MILLISECOND = Fraction(1, 1000)


def restyle(source, target, *, start=None, end=None, every=1, paint=lambda image: image, **options):
    """Read and write a clip; returns what the writer says and the frames that were written."""
    with open_clip(source, start=start, end=end, every=every) as clip:
        frames = list(clip)
        with open_writer(target, source=clip.info, selection=clip.selection, **options) as writer:
            for frame in frames:
                writer.write(paint(frame.image), frame)
            return writer.finish(), frames


def probe(path):
    return scan(path)[0]


def frames_of(path):
    with open_clip(path) as clip:
        return list(clip)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm", ".m4v"])
def test_frames_times_and_pictures_come_back(tmp_path, ending):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 40, 80, 120], time_base=MILLISECOND)
    written, frames = restyle(clip, tmp_path / f"b{ending}")
    back = frames_of(written.output)
    assert [f.time for f in back] == [f.time for f in frames]
    assert max(np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(back, frames, strict=True)) < 2.5


@pytest.mark.parametrize("options", [{}, {"codec": "h265"}, {"codec": "av1"}, {"codec": "vp9"}])
def test_uneven_times_are_exact_in_mp4(tmp_path, options):
    clip = make_clip(tmp_path / "a.mp4", times=UNEVEN, last_duration=300)
    written, _ = restyle(clip, tmp_path / "b.mp4", **options)
    back = frames_of(written.output)
    assert [f.time for f in back] == [t * TICK for t in UNEVEN]
    assert back[-1].duration == 300 * TICK
    assert written.delivery.duration == 5300 * TICK


def test_matroska_rounds_to_milliseconds_and_says_so(tmp_path):
    written, frames = restyle(make_clip(tmp_path / "a.mp4", times=UNEVEN), tmp_path / "b.mkv")
    assert all(abs(a.time - b.time) <= MILLISECOND / 2 for a, b in zip(frames_of(written.output), frames, strict=True))
    assert any("milliseconds" in warning for warning in written.warnings)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9"])
def test_the_end_of_an_uneven_clip_is_exact_in_mp4(tmp_path, codec):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 67, 134, 196], time_base=MILLISECOND, last_duration=62)
    assert restyle(clip, tmp_path / "b.mp4", codec=codec)[0].delivery.duration == Fraction(258, 1000)


@pytest.mark.parametrize("base", [Fraction(1, 90000), Fraction(1, 1000), Fraction(1001, 24000), Fraction(1, 23040000)])
def test_any_clock_is_kept(tmp_path, base):
    step = int(Fraction(1, 25) / base) + 1
    clip = make_clip(tmp_path / "a.nut", time_base=base, times=range(3, 3 + 4 * step, step), last_duration=step)
    written, frames = restyle(clip, tmp_path / "b.mp4")
    assert [f.time for f in frames_of(written.output)] == [f.time for f in frames]


def test_a_late_start_is_kept(tmp_path):
    times = [127995, 128507, 129019]
    written, _ = restyle(make_clip(tmp_path / "a.mp4", times=times), tmp_path / "b.mp4")
    assert [f.time for f in frames_of(written.output)] == [t * TICK for t in times]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_recording_from_before_its_clock_turns_over_begins_at_zero(tmp_path, ending):
    begin = 95443  # seconds; MPEG-TS counts to 2**33 / 90000 = 95443.7
    times = range(25 * begin, 25 * begin + 20)
    clip = make_clip(
        tmp_path / "a.ts", times=times, time_base=Fraction(1, 25), last_duration=1, audio=["aac"], audio_start=begin
    )
    source = probe(clip)
    assert source.start < 0 < source.end
    written, frames = restyle(clip, tmp_path / f"b{ending}")
    back, moved = frames_of(written.output), min(source.start, source.streams_of("audio")[0].first)
    tick = Fraction(0) if ending == ".mp4" else MILLISECOND / 2
    assert all(abs(b.time - (a.time - moved)) <= tick for a, b in zip(frames, back, strict=True))
    before, after = read_packets(clip, "audio"), read_packets(written.output, "audio")
    assert all(abs(b[0] - (a[0] - moved)) <= MILLISECOND for a, b in zip(before, after, strict=True))
    assert any("because files hold none before 0" in warning for warning in written.warnings)


def test_kept_frames_hold_their_own_times(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 5120, 512))
    written, _ = restyle(clip, tmp_path / "b.mp4", start=Fraction(1, 10), every=3)
    assert [f.time for f in frames_of(written.output)] == [Fraction(n, 30) for n in (3, 6, 9)]  # the last is shorter
    assert written.delivery.duration == Fraction(7, 30)


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (2, 2), (1, 5), (1, 1)])
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif"])
def test_any_size_is_kept_exactly(tmp_path, size, ending):
    clip = make_clip(tmp_path / "a.mkv", size=size, pixel_format="yuv444p", times=[0, 40], time_base=MILLISECOND)
    written, _ = restyle(clip, tmp_path / f"b{ending}")
    assert frames_of(written.output)[0].image.shape == (size[1], size[0], 3)


def test_another_size_can_be_asked_for(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    written, _ = restyle(clip, tmp_path / "b.mp4", size=(32, 24), paint=lambda image: cv2.resize(image, (32, 24)))
    assert (probe(written.output).width, probe(written.output).sample_aspect_ratio) == (32, 1)


@pytest.mark.parametrize("rotation", [90, 180])
def test_a_turned_clip_is_written_upright(tmp_path, rotation):
    written, frames = restyle(make_clip(tmp_path / "a.mp4", rotation=rotation), tmp_path / "b.mp4")
    assert probe(written.output).rotation == 0
    assert frames_of(written.output)[0].image.shape == frames[0].image.shape


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_the_pixel_shape_is_kept(tmp_path, ending):
    written, _ = restyle(make_clip(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(64, 45)), tmp_path / f"b{ending}")
    assert probe(written.output).sample_aspect_ratio == Fraction(64, 45)


@pytest.mark.parametrize(("shape", "size"), [(Fraction(64, 45), (round(64 * 64 / 45), 48)), (Fraction(1, 2), (64, 96))])
@pytest.mark.parametrize("ending", [".webm", ".gif"])
def test_pixels_that_cannot_be_stored_are_made_square(tmp_path, shape, size, ending):
    written, _ = restyle(make_clip(tmp_path / "a.mp4", sample_aspect_ratio=shape), tmp_path / f"b{ending}")
    info = probe(written.output)
    assert ((info.width, info.height), info.sample_aspect_ratio) == (size, 1)
    assert any("scaled from 64x48" in warning for warning in written.warnings)


def see_through(path, *, codec="ffv1", pixel_format="bgra", options=None):
    """A clip whose left half is transparent, whose middle is half transparent, and whose right is red."""
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[..., 0], rgba[:, 20:, 3], rgba[:, 40:, 3] = 200, 160, 255
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        if codec == "libvpx-vp9":
            stream.metadata["alpha_mode"] = "1"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mkv", "ffv1", "bgra"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_transparency_is_read(tmp_path, name, codec, pixel_format):
    options = {"prores_ks": {"profile": "4444", "alpha_bits": "16"}, "libvpx-vp9": {"crf": "4", "b": "0"}}.get(codec)
    frame = frames_of(see_through(tmp_path / name, codec=codec, pixel_format=pixel_format, options=options))[1]
    assert frame.alpha[24, [4, 30, 60]].tolist() == pytest.approx([0, 160, 255], abs=3)
    assert frame.image[24, 60].tolist() == pytest.approx([200, 0, 0], abs=5)
    assert frame.image[24, 4].tolist() == [255] * 3
    assert frame.image[24, 30].tolist() == pytest.approx([0.63 * 200 + 95, 95, 95], abs=6)


@pytest.mark.parametrize(("ending", "codec"), [(".mkv", "ffv1"), (".mov", "prores"), (".webm", "vp9"), (".gif", "gif")])
def test_transparency_is_kept_where_the_target_can(tmp_path, ending, codec):
    written, frames = restyle(see_through(tmp_path / "a.mkv"), tmp_path / f"b{ending}", codec=codec)
    back = frames_of(written.output)[1]
    assert back.alpha[24, [4, 60]].tolist() == pytest.approx([0, 255], abs=3)
    assert int(back.alpha[24, 30]) == pytest.approx(255 if codec == "gif" else 160, abs=4)
    assert np.abs(back.image.astype(int) - frames[1].image)[:, 44:].max() < 12  # what is seen on white
    assert np.abs(back.image.astype(int) - frames[1].image)[:, 24:36].mean() < 8
    assert not any("no transparency" in warning for warning in written.warnings)


def test_transparency_kept_without_loss_looks_the_same_on_white(tmp_path):
    written, frames = restyle(see_through(tmp_path / "a.mkv"), tmp_path / "b.mkv", codec="ffv1")
    assert np.abs(frames_of(written.output)[0].image.astype(int) - frames[0].image).max() <= 1


def test_transparency_follows_the_size(tmp_path):
    written, _ = restyle(
        see_through(tmp_path / "a.mkv"),
        tmp_path / "b.mkv",
        codec="ffv1",
        size=(32, 24),
        paint=lambda image: cv2.resize(image, (32, 24)),
    )
    assert frames_of(written.output)[0].alpha[12, [2, 15, 30]].tolist() == pytest.approx([0, 160, 255], abs=1)


@pytest.mark.parametrize("options", [{}, {"codec": "h265"}])
def test_transparency_that_the_target_cannot_hold_is_put_on_white_and_said(tmp_path, options):
    written, _ = restyle(see_through(tmp_path / "a.mkv"), tmp_path / "b.mp4", **options)
    assert np.abs(frames_of(written.output)[0].image[24, 4].astype(int) - 255).max() <= 3
    assert any("holds no transparency" in warning for warning in written.warnings)


def test_a_gif_without_transparent_pixels_is_not_given_any(tmp_path):
    gif = restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "b.gif")[0].output
    written, _ = restyle(gif, tmp_path / "c.webm")
    assert written.pixel_format == "yuv420p"
    assert not probe(written.output).alpha


@pytest.mark.parametrize(
    ("codec", "ending", "stored"),
    [
        ("h264", ".mp4", "yuv420p"),
        ("h265", ".mp4", "yuv420p10le"),
        ("av1", ".mkv", "yuv420p10le"),
        ("prores", ".mov", "yuv422p10le"),
    ],
)
def test_deep_sources_are_written_with_ten_bits_where_players_take_them(tmp_path, codec, ending, stored):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p10le", times=[0, 40], time_base=MILLISECOND)
    written, frames = restyle(clip, tmp_path / f"b{ending}", codec=codec)
    assert probe(written.output).pixel_format == written.pixel_format == stored
    assert written.delivery.color.startswith("bt709, limited")
    assert np.abs(frames_of(written.output)[1].image.astype(int) - frames[1].image).mean() < 3


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_colours_are_written_as_tagged_bt709(tmp_path, pixel_format):
    size = (64, 48) if pixel_format == "yuv420p" else (63, 47)
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0", size=size, times=[0], tags=None)
    red = np.full((size[1], size[0], 3), (200, 30, 30), np.uint8)
    written, _ = restyle(clip, tmp_path / "b.mp4", paint=lambda image: red)
    with av.open(str(written.output)) as file:
        frame = next(file.decode(video=0))
        assert frame.format.name == pixel_format
        tags = frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc
        codes = [bytes(plane)[0] for plane in frame.planes]
    assert tags == (1, 1, 1, 1)
    assert codes == pytest.approx([72.8, 110.9, 202.7], abs=1.2)  # BT.709 by its definition; BT.601 has Y = 85


def test_the_colour_comes_back_through_our_own_reader(tmp_path):
    red = np.full((48, 64, 3), (200, 30, 30), np.uint8)
    written, _ = restyle(make_clip(tmp_path / "a.mp4", times=[0]), tmp_path / "b.mp4", paint=lambda image: red)
    assert np.abs(frames_of(written.output)[0].image.astype(int) - red).max() <= 2


@pytest.mark.parametrize(
    ("codec", "ending", "stored"),
    [
        ("h264", ".mkv", "h264"),
        ("h265", ".mp4", "hevc"),
        ("av1", ".mp4", "av1"),
        ("vp9", ".webm", "vp9"),
        ("prores", ".mov", "prores"),
        ("ffv1", ".mkv", "ffv1"),
        ("gif", ".gif", "gif"),
    ],
)
def test_codecs(tmp_path, codec, ending, stored):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 40, 80], time_base=MILLISECOND)
    written, frames = restyle(clip, tmp_path / f"b{ending}", codec=codec)
    assert written.delivery.ok
    assert probe(written.output).codec == stored
    assert np.abs(frames_of(written.output)[1].image.astype(int) - frames[1].image).mean() < 6


def test_ffv1_is_lossless(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    written, _ = restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mkv", codec="ffv1", paint=lambda image: noise)
    assert all(np.array_equal(f.image, noise) for f in frames_of(written.output))


def test_quality_changes_the_file(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    sizes = [restyle(clip, tmp_path / f"{q}.mp4", quality=q)[0].output.stat().st_size for q in (10, 40)]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_sound_is_copied_bit_by_bit_with_its_times(tmp_path, ending):
    clip = make_clip(tmp_path / "a.mp4", audio=["aac", "aac"], audio_start=0.05)
    written, _ = restyle(clip, tmp_path / f"b{ending}")
    before, after = read_packets(clip, "audio"), read_packets(written.output, "audio")
    assert sorted(content for _, content in after) == sorted(content for _, content in before)
    step = MILLISECOND if ending == ".mkv" else 0
    assert all(
        abs(a - b) <= step for a, b in zip(sorted(t for t, _ in after), sorted(t for t, _ in before), strict=True)
    )
    assert written.audio == ("copied", "copied")


def test_plain_samples_are_copied_into_mov_however_the_source_cuts_them(tmp_path):
    with av.open(str(tmp_path / "a.mxf"), "w") as out:
        stream, sound = out.add_stream("mpeg2video", rate=25), out.add_stream("pcm_s16le", rate=48000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
            wave = np.arange(2 * 1920, dtype=np.int16).reshape(1, -1) + 100 * index
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="stereo")
            frame.sample_rate, frame.pts = 48000, 1920 * index
            out.mux(sound.encode(frame))
        out.mux(stream.encode(None))
    written, _ = restyle(tmp_path / "a.mxf", tmp_path / "b.mov")
    before, after = (read_packets(path, "audio") for path in (tmp_path / "a.mxf", written.output))
    assert written.audio == ("copied",)
    assert len(after) != len(before)
    assert b"".join(data for _, data in after) == b"".join(data for _, data in before)


def test_sound_is_cut_to_the_range(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", audio=["aac"], times=range(0, 6 * 512, 512))
    written, _ = restyle(clip, tmp_path / "b.mp4", start=0.1, end=Fraction(1, 6))
    times = [time for time, _ in read_packets(written.output, "audio")]
    assert times == [
        t for t, _ in read_packets(clip, "audio") if Fraction(1, 10) - Fraction(1024, 48000) < t < Fraction(1, 6)
    ]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_a_range_without_any_sound(tmp_path, ending, codec):
    clip = make_clip(tmp_path / "a.mkv", audio=[codec], times=range(0, 45 * 512, 512))
    written, _ = restyle(clip, tmp_path / f"b{ending}", start=1)
    assert read_packets(written.output, "audio") == []


def test_sound_can_be_left_out(tmp_path):
    written, _ = restyle(make_clip(tmp_path / "a.mp4", audio=["aac"]), tmp_path / "b.mp4", audio=False)
    assert probe(written.output).streams_of("audio") == ()


def test_sound_that_the_container_forbids_is_re_encoded_and_it_is_said(tmp_path):
    written, _ = restyle(make_clip(tmp_path / "a.mp4", audio=["aac"]), tmp_path / "b.webm")
    assert probe(written.output).streams_of("audio")[0].codec == "opus"
    assert written.audio == ("re-encoded",)
    assert any("re-encoded as libopus" in warning for warning in written.warnings)


@pytest.mark.parametrize(
    ("codec", "ending", "delivered"),
    [
        ("pcm_s16le", ".mp4", "aac"),
        ("pcm_s16le", ".mov", "pcm_s16le"),
        ("alac", ".mov", "alac"),
        ("ac3", ".webm", "opus"),
    ],
)
def test_sound_of_other_codecs_keeps_its_length(tmp_path, codec, ending, delivered):
    clip = make_clip(tmp_path / "a.mkv", audio=[codec], times=[0, 40, 80], time_base=MILLISECOND)
    written, _ = restyle(clip, tmp_path / f"b{ending}")
    assert probe(written.output).streams_of("audio")[0].codec == delivered
    with av.open(str(written.output)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) == pytest.approx(20480, abs=1536)


def test_sound_longer_than_the_picture_is_kept(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", audio=["aac"], times=[0, 512])
    written, _ = restyle(clip, tmp_path / "b.mp4")
    assert len(read_packets(written.output, "audio")) == len(read_packets(clip, "audio"))


HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
LINES = {
    "subrip": [b"hello <i>you</i>", "Gr\u00fc\u00dfe\nzwei".encode()],
    "ass": [b"0,0,Default,,0,0,0,,hello {\\i1}you{\\i0}", "1,0,Default,,0,0,0,,Gr\u00fc\u00dfe\\Nzwei".encode()],
    "webvtt": [b"hello <i>you</i>", "Gr\u00fc\u00dfe\nzwei".encode()],
    "mov_text": [b"\0\x09hello you", b"\0\x0cGr\xc3\xbc\xc3\x9fe\nzwei"],
}


def with_subtitles(path, *codecs):
    """A clip of 0.24 s with streams of text: a line from 20 to 70 ms, one from 120 to 180 ms."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = []
        for codec in codecs:
            streams.append(out.add_stream(codec))
            streams[-1].codec_context.subtitle_header = HEADER
            streams[-1].time_base = MILLISECOND
        for stream in streams:
            stream.metadata["language"] = "eng"
        out.start_encoding()
        for stream, codec in zip(streams, codecs, strict=True):
            for (start, length), text in zip([(20, 50), (120, 60)], LINES[codec], strict=True):
                line = av.Packet(text)
                line.stream, line.pts, line.dts, line.duration, line.time_base = (
                    stream,
                    start,
                    start,
                    length,
                    MILLISECOND,
                )
                out.mux(line)
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(picture(index)).reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def words_of(path):
    """Per text stream: codec, and for each line its time and its plain words."""
    with av.open(str(path)) as file:
        told = {}
        for stream in file.streams.subtitles:
            told[stream.index] = (stream.codec_context.codec.canonical_name, stream.language, [])
        for packet in file.demux():
            if packet.stream_index in told and packet.size > 2:  # MP4 fills gaps with empty ones
                subtitles = packet.stream.decode2(packet)
                text = "".join(line.dialogue.decode() for line in subtitles or ())
                text = re.sub(r"\{[^}]*\}", "", text).replace("\\N", "|").replace("\n", "|")
                told[packet.stream_index][2].append((packet.pts * packet.time_base, packet.duration, text))
    return list(told.values())


def test_subtitles_are_copied_where_the_container_can(tmp_path):
    clip = with_subtitles(tmp_path / "a.mkv", "subrip", "ass", "webvtt")
    written, _ = restyle(clip, tmp_path / "b.mkv")
    assert read_packets(written.output, "subtitle") == read_packets(clip, "subtitle")
    assert [codec for codec, _, _ in words_of(written.output)] == ["subrip", "ass", "webvtt"]
    assert (written.delivery.subtitles, written.warnings) == (3, ())


@pytest.mark.parametrize(
    ("name", "codec", "ending", "stored"),
    [
        ("a.mkv", "subrip", ".mp4", "mov_text"),
        ("a.mkv", "ass", ".mp4", "mov_text"),
        ("a.mkv", "webvtt", ".mov", "mov_text"),
        ("a.mkv", "subrip", ".webm", "webvtt"),
        ("a.mp4", "mov_text", ".mkv", "subrip"),
        ("a.mp4", "mov_text", ".webm", "webvtt"),
        ("a.mp4", "mov_text", ".mp4", "mov_text"),
    ],
)
def test_subtitles_are_converted_where_the_container_forbids_them(tmp_path, name, codec, ending, stored):
    clip = with_subtitles(tmp_path / name, codec, codec)
    written, _ = restyle(clip, tmp_path / f"b{ending}")
    for found, language, lines in words_of(written.output):
        assert (found, language) == (stored, "eng")
        assert [float(time) for time, _, _ in lines] == pytest.approx([0.02, 0.12], abs=0.001)
        assert [text for _, _, text in lines] == ["hello you", "Gr\u00fc\u00dfe|zwei"]
    assert written.delivery.subtitles == 2
    said = [w for w in written.warnings if "colours, fonts and places may be lost" in w]
    assert len(said) == (0 if codec == stored else 2)


@pytest.mark.parametrize(("ending", "kept"), [(".mkv", 1), (".mp4", 0)])
def test_fonts_of_subtitles_are_kept_where_the_container_can(tmp_path, ending, kept):
    clip = with_subtitles(tmp_path / "a.mkv", "ass")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        routes = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        out.add_attachment("a.ttf", "font/ttf", b"\0\1\0\0font")
        for packet in source.demux():
            if packet.size:
                packet.stream = routes[packet.stream_index]
                out.mux(packet)
    written, _ = restyle(tmp_path / "b.mkv", tmp_path / f"c{ending}")
    with av.open(str(written.output)) as file:
        assert [(s.name, bytes(s.data)) for s in file.streams.attachments] == kept * [("a.ttf", b"\0\1\0\0font")]
    assert any("left behind" in warning for warning in written.warnings) == (not kept)


def test_language_and_title_of_the_picture_are_kept(tmp_path):
    clip = make_clip(tmp_path / "a.mkv")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        stream.metadata.update({"language": "fre", "title": "la sc\u00e8ne"})
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    written, _ = restyle(tmp_path / "b.mkv", tmp_path / "c.mkv")
    (painted,) = probe(written.output).streams
    assert (painted.language, painted.title) == ("fre", "la sc\u00e8ne")


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
def test_a_range_without_any_subtitle(tmp_path, ending):
    written, _ = restyle(with_subtitles(tmp_path / "a.mkv", "subrip"), tmp_path / f"b{ending}", start=0.2)
    assert all(lines == [] for _, _, lines in words_of(written.output))


def test_subtitles_are_cut_to_the_range(tmp_path):
    written, _ = restyle(with_subtitles(tmp_path / "a.mkv", "subrip"), tmp_path / "b.mkv", start=0.1)
    assert [time for time, _ in read_packets(written.output, "subtitle")] == [Fraction(120, 1000)]


def chapters_of(path):
    with av.open(str(path)) as file:
        return [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"].get("title"))
            for c in file.chapters()
        ]


CHAPTERS = [
    {"id": 1, "start": 0, "end": 100, "time_base": MILLISECOND, "metadata": {"title": "one"}},
    {"id": 2, "start": 100, "end": 200, "time_base": MILLISECOND, "metadata": {"title": "zw\u00f6lf"}},
]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_chapters_are_kept(tmp_path, ending):
    written, _ = restyle(make_clip(tmp_path / "a.mkv", chapters=CHAPTERS), tmp_path / f"b{ending}")
    assert chapters_of(written.output) == [(0, 0.1, "one"), (0.1, 0.2, "zw\u00f6lf")]
    assert written.delivery.chapters == 2
    again, _ = restyle(written.output, tmp_path / "c.mp4")
    assert chapters_of(again.output) == chapters_of(written.output)
    assert not any("left behind" in warning for warning in again.warnings)


def test_chapters_are_cut_to_the_range(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", chapters=CHAPTERS)
    assert chapters_of(restyle(clip, tmp_path / "b.mkv", start=0.05)[0].output) == [
        (0.05, 0.1, "one"),
        (0.1, 0.2, "zw\u00f6lf"),
    ]
    assert chapters_of(restyle(clip, tmp_path / "c.mkv", end=0.08)[0].output) == [(0, 0.08, "one")]


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_tags_are_kept_and_the_recipe_is_added(tmp_path, ending):
    clip = make_clip(tmp_path / "a.mp4", metadata={"title": "Grüße"})
    written, _ = restyle(clip, tmp_path / f"b{ending}", metadata={"kinopaint": {"prompt": "été", "seed": 0}})
    tags = probe(written.output).metadata
    assert tags["title"] == "Grüße"
    assert json.loads(tags["kinopaint"]) == {"prompt": "été", "seed": 0}


def test_an_mp4_starts_with_its_index(tmp_path):
    data = restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")[0].output.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_picture_gives_a_picture(tmp_path, ending):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0)[..., ::-1])
    written, frames = restyle(tmp_path / "a.png", tmp_path / f"b{ending}", metadata={"kinopaint": {"a": "é"}})
    assert np.abs(frames_of(written.output)[0].image.astype(int) - frames[0].image).max() <= (
        0 if ending == ".png" else 8
    )
    assert written.metadata == (ending == ".png")


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_a_picture_gives_a_clip_of_one_frame(tmp_path, ending):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    assert restyle(tmp_path / "a.png", tmp_path / f"b{ending}")[0].frames == 1


def test_a_png_holds_the_recipe(tmp_path):
    from PIL import Image

    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    restyle(tmp_path / "a.png", tmp_path / "b.png", metadata={"kinopaint": {"a": "é"}})
    with Image.open(tmp_path / "b.png") as image:
        assert json.loads(image.text["kinopaint"]) == {"a": "é"}


def test_a_gif_keeps_hundredths_of_a_second(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 50, 170, 200], time_base=MILLISECOND)
    written, _ = restyle(clip, tmp_path / "b.gif")
    assert [f.time * 100 for f in frames_of(written.output)] == [0, 5, 17, 20]


def test_pictures_of_a_gif_that_return_return_whole(tmp_path):
    shown = [picture(index) for index in (0, 5, 0, 3, 0)]
    clip = make_clip(
        tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0", tags=None, pictures=shown, times=range(0, 2560, 512)
    )
    written, _ = restyle(clip, tmp_path / "b.gif")
    errors = [np.abs(a.image.astype(int) - b).max() for a, b in zip(frames_of(written.output), shown, strict=True)]
    assert max(errors) <= 8


def test_a_gif_of_too_many_frames_a_second_is_refused_before_it_is_made(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", times=range(0, 20, 4), time_base=MILLISECOND, last_duration=4)
    with pytest.raises(SettingsError, match=r"(?s)at most 100 frames a second, these are 250.*--every 3"):
        restyle(clip, tmp_path / "b.gif")
    assert restyle(clip, tmp_path / "b.gif", every=3)[0].delivery.ok


def test_a_gif_counts_from_its_first_frame(tmp_path):
    times = [127995, 128507, 129019, 129531]  # 8.333 s and on, 30 per second
    written, _ = restyle(make_clip(tmp_path / "a.mp4", times=times), tmp_path / "b.gif")
    assert [f.time * 100 for f in frames_of(written.output)] == [0, 3, 7, 10]


def test_frames_too_near_for_a_gif_are_moved_apart(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 40, 42, 44, 100, 140], time_base=MILLISECOND)
    written, _ = restyle(clip, tmp_path / "b.gif")
    assert [f.time * 100 for f in frames_of(written.output)] == [0, 4, 5, 6, 10, 14]


@pytest.mark.parametrize("name", ["-o.mp4", "ü 😀 ' \".mp4", "%d[x].mp4", "http:x.mp4", "n" * 251 + ".mp4", "A.MP4"])
def test_unusual_output_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written, _ = restyle(make_clip(tmp_path / "a.mkv"), name)
    assert written.output == tmp_path / name
    assert len(frames_of(name)) == 6


# Nothing half-written, nothing overwritten


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_nothing_has_the_final_name_before_the_end(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with open_clip(clip) as frames, open_writer(tmp_path / "b.mp4", source=frames.info) as writer:
        for frame in frames:
            writer.write(frame.image, frame)
            assert "b.mp4" not in names(tmp_path)
        writer.finish()
    assert names(tmp_path) == ["a.mp4", "b.mp4"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with (
        contextlib.suppress(KeyboardInterrupt),
        open_clip(clip) as frames,
        open_writer(tmp_path / "b.mp4", source=frames.info) as writer,
    ):
        for frame in frames:
            writer.write(frame.image, frame)
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a.mp4"]


def test_existing_output_is_not_overwritten(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("precious")
    with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
        restyle(clip, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_text() == "precious"
    assert restyle(clip, tmp_path / "b.mp4", overwrite=True)[0].delivery.ok


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with open_clip(clip) as frames, open_writer(tmp_path / "b.mp4", source=frames.info) as writer:
        for frame in frames:
            writer.write(frame.image, frame)
        (tmp_path / "b.mp4").write_text("precious")
        with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
            writer.finish()
    assert names(tmp_path) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "b.mp4").read_text() == "precious"


def test_the_input_is_never_the_output(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    os.symlink(clip, tmp_path / "b.mp4")
    for target in (clip, tmp_path / "b.mp4"):
        with pytest.raises(SettingsError, match="KP-OUTPUT-IS-INPUT"):
            restyle(clip, target, overwrite=True)


def test_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="KP-OUTPUT-FOLDER"):
        restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "no" / "b.mp4")


def test_a_folder_as_output(tmp_path):
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(OutputError, match="KP-OUTPUT-DIRECTORY"):
        restyle(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4", overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the system administrator may write all")
def test_a_folder_that_may_not_be_written(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    (tmp_path / "no").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="KP-OUTPUT-PERMISSION"):
        restyle(clip, tmp_path / "no" / "b.mp4")


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_full_disk(tmp_path, ending):
    clip = make_clip(tmp_path / "a.mp4", times=range(0, 10240, 512))
    noise = np.random.default_rng(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(OutputError, match="KP-OUTPUT-DISK-FULL"):
            restyle(
                clip,
                tmp_path / f"b{ending}",
                paint=lambda image: noise.integers(0, 256, image.shape, dtype=np.uint8),
                quality=1,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["a.mp4"]


def test_no_frame_is_no_clip(tmp_path):
    writer = open_writer(tmp_path / "b.mp4", source=probe(make_clip(tmp_path / "a.mp4")))
    with pytest.raises(OutputError, match="KP-OUTPUT-NO-FRAMES"):
        writer.finish()
    assert names(tmp_path) == ["a.mp4"]


def test_a_picture_of_another_size_is_refused(tmp_path):
    source = probe(make_clip(tmp_path / "a.mp4"))
    with open_writer(tmp_path / "b.mp4", source=source) as writer, pytest.raises(ShapeError):
        writer.write(picture(0, (32, 32)), Frame(picture(0), 0, 0, TICK))


def test_frames_out_of_order_are_refused(tmp_path):
    with open_writer(tmp_path / "b.mp4", source=probe(make_clip(tmp_path / "a.mp4"))) as writer:
        writer.write(picture(0), Frame(picture(0), 0, 512, TICK))
        with pytest.raises(InternalError):
            writer.write(picture(0), Frame(picture(0), 1, 512, TICK))


@pytest.mark.parametrize(("size", "codec"), [((1, 1), "av1"), ((2, 2), "h265"), ((62, 90), "h265"), ((64, 64), "h265")])
def test_a_size_that_the_encoder_refuses(tmp_path, size, codec):
    clip = make_clip(tmp_path / "a.mkv", size=size, pixel_format="yuv444p")
    with pytest.raises(OutputError, match=rf"KP-OUTPUT-ENCODER.*{size[0]}x{size[1]}"):
        restyle(clip, tmp_path / "b.mp4", codec=codec)
    assert names(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("b", {}, "KP-SETTING-FORMAT"),
        ("b.xyz", {}, "KP-SETTING-FORMAT"),
        ("b.png", {}, "KP-SETTING-FORMAT"),
        ("b.mp4", {"codec": "h246"}, "KP-SETTING-CODEC.*h264"),
        ("b.webm", {"codec": "h264"}, "KP-SETTING-CODEC.*mp4"),
        ("b.jpg", {"codec": "png"}, "KP-SETTING-CODEC.*png"),
        ("b.mp4", {"quality": 99}, "KP-SETTING-QUALITY.*0 to 51"),
        ("b.mkv", {"codec": "ffv1", "quality": 1}, "KP-SETTING-QUALITY"),
    ],
)
def test_settings_are_checked_before_anything_is_written(tmp_path, name, options, code):
    with pytest.raises(SettingsError) as caught:
        restyle(make_clip(tmp_path / "a.mp4"), tmp_path / name, **options)
    assert caught.value.exit_code == 2
    with pytest.raises(SettingsError, match=f"(?s){code}"):
        raise caught.value
    assert names(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    "name", ["plant_handheld_realshort.mp4", "flower.mp4", "big_buck_bunny_0_30.webm", "intel_person_bicycle_car.gif"]
)
def test_a_real_clip_comes_back(tmp_path, name):
    written, frames = restyle(shared_file(f"videos/{name}"), tmp_path / "b.mp4", end=0.4)
    assert written.delivery.ok
    assert [f.time for f in frames_of(written.output)] == [f.time for f in frames]


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_a_gap_in_the_sound_stays_where_it_is(tmp_path, ending):
    sound = make_clip(tmp_path / "s.mkv", audio=["pcm_s16le"], times=range(0, 512 * 45, 512))
    with av.open(str(sound)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        routes = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                if packet.stream.type == "audio" and packet.pts > 100:
                    packet.pts, packet.dts = packet.pts + 1000, packet.dts + 1000  # a second is missing
                packet.stream = routes[packet.stream_index]
                out.mux(packet)
    written, _ = restyle(tmp_path / "a.mkv", tmp_path / f"b{ending}")
    assert written.audio == ("re-encoded",)
    times = [float(time) for time, _ in read_packets(written.output, "audio")]
    (after,) = [b for a, b in pairwise(times) if b - a > 0.5]
    assert after == pytest.approx(1.1, abs=0.06)


def test_sound_that_cannot_be_decoded_leaves_a_gap(tmp_path):
    sound = make_clip(tmp_path / "s.mkv", audio=["flac"], times=range(0, 512 * 15, 512))
    with av.open(str(sound)) as source, av.open(str(tmp_path / "a.mkv"), "w") as out:
        routes = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "audio" and packet.pts > 90:
                copy = av.Packet(bytes(packet.size))
                copy.pts, copy.dts, copy.time_base, copy.duration = packet.pts, packet.dts, packet.time_base, 96
            copy.stream = routes[packet.stream_index]
            out.mux(copy)
    written, _ = restyle(tmp_path / "a.mkv", tmp_path / "b.webm")
    with av.open(str(written.output)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) < 8000  # 20480 before
    assert any(
        re.fullmatch(r"audio stream 1: \d+ packets are damaged and left out, between 0\.10 and 0\.\d\d s", warning)
        for warning in written.warnings
    )


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_damaged_packets_of_sound_are_left_out_and_counted(tmp_path, ending):
    """The frame headers of AAC as MPEG-TS has it are checked while it is copied; pictures are not at fault."""
    clip = make_clip(tmp_path / "a.ts", audio=["aac"], times=range(0, 512 * 15, 512))
    data = bytearray(clip.read_bytes())
    places = [match.start() for match in re.finditer(b"\xff\xf1[\x4c\x50]", bytes(data))]
    assert len(places) > 15
    for place in places[8:11]:
        data[place : place + 7] = bytes(7)
    clip.write_bytes(data)
    written, frames = restyle(clip, tmp_path / f"b{ending}")
    assert written.frames == len(frames) == 15
    assert written.delivery.ok
    (told,) = (warning for warning in written.warnings if "damaged and left out" in warning)
    count, begin, end = re.fullmatch(
        r"audio stream 1: (\d+) packets are damaged and left out, between (\S+) and (\S+) s", told
    ).groups()
    assert int(count) == 2  # the rest is taken for the end of the packet before
    assert 0.1 < float(begin) <= float(end) < 0.35


def test_sound_with_a_broken_header_does_not_stop_the_pictures(tmp_path):
    sound = make_clip(tmp_path / "a.mkv", audio=["flac"])
    data = sound.read_bytes()
    place = data.rindex(b"\x63\xa2", 0, data.index(b"fLaC"))  # what holds the header of the codec
    sound.write_bytes(data[:place] + b"\x63\xa3" + data[place + 2 :])
    written, _ = restyle(sound, tmp_path / "b.mp4")
    assert written.frames == 6
    assert any(warning.startswith("audio stream 1") for warning in written.warnings)


def test_sound_of_a_rate_that_the_encoder_does_not_know(tmp_path):
    clip = make_clip(tmp_path / "a.mkv")
    with av.open(str(clip)) as there, av.open(str(tmp_path / "b.mkv"), "w") as out:
        video = out.add_stream_from_template(there.streams.video[0])
        audio = out.add_stream("pcm_s16le", rate=50000, layout="mono")
        for packet in there.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 10000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 50000, 0, Fraction(1, 50000)
        out.mux(audio.encode(frame))
    written, _ = restyle(tmp_path / "b.mkv", tmp_path / "c.mp4")
    with av.open(str(written.output)) as file:
        assert file.streams.audio[0].rate == 48000
        assert abs(sum(frame.samples for frame in file.decode(audio=0)) / 48000 - 0.2) < 0.05


def test_more_frames_a_second_than_matroska_tells_apart_are_refused_before_the_work(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 5, 10, 15], last_duration=5)
    with pytest.raises(SettingsError, match="Matroska holds at most 1000 frames a second, these are 3072") as caught:
        restyle(clip, tmp_path / "b.mkv")
    assert caught.value.fix == "use --every 4, or another format such as .mp4"
    assert restyle(clip, tmp_path / "b.mp4")[0].delivery.ok


def test_the_same_pictures_are_encoded_alike(tmp_path):
    """A part of x264's rate control gives other bytes from run to run; it is off."""
    noise = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(320), np.arange(180))
    waves = [127 + 100 * np.sin(x / 5 + index / 3) * np.cos(y / 7 - index / 5) for index in range(10)]
    pictures = [(wave[..., None] + noise.normal(0, 10, (180, 320, 3))).clip(0, 255).astype(np.uint8) for wave in waves]
    even = {"times": range(0, 400, 40), "time_base": MILLISECOND, "last_duration": 40}
    lossless = {"codec": "ffv1", "pixel_format": "bgr0", "tags": None}
    clip = make_clip(tmp_path / "a.mkv", size=(320, 180), pictures=pictures, **even, **lossless)
    kinds = set()
    for _ in range(14):
        restyle(clip, tmp_path / "b.mp4", overwrite=True)
        kinds.add(tuple(read_packets(tmp_path / "b.mp4", "video")))
    assert len(kinds) == 1
