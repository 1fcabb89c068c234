"""Odd clips through reader and writer: rates, lengths, shapes, pixel formats, streams in unusual places."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
from clips import make_clip, picture, read_packets

from kinopaint.errors import SettingsError
from kinopaint.video import open_writer
from kinopaint.video.codecs import CODECS, CONTAINERS, choose_codec
from kinopaint.video.probe import scan
from kinopaint.video.reader import open_here

pytestmark = pytest.mark.usefixtures("in_this_process")


def restyle(source, target, **options):
    with open_here(source) as clip, open_writer(target, source=clip.info, **options) as writer:
        frames = []
        for frame in clip:
            writer.write(frame.image, frame)
            frames.append(frame)
        written = writer.finish()
    with open_here(target) as back:
        return written, frames, list(back)


def difference(frames, back):
    return max(np.abs(a.image.astype(int) - b.image).mean() for a, b in zip(frames, back, strict=True))


RATES = [Fraction(n, 1001) for n in (24000, 30000, 60000)] + [Fraction(1000), Fraction(1, 2), Fraction(7)]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_rates_are_exact_fractions(tmp_path, rate, ending):
    ticks = range(0, 5 * rate.denominator, rate.denominator)
    base = Fraction(1, rate.numerator)
    clip = make_clip(tmp_path / "a.mp4", times=ticks, time_base=base, last_duration=rate.denominator)
    written, frames, back = restyle(clip, tmp_path / f"b{ending}")
    assert [frame.time for frame in frames] == [n / rate for n in range(5)]
    tick = 0 if ending in (".mp4", ".mov") else Fraction(1, 2000)
    assert all(abs(a.time - b.time) <= tick for a, b in zip(frames, back, strict=True))
    if not tick:
        assert scan(written.output)[0].rate == rate
        assert written.delivery.duration == 5 / rate


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".gif"])
def test_a_frame_of_thirty_seconds(tmp_path, ending):
    clip = make_clip(tmp_path / "a.mkv", times=[0, 40, 30040, 30080], time_base=Fraction(1, 1000), last_duration=40)
    assert [frame.time * 1000 for frame in restyle(clip, tmp_path / f"b{ending}")[2]] == [0, 40, 30040, 30080]


def test_a_few_frames_are_decoded_in_their_order(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 512])
    for _ in range(3):  # what was made up came from earlier clips
        restyle(clip, tmp_path / "b.mkv", codec="h265", overwrite=True)
        with av.open(str(tmp_path / "b.mkv")) as file:
            assert all(packet.dts == packet.pts for packet in file.demux(video=0) if packet.size)


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_long_and_short_frames_leave_the_sound_in_mkv_alone(tmp_path, codec):
    times = [0, 24000, 24600, 48600, 49200]  # 40 s, 1 s, and so on
    clip = make_clip(tmp_path / "a.mp4", times=times, time_base=Fraction(1, 600), last_duration=3000, audio=["aac"])
    restyle(clip, tmp_path / "b.mkv", codec=codec)
    before, after = read_packets(clip, "audio"), read_packets(tmp_path / "b.mkv", "audio")
    assert all(abs(a[0] - b[0]) <= Fraction(1, 1000) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
def test_a_clip_of_one_or_two_frames(tmp_path, count, ending):
    clip = make_clip(tmp_path / "a.mp4", times=[0, 512][:count], audio=["aac"])
    written, frames, back = restyle(clip, tmp_path / f"b{ending}")
    assert (written.frames, len(back)) == (count, count)
    assert difference(frames, back) < 5


@pytest.mark.parametrize("size", [(1500, 2), (2, 1200), (3, 400), (8, 8)])
@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_extreme_shapes(tmp_path, size, ending):
    clip = make_clip(tmp_path / "a.mkv", size=size, codec="ffv1", pixel_format="bgr0", tags=None, times=[0, 512])
    _, frames, back = restyle(clip, tmp_path / f"b{ending}")
    assert back[0].image.shape == (size[1], size[0], 3)
    assert difference(frames, back) < 6


FORMATS = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuvj420p", "yuvj444p", "nv12"),
    *("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le", "yuv444p16le"),
    *("rgb24", "bgr24", "rgb565le", "rgba", "bgra", "gbrp", "gbrp10le", "gbrp12le", "rgb48le", "gray", "gray10le"),
    *("gray16le", "yuva420p", "yuva444p10le", "yuyv422", "uyvy422"),
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_pixel_format(tmp_path, name):
    full = name.startswith("yuvj")
    with av.open(str(tmp_path / "a.nut"), "w") as out:
        stream = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, name
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24").reformat(
                format=name, dst_colorspace=5, src_color_range=2, dst_color_range=2 if full else 1
            )
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    written, frames, back = restyle(tmp_path / "a.nut", tmp_path / "b.mp4", codec="h264")
    wanted = [picture(0), picture(1)]
    if name.startswith("gray"):
        wanted = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2) for image in wanted]
    assert max(np.abs(f.image.astype(int) - w).mean() for f, w in zip(frames, wanted, strict=True)) < 4
    assert difference(frames, back) < 4
    assert written.delivery.color.startswith("bt709, limited")


def test_a_palette_is_read(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as out:
        stream = out.add_stream("msrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "pal8"
        image = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
        palette = np.zeros((256, 4), np.uint8)
        palette[:, 0], palette[:, 1] = 255, np.arange(256)  # opaque, more and more red
        frame = av.VideoFrame.from_ndarray((image, palette), format="pal8")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    _, frames, back = restyle(tmp_path / "a.avi", tmp_path / "b.mp4")
    assert frames[0].image[0, [5, 60], 0].tolist() == [5, 60]
    assert difference(frames, back) < 3


def test_times_that_are_missing_are_made_from_the_rate(tmp_path):
    with av.open(str(tmp_path / "a.m2v"), "w", format="mpeg2video") as out:
        stream = out.add_stream("mpeg2video", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(picture(index)).reformat(format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    written, frames, _ = restyle(tmp_path / "a.m2v", tmp_path / "b.mp4")
    assert written.frames == 6
    steps = {b.time - a.time for a, b in pairwise(frames)}
    assert all(abs(step - Fraction(1001, 30000)) < Fraction(1, 1000) for step in steps)


def several(path, order):
    """A file with streams in this order: "v" 64x48, "w" 32x32 marked as default, "a" sound."""
    parts = {
        "v": make_clip(path.with_name("v.mkv")),
        "w": make_clip(path.with_name("w.mkv"), size=(32, 32)),
        "a": make_clip(path.with_name("s.mkv"), audio=["flac"]),
    }
    sources = [av.open(str(parts[kind])) for kind in order]
    with av.open(str(path), "w") as out:
        routes = []
        for kind, source in zip(order, sources, strict=True):
            stream = source.streams.audio[0] if kind == "a" else source.streams.video[0]
            target = out.add_stream_from_template(stream)
            target.disposition = av.stream.Disposition.default if kind == "w" else av.stream.Disposition(0)
            routes.append((source, stream, target))
        for source, stream, target in routes:
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = target
                    out.mux(packet)
    for source in sources:
        source.close()
    return path


@pytest.mark.parametrize(("order", "index", "width"), [("av", 1, 64), ("vw", 1, 32), ("wv", 0, 32), ("vaw", 2, 32)])
def test_the_default_video_is_taken_wherever_it_stands(tmp_path, order, index, width):
    clip = several(tmp_path / "a.mkv", order)
    info, _ = scan(clip)
    assert (info.video_index, info.width) == (index, width)
    written, frames, back = restyle(clip, tmp_path / "b.mkv")
    assert difference(frames, back) < 4
    assert len(written.audio) == order.count("a")
    left = [warning for warning in written.warnings if "only one is painted" in warning]
    assert len(left) == len(order) - order.count("a") - 1


def test_a_change_of_pixel_format_on_the_way_changes_nothing(tmp_path):
    parts = [
        make_clip(tmp_path / f"{n}.ts", pixel_format=name, times=[0, 3600, 7200], time_base=Fraction(1, 90000))
        for n, name in enumerate(["yuv420p", "yuv444p"])
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_here(tmp_path / "a.ts", allow_damaged=True) as clip:
        frames = list(clip)
    assert len(frames) == 6
    assert all(np.abs(f.image.astype(int) - picture(f.index % 3)).mean() < 4 for f in frames)


HOLDS = {
    ".mp4": {"h264", "h265", "av1", "vp9"},
    ".m4v": {"h264", "h265", "av1", "vp9"},
    ".mov": {"h264", "h265", "prores"},
    ".mkv": {"h264", "h265", "av1", "vp9", "prores", "ffv1"},
    ".webm": {"av1", "vp9"},
    ".gif": {"gif"},
    ".png": {"png"},
    ".jpg": {"jpeg"},
    ".jpeg": {"jpeg"},
    ".webp": {"webp"},
}


@pytest.mark.parametrize("ending", CONTAINERS)
@pytest.mark.parametrize("codec", CODECS)
def test_each_pair_of_codec_and_container_is_written_or_refused_with_a_way_out(ending, codec):
    if codec in HOLDS[ending]:
        assert choose_codec(f"a{ending}", codec) == codec
        return
    with pytest.raises(SettingsError, match="KP-SETTING-CODEC") as caught:
        choose_codec(f"a{ending}", codec)
    assert any(codec in HOLDS[other] for other in HOLDS if f"{other} " in caught.value.fix)


@pytest.mark.parametrize(
    ("ending", "codec"), [(e, c) for e, held in HOLDS.items() for c in sorted(held) if e != ".jpeg"]
)
def test_each_pair_is_written_and_checked(tmp_path, ending, codec):
    if CONTAINERS[ending][0] is None:
        cv2.imwrite(str(tmp_path / "a.png"), picture(0)[..., ::-1])
        clip = tmp_path / "a.png"
    else:
        clip = make_clip(tmp_path / "a.mp4", times=[0, 512, 1024], audio=["aac"])
    written, frames, back = restyle(clip, tmp_path / f"b{ending}", codec=codec)
    assert (written.delivery.ok, written.codec) == (True, codec)
    assert difference(frames, back) < 6
    assert len(written.audio) == (clip.suffix == ".mp4" and ending != ".gif")
    assert restyle(clip, tmp_path / f"c{ending}", codec=codec, audio=False)[0].audio == ()
