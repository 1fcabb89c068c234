import contextlib
import gzip
import os
import socket
import struct
import zipfile
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from clips import make_clip, picture, shared_file

from kinopaint.errors import InputError, KinopaintError
from kinopaint.video.limits import Guard, Limits
from kinopaint.video.opening import open_container
from kinopaint.video.probe import scan
from kinopaint.video.reader import open_here as open_clip

MILLISECOND = Fraction(1, 1000)


def code_of(path, **options):
    with pytest.raises(InputError) as caught, open_clip(path, **options) as clip:
        for _ in clip:
            pass
    assert caught.value.exit_code == 3
    return caught.value.code


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def plain_mp4(path):
    """An MP4 with its index at the end, as cameras write it."""
    return make_clip(path, times=range(0, 51200, 512), options={"crf": "10"})


def test_no_such_file(tmp_path):
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-MISSING"


def test_a_folder(tmp_path):
    assert code_of(tmp_path) == "KP-INPUT-DIRECTORY"


def test_zero_bytes(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-EMPTY"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.mp4", "rtsp://h/a", "pipe:0", "concat:a|b", "data:video/mp4,x", "-"]
)
def test_urls_and_streams(url):
    assert code_of(url) == "KP-INPUT-URL"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no devices on this system")
def test_a_device():
    assert code_of("/dev/zero") == "KP-INPUT-DEVICE"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in this file system")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-DEVICE"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets in this file system")
def test_a_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # socket names must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert code_of("s") == "KP-INPUT-DEVICE"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the system administrator may read all")
def test_no_permission(tmp_path):
    make_clip(tmp_path / "a.mp4").chmod(0)
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-PERMISSION"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"hello world\n" * 50, "text"),
        ("Gr\u00fc\u00dfe ".encode() * 1000, "text"),
        (b"<!DOCTYPE html><html><body>Sign in</body>", "HTML"),
        (b"%PDF-1.7 ...", "PDF"),
        (bytes(range(256)) * 40, "unknown data"),
    ],
)
def test_what_is_not_a_video_is_named(tmp_path, content, kind):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=f"KP-INPUT-NOT-VIDEO.*{kind}"):
        open_clip(tmp_path / "a.mp4")


@pytest.mark.parametrize("ending", [".mp4", ".m3u8", ".ffconcat", ".mkv"])
@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile real.mp4\n",
        "#EXTM3U\n#EXTINF:1,\nreal.mp4\n",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>',
    ],
)
def test_playlists_under_any_name(tmp_path, script, ending):
    make_clip(tmp_path / "real.mp4")
    (tmp_path / f"a{ending}").write_text(script)
    assert code_of(tmp_path / f"a{ending}") == "KP-INPUT-PLAYLIST"


def test_a_concat_script_without_its_first_line(tmp_path):
    make_clip(tmp_path / "real.mp4")
    (tmp_path / "a.ffconcat").write_text("file real.mp4\n")
    assert code_of(tmp_path / "a.ffconcat") == "KP-INPUT-NOT-VIDEO"


def test_the_demuxers_are_limited_too(tmp_path):
    make_clip(tmp_path / "real.mp4")
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile real.mp4\n")
    with pytest.raises(InputError, match="KP-INPUT-NOT-VIDEO"):
        open_container(tmp_path / "a.ffconcat")


def test_a_numbered_name_does_not_open_the_sequence(tmp_path):
    for name in ("a0.png", "a1.png", "a%d.png"):
        cv2.imwrite(str(tmp_path / name), picture(0))
    assert scan(tmp_path / "a%d.png")[0].frame_count == 1


@pytest.mark.parametrize(
    "head",
    [
        b"\xef\xbb\xbf#EXTM3U\n",
        b"\n \nffconcat version 1.0\n",
        b"[playlist]\nFile1=/etc/passwd",
        b"<ASX version=3>",
        b"<smil>",
        b'<?xml version="1.0" encoding="UTF-8"?><playlist xmlns="http://xspf.org/ns/0/">',
    ],
)
def test_playlists_by_their_first_bytes(tmp_path, head):
    (tmp_path / "a.mp4").write_bytes(head)
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-PLAYLIST"


