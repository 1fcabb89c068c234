"""Colours against the matrices of ITU-R BT.601, BT.709 and BT.2020, worked out here by their definition."""

from fractions import Fraction

import av
import numpy as np
import pytest
from clips import make_clip, picture

from kinopaint.errors import InputError
from kinopaint.video.color import ColorTags, ToRgb, color_tags
from kinopaint.video.reader import open_here as open_clip

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}  # of red and blue
RED = (200, 30, 30)


def ycbcr(rgb, matrix, *, full=False, bits=8):
    """Y'CbCr code values, not rounded."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    cb, cr = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    scale, peak = 2 ** (bits - 8), 2**bits - 1
    if full:
        return y * peak, cb * peak + 2 ** (bits - 1), cr * peak + 2 ** (bits - 1)
    return (16 + 219 * y) * scale, (128 + 224 * cb) * scale, (128 + 224 * cr) * scale


def first(path):
    with open_clip(path) as clip:
        frame = next(iter(clip))
        return frame.image[5, 5].astype(int), clip


@pytest.mark.parametrize(
    ("matrix", "number", "full", "bits"),
    [
        ("bt709", 1, False, 8),
        ("bt709", 1, True, 8),
        ("bt601", 6, False, 8),
        ("bt601", 5, True, 8),
        ("bt2020", 9, False, 8),
        ("bt709", 1, False, 10),
        ("bt601", 6, False, 12),
    ],
)
def test_colours_are_read_by_their_tags(tmp_path, matrix, number, full, bits):
    name = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    planes = ycbcr(RED, matrix, full=full, bits=bits)
    clip = make_clip(
        tmp_path / "a.mkv", codec="ffv1", pixel_format=name, planes=planes, tags=(number, 2 if full else 1, 1, 1)
    )
    assert np.abs(first(clip)[0] - RED).max() <= 2


def test_subsampled_colours_are_not_shifted(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", planes=ycbcr(RED, "bt709"))
    assert np.abs(first(clip)[0] - RED).max() <= 2


@pytest.mark.parametrize(("height", "matrix"), [(48, "bt601"), (720, "bt709")])
def test_untagged_colours_are_read_by_the_rule(tmp_path, height, matrix):
    clip = make_clip(tmp_path / "a.mp4", size=(32, height), planes=ycbcr(RED, matrix), tags=None, options={"crf": "1"})
    assert np.abs(first(clip)[0] - RED).max() <= 3


def test_ten_bits_are_rounded_not_cut(tmp_path):
    errors = []
    for grey in np.linspace(3, 252, 12):
        planes = ycbcr((grey,) * 3, "bt709", bits=10)
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p10le", planes=planes, times=[0])
        errors.append(first(clip)[0] - grey)
    assert np.abs(errors).max() <= 0.8
    assert abs(np.mean(errors)) < 0.2


def test_reducing_ten_bits_is_said(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p10le", planes=ycbcr(RED, "bt709", bits=10))
    assert "10-bit pictures are reduced to 8 bits" in first(clip)[1].warnings


def test_grey_stays_grey(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="gray", planes=[77], tags=None)
    assert first(clip)[0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("pixel_format", ["gray", "gray10le", "gray12le", "gray16le", "ya8"])
def test_grey_of_limited_range_is_stretched(pixel_format):
    frame = av.VideoFrame(220, 2, pixel_format)
    bits, dtype = (8, np.uint8) if pixel_format in ("gray", "ya8") else (int(pixel_format[4:6]), np.uint16)
    codes = np.arange(16, 236) << (bits - 8)
    rows = np.zeros((2, frame.planes[0].line_size // np.dtype(dtype).itemsize), dtype)
    if pixel_format == "ya8":
        rows[:, 0:440:2], rows[:, 1:440:2] = codes, 128
    else:
        rows[:, :220] = codes
    frame.planes[0].update(rows.tobytes())
    frame.color_range = 1
    image, alpha = ToRgb()(frame, color_tags(frame))
    wanted = np.rint(np.arange(220) * 255 / 219)
    if pixel_format == "ya8":
        assert (alpha == 128).all()
        wanted = (wanted * 128 + 255 * 127 + 127) // 255
    assert np.abs(image[0, :, 1] - wanted).max() <= (1 if pixel_format == "ya8" else 0)


def test_monochrome_h265_is_limited_range_where_it_does_not_say_otherwise(tmp_path):
    options = {"x265-params": "log-level=none"}
    clip = make_clip(
        tmp_path / "a.mkv", size=(128, 64), codec="libx265", pixel_format="gray", planes=[60], tags=None,
        options=options,
    )  # fmt: skip
    assert np.abs(first(clip)[0] - (60 - 16) * 255 / 219).max() <= 1


def test_rgb_is_taken_as_it_is(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgr0", tags=None, times=[0])
    with open_clip(clip) as frames:
        assert np.array_equal(next(iter(frames)).image, picture(0))


@pytest.mark.parametrize(
    "pixel_format", ["gray16le", "gray10le", "gray12le", "gbrp10le", "gbrp12le", "gbrp16le", "rgb48le"]
)
def test_deep_rgb_and_grey_are_rounded_without_bias(pixel_format):
    frame = av.VideoFrame(256, 2, pixel_format)
    peak, values = (1 << frame.format.components[0].bits) - 1, np.arange(256)
    for plane in frame.planes:
        row = np.repeat(np.rint(values * (peak / 255)), 3 if pixel_format == "rgb48le" else 1)
        rows = np.zeros((2, plane.line_size // 2), np.uint16)
        rows[:, : len(row)] = row
        plane.update(rows.tobytes())
    image, _ = ToRgb()(frame, color_tags(frame))
    assert np.array_equal(image[0, :, 1], values)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_deep_full_range_is_rounded_without_bias(bits):
    frame = av.VideoFrame(256, 2, f"yuv444p{bits}le")
    grey = np.rint(np.arange(256) * ((2**bits - 1) / 255))
    for plane, values in zip(frame.planes, (grey, *[np.full(256, 2 ** (bits - 1))] * 2), strict=True):
        rows = np.zeros((2, plane.line_size // 2), np.uint16)
        rows[:, :256] = values
        plane.update(rows.tobytes())
    frame.color_range = 2
    image, _ = ToRgb()(frame, color_tags(frame))
    assert np.array_equal(image[0], np.arange(256)[:, None].repeat(3, 1))


def test_transparent_parts_are_put_on_white(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgra", planes=[0], tags=None, times=[0])
    value, reader = first(clip)
    assert value.tolist() == [255, 255, 255]
    assert "transparent parts are painted as if on white" in reader.warnings


def pq(nits):
    """Inverse EOTF of SMPTE ST 2084."""
    power = (nits / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(("nits", "light"), [(20.3, 0.1), (101.5, 0.5), (203, 0.7 + 0.3 * (1 - np.exp(-1))), (0, 0)])
def test_hdr_grey_follows_the_stated_rule(tmp_path, nits, light):
    code = 64 + 876 * pq(nits)
    clip = make_clip(
        tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p10le", planes=(code, 512, 512), tags=(9, 1, 9, 16)
    )
    value, reader = first(clip)
    assert np.abs(value - 255 * light ** (1 / 2.4)).max() <= 2
    assert any("tone-mapped" in warning for warning in reader.warnings)


def test_full_range_hdr_is_as_bright_as_limited_range():
    images, signal = [], np.linspace(0.2, 0.6, 64)
    for full, luma in ((False, (4096 + 56064 * signal)), (True, 65535 * signal)):
        frame = av.VideoFrame(64, 2, "yuv444p16le")
        for plane, values in zip(frame.planes, (luma, *[np.full(64, 32768)] * 2), strict=True):
            plane.update(np.resize(np.rint(values), plane.buffer_size // 2).astype(np.uint16).tobytes())
        image, _ = ToRgb()(frame, ColorTags("bt2020", full, "bt2020", "pq"))
        images.append(image.astype(int))
    assert abs(np.mean(images[1] - images[0])) < 0.1


def test_hlg_reference_white_is_where_pq_has_it(tmp_path):
    code = 64 + 876 * 0.75  # 75 % signal is 203 cd/m2, ITU-R BT.2408
    clip = make_clip(
        tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p10le", planes=(code, 512, 512), tags=(9, 1, 9, 18)
    )
    assert np.abs(first(clip)[0] - 255 * (0.7 + 0.3 * (1 - np.exp(-1))) ** (1 / 2.4)).max() <= 2


def test_a_matrix_nobody_handles_is_refused(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p", planes=(80, 90, 100), tags=(8, 1, 1, 1))
    with pytest.raises(InputError, match=r"KP-INPUT-COLOR.*ycgco"):
        first(clip)


def test_times_and_colours_do_not_depend_on_each_other(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", time_base=Fraction(1, 1000), times=[0, 1, 2], planes=ycbcr(RED, "bt709"))
    with open_clip(clip) as frames:
        assert [f.pts for f in frames] == [0, 1, 2]