@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "[Reference]\nRef1=http://127.0.0.1:9/a.mp4?MSWMExt=.asf\n",
        "RTSPtextRTSP://127.0.0.1:9/a\r\n",
        "# a comment\nffconcat version 1.0\nfile real.mp4\n",
        "<svg xmlns='http://www.w3.org/2000/svg'><image href='real.png'/></svg>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_other_texts_that_name_something_else(tmp_path, text, encoding):
    make_clip(tmp_path / "real.mp4")
    (tmp_path / "a.sdp").write_bytes(text.encode(encoding))
    assert code_of(tmp_path / "a.sdp") == "KP-INPUT-NOT-VIDEO"


@pytest.mark.parametrize("name", ["up.mp4", "sub/../up.mp4"])
def test_links_to_what_is_no_file(tmp_path, name):
    (tmp_path / "sub").mkdir()
    for target, code in ((tmp_path / "none", "MISSING"), ("/dev/zero", "DEVICE"), (tmp_path, "DIRECTORY")):
        link = tmp_path / "up.mp4"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert code_of(tmp_path / name) == f"KP-INPUT-{code}"


@pytest.mark.parametrize("head", [b"LZIP\x01", b"MSCF\0\0", b"PK\x05\x06", b"\0" * 0x8001 + b"CD001"])
def test_more_archives(tmp_path, head):
    (tmp_path / "a.mp4").write_bytes(head + bytes(100))
    assert code_of(tmp_path / "a.mp4") == "KP-INPUT-ARCHIVE"


def test_archives(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with zipfile.ZipFile(tmp_path / "b.mp4", "w") as archive:
        archive.write(clip)
    (tmp_path / "c.mp4").write_bytes(gzip.compress(clip.read_bytes()))
    assert code_of(tmp_path / "b.mp4") == "KP-INPUT-ARCHIVE"
    assert code_of(tmp_path / "c.mp4") == "KP-INPUT-ARCHIVE"


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.98])
def test_a_truncated_mp4_without_its_index(tmp_path, share):
    assert code_of(cut(plain_mp4(tmp_path / "a.mp4"), share)) == "KP-INPUT-TRUNCATED"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_truncated_matroska(tmp_path, name, share):
    codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if name == "a.webm" else {}
    clip = make_clip(tmp_path / name, times=range(0, 2000, 40), time_base=MILLISECOND, **codec)
    assert code_of(cut(clip, share)) == "KP-INPUT-TRUNCATED"


def test_allow_damaged_reads_what_a_truncated_file_holds(tmp_path):
    clip = cut(make_clip(tmp_path / "a.mkv", times=range(0, 2000, 40), time_base=MILLISECOND), 0.6)
    with open_clip(clip, allow_damaged=True) as frames:
        count = sum(1 for _ in frames)
    assert 10 < count < 50
    assert any(warning.startswith("truncated: ") for warning in frames.warnings)


def test_a_truncated_gif_and_png(tmp_path):
    make_clip(tmp_path / "a.gif", codec="gif", pixel_format="rgb8", tags=None)
    assert code_of(cut(tmp_path / "a.gif", 0.9)) == "KP-INPUT-TRUNCATED"
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    assert code_of(cut(tmp_path / "a.png", 0.9)) == "KP-INPUT-TRUNCATED"


def test_flipped_bytes_are_never_delivered_short_in_silence(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", times=range(0, 2000, 40), time_base=MILLISECOND, options={"g": "10"})
    data = bytearray(clip.read_bytes())
    for position in range(len(data) // 4, len(data) * 3 // 4, 97):
        data[position] ^= 0xFF
    clip.write_bytes(data)
    try:
        with open_clip(clip) as frames:
            count = sum(1 for _ in frames)
    except InputError:
        return
    assert count == 50 or frames.warnings


def test_sound_only(tmp_path):
    make_clip(tmp_path / "a.mp4", audio=["aac"])
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as out:
        target = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = target
                out.mux(packet)
    assert code_of(tmp_path / "b.mp4") == "KP-INPUT-AUDIO-ONLY"


def test_a_song_with_its_cover_is_sound_only(tmp_path):
    make_clip(tmp_path / "a.mp4", audio=["aac"])
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 16
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        target = out.add_stream_from_template(source.streams.audio[0])
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8)).reformat(format="yuvj420p")))
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = target
                out.mux(packet)
    assert code_of(tmp_path / "b.mp4") == "KP-INPUT-AUDIO-ONLY"


def test_no_frames(tmp_path):
    assert code_of(make_clip(tmp_path / "a.avi", codec="mpeg4", times=[])) == "KP-INPUT-NO-FRAMES"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_header_without_anything_behind_it(tmp_path, name):
    assert code_of(make_clip(tmp_path / name, times=[])) in ("KP-INPUT-TRUNCATED", "KP-INPUT-DAMAGED")


def test_an_animated_webp_is_not_called_damaged(tmp_path):
    clip = make_clip(tmp_path / "a.webp", codec="libwebp_anim", tags=None)
    with pytest.raises(InputError, match=r"(?s)KP-INPUT-CODEC.*animated WebP.*convert it to GIF"):
        open_clip(clip)


@pytest.mark.parametrize(
    ("values", "compression", "found"),
    [
        (np.uint8, cv2.IMWRITE_TIFF_COMPRESSION_JPEG, "compressed as JPEG"),  # FFmpeg decodes it as black
        (np.float32, cv2.IMWRITE_TIFF_COMPRESSION_NONE, "floating-point"),
        (np.int32, cv2.IMWRITE_TIFF_COMPRESSION_LZW, "32 bits a channel"),
    ],
)
def test_a_tiff_that_would_be_decoded_wrongly_is_refused(tmp_path, values, compression, found):
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.tif"), picture(number))
    with open_clip(tmp_path) as clip:
        np.testing.assert_array_equal(next(iter(clip)).image, picture(1)[..., ::-1])
    last = tmp_path / "2.tif"
    cv2.imwrite(str(last), picture(2).astype(values), (cv2.IMWRITE_TIFF_COMPRESSION, compression))
    with pytest.raises(InputError, match=f"KP-INPUT-CODEC.*{found}"):
        open_clip(last)
    with pytest.raises(InputError, match=rf"KP-INPUT-CODEC.*{found}.*\n.*2\.tif"), open_clip(tmp_path) as clip:
        list(clip)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"II+\0\x08\0\0\0" + b"\x10" + bytes(23), "BigTIFF"),
        (b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 262, 3, 1, 8, 0, 0), "Lab colours"),
        (b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 259, 3, 1, 50000, 0, 0), "compression 50000"),
    ],
)
def test_tiffs_of_other_kinds_are_named(tmp_path, head, found):
    (tmp_path / "a.tif").write_bytes(head)
    with pytest.raises(InputError, match=f"KP-INPUT-CODEC.*{found}"):
        open_clip(tmp_path / "a.tif")


def test_a_picture_in_avif_is_read_unless_it_has_several_parts(tmp_path):
    from PIL import Image, features

    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    image = Image.fromarray(picture(0))
    image.save(tmp_path / "a.avif", quality=90)
    with open_clip(tmp_path / "a.avif") as clip:
        (frame,) = clip
    assert np.abs(frame.image.astype(int) - picture(0)).mean() < 4
    assert code_of(cut(tmp_path / "a.avif", 0.8)) == "KP-INPUT-TRUNCATED"
    image.putalpha(128)
    image.save(tmp_path / "b.avif")
    with pytest.raises(InputError, match=r"(?s)KP-INPUT-CODEC.*2 parts.*PNG or JPEG"):
        open_clip(tmp_path / "b.avif")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10000)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"up to 67108864 pixels|60000x60000"):
        open_clip(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["gif", "bmp", "avi", "mkv", "ivf"])
def test_bombs_of_other_kinds(tmp_path, kind):
    """A file of some hundred bytes that asks for gigabytes."""
    small = 64, 48
    codec, pixel_format = {
        "gif": ("gif", "rgb8"),
        "bmp": ("bmp", "bgr24"),
        "avi": ("ffv1", "yuv420p"),
        "mkv": ("ffv1", "yuv420p"),
        "ivf": ("libvpx-vp9", "yuv420p"),
    }[kind]
    clip = make_clip(tmp_path / f"a.{kind}", codec=codec, pixel_format=pixel_format, times=[0], tags=None)
    data = clip.read_bytes()
    written = {
        "gif": (struct.pack("<HH", *small), struct.pack("<HH", 65535, 65535)),
        "bmp": (struct.pack("<ii", *small), struct.pack("<ii", 60000, 60000)),
        "avi": (struct.pack("<II", *small), struct.pack("<II", 60000, 60000)),
        "mkv": (b"\xb0\x81\x40\xba\x81\x30", None),
        "ivf": (struct.pack("<HH", *small), struct.pack("<HH", 65535, 65535)),
    }[kind]
    if kind == "mkv":  # the same number of bytes, so the sizes of the elements around stay right
        assert data.count(written[0]) == 1
        data = data.replace(written[0], b"\xb0\x82\xff\xff\xba\x80", 1)
    else:
        assert written[0] in data
        data = data.replace(*written)
    clip.write_bytes(data)
    # Some formats say it twice, and the smaller one counts.
    with contextlib.suppress(InputError), open_clip(clip, allow_damaged=True) as reader:
        assert all(frame.image.size < 2**20 for frame in reader)


def test_a_clip_that_grows_into_a_bomb(tmp_path):
    """The first frame is small, a later one is larger than what is decoded."""
    parts = [
        make_clip(tmp_path / f"{n}.ts", size=size, times=[0, 3600], time_base=Fraction(1, 90000))
        for n, size in enumerate([(64, 48), (640, 480)])
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match=r"KP-INPUT-(DAMAGED|TOO-LARGE)"):
        list(open_clip(tmp_path / "a.ts", guard=Guard(Limits(pixels=64 * 64))))


def test_a_hostile_name_is_escaped_in_the_message(tmp_path):
    name = tmp_path / "a\n\x1b[2Jb.mp4"
    with pytest.raises(InputError) as caught:
        open_clip(name)
    assert "\n" not in caught.value.where
    assert "\x1b" not in caught.value.where


def test_every_odd_file_decodes_or_says_why():
    folder = shared_file("robustness")
    said = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            with open_clip(path) as clip:
                for frame in clip:
                    assert frame.image.shape == (clip.info.height, clip.info.width, 3)
                    break
        except KinopaintError as error:
            said[path.name] = error.code
    assert said == {
        "androidx_invalid-bitstream.webm": "KP-INPUT-DAMAGED",
        "androidx_sample_audio_only.mp4": "KP-INPUT-AUDIO-ONLY",
        "androidx_sample_malformed_free_box.mp4": "KP-INPUT-DAMAGED",
        "cut_big_buck_bunny_first_300kB.webm": "KP-INPUT-TRUNCATED",
        "cut_flower_first_180kB.mp4": "KP-INPUT-TRUNCATED",
        "moviepy_empty_0_bytes.webm": "KP-INPUT-EMPTY",
    }


def test_an_invalid_unit_in_the_middle_is_refused_where_it_is():
    path = shared_file("robustness/androidx_sample_with_invalid_nalu.mp4")
    assert code_of(path) == "KP-INPUT-DAMAGED"
    with open_clip(path, allow_damaged=True) as clip:
        assert sum(1 for _ in clip) == 29
    assert "1 packets could not be decoded" in clip.warnings


def test_damaged_frames_are_counted():
    with open_clip(shared_file("robustness/damaged_bug_60_bytes_flipped.mp4")) as clip:
        assert sum(1 for _ in clip) == 203
    assert any("of 203 frames are damaged" in warning for warning in clip.warnings)
