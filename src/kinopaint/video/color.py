"""Colour in, colour out: decoded frames to full-range 8-bit RGB by their tags, and RGB to tagged BT.709.

Untagged YUV is read as BT.601 below 720 lines and as BT.709 from there on, limited range: what players do.
RGB, palette and grey pictures need no matrix. Results are display RGB with BT.709 (sRGB) primaries.

HDR (PQ, HLG) is tone-mapped by this rule: the signal becomes light relative to 203 cd/m2 (reference white of
ITU-R BT.2408; HLG with the system gamma 1.2 of a 1000 cd/m2 display, BT.2100); BT.2020 primaries become BT.709 by
the matrix of BT.2087; the largest channel x is bent above 0.7 to 0.7 + 0.3 (1 - exp(-(x - 0.7) / 0.3)) and the others
with it, which keeps the hue; then the display curve of BT.1886 (gamma 2.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from kinopaint.errors import InputError
from kinopaint.video.frame import Alpha, Image

# Without these flags swscale drops chroma precision and its results are biased by up to 3 levels.
# PyAV names only some of swscale's constants before version 18, so here are their numbers:
# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND | SWS_BITEXACT, and the SWS_CS matrices.
_PRECISE = 0x4 | 0x2000 | 0x40000 | 0x80000
_SWSCALE = {"bt709": 1, "fcc": 4, "bt601": 5, "smpte240m": 7, "bt2020": 9}

# ITU-T H.273 numbers, as FFmpeg uses them; 1 is BT.709 in all three tables.
BT709 = 1
_MATRICES = {
    0: "rgb", 1: "bt709", 2: "unspecified", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 8: "ycgco",
    9: "bt2020", 10: "bt2020-constant", 11: "ydzdx", 14: "ictcp",
}  # fmt: skip
_PRIMARIES = {
    1: "bt709", 2: "unspecified", 4: "bt470m", 5: "bt601-625", 6: "bt601-525", 7: "smpte240m", 8: "film",
    9: "bt2020", 10: "xyz", 11: "dci-p3", 12: "display-p3", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    1: "bt709", 2: "unspecified", 4: "gamma22", 5: "gamma28", 6: "bt601", 7: "smpte240m", 8: "linear", 9: "log",
    10: "log-sqrt", 11: "xvycc", 12: "bt1361", 13: "srgb", 14: "bt2020-10", 15: "bt2020-12", 16: "pq", 17: "smpte428",
    18: "hlg",
}  # fmt: skip


@dataclass(frozen=True)
class ColorTags:
    """How a picture's numbers mean colours. `assumed` names the rule wherever a tag was missing, else empty."""

    matrix: str
    full_range: bool
    primaries: str
    transfer: str
    assumed: str = ""

    @property
    def hdr(self) -> str | None:
        """Which HDR transfer it is: "pq", "hlg" or None."""
        return self.transfer if self.transfer in ("pq", "hlg") else None


_WHITE = 255 << 8  # of 16-bit RGB, where the scaler made it from limited range

DELIVERED = ColorTags("bt709", False, "bt709", "bt709")


def color_tags(frame: av.VideoFrame) -> ColorTags:
    """The tags of a decoded frame, with the rule of this module where they are missing."""
    primaries = _PRIMARIES.get(int(frame.color_primaries), "unspecified")
    transfer = _TRANSFERS.get(int(frame.color_trc), "unspecified")
    if frame.format.is_rgb or frame.format.has_palette:
        return ColorTags("rgb", True, primaries, transfer)
    full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    if len(frame.format.components) < 3:
        return ColorTags("grey", full or frame.color_range == ColorRange.UNSPECIFIED, primaries, transfer)
    matrix, assumed = _MATRICES.get(int(frame.colorspace), "unspecified"), ""
    if matrix in ("unspecified", "rgb"):
        wide = primaries == "bt2020" or transfer in ("pq", "hlg")
        matrix = "bt2020" if wide else "bt601" if frame.height < 720 else "bt709"
        lines = "fewer than" if matrix == "bt601" else "at least"
        reason = "the other tags say BT.2020" if wide else f"the picture has {lines} 720 lines"
        assumed = f"no matrix tag: {matrix}, because {reason}"
    return ColorTags(matrix, full, primaries, transfer, assumed)


class ToRgb:
    """Converts decoded frames of one clip to 8-bit RGB; keeps the scaler's tables from frame to frame."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, tags: ColorTags) -> tuple[Image, Alpha | None]:
        """Full-range RGB as displayed on white, without rotation, and the transparency if there is any.

        Raises InputError (KP-INPUT-COLOR) for matrices that no player of ordinary video handles.
        """
        wide, alpha = bool(tags.hdr) or tags.primaries == "bt2020", None
        if has_alpha(frame.format):
            rgba = self._to_8_bits(frame, tags, "rgba")
            image, alpha = np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3])
        elif not wide:
            image = self._to_8_bits(frame, tags, "rgb24")
        if wide:
            image = to_bt709(self._to_16_bits(frame, tags), tags)
        if alpha is None or alpha.min() == 255:
            return image, None
        return on_white(image, alpha), alpha

    def _to_8_bits(self, frame: av.VideoFrame, tags: ColorTags, pixel_format: str) -> NDArray[np.uint8]:
        levels = _levels(frame.format, tags)
        if levels == (0, _WHITE):
            return self._convert(frame, tags, pixel_format)
        # On the way to 8 bits the scaler only drops bits here: what is rounded well elsewhere comes out too bright.
        deep = self._convert(frame, tags, {"rgb24": "rgb48le", "rgba": "rgba64le"}[pixel_format])
        return _stretched(deep, *levels, 255).astype(np.uint8)

    def _to_16_bits(self, frame: av.VideoFrame, tags: ColorTags) -> NDArray[np.uint16]:
        """RGB with white at 65280 = 255 * 256."""
        deep, levels = self._convert(frame, tags, "rgb48le"), _levels(frame.format, tags)
        return deep if levels == (0, _WHITE) else _stretched(deep, *levels, _WHITE).astype(np.uint16)

    def _convert(self, frame: av.VideoFrame, tags: ColorTags, pixel_format: str) -> NDArray[np.uint8 | np.uint16]:
        if tags.matrix not in ("rgb", "grey", *_SWSCALE):
            raise InputError(
                "KP-INPUT-COLOR",
                f"the colour matrix {tags.matrix} is not supported",
                fix="convert the clip to BT.709 first (ffmpeg -vf colorspace=bt709)",
            )
        matrix = _SWSCALE.get(tags.matrix, _SWSCALE["bt601"])
        converted = self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if tags.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_PRECISE,
        )
        return np.ascontiguousarray(converted.to_ndarray())


class FromRgb:
    """Converts 8-bit RGB, or RGBA, to frames of one pixel format, in limited-range BT.709 unless that is RGB itself."""

    def __init__(self, pixel_format: str) -> None:
        self._reformatter, self._format = VideoReformatter(), pixel_format
        self._is_rgb = av.VideoFormat(pixel_format).is_rgb

    def __call__(self, image: Image) -> av.VideoFrame:
        given = "rgba" if image.shape[2] == 4 else "rgb24"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=given)
        if self._format != given:
            frame = self._reformatter.reformat(
                frame,
                format=self._format,
                dst_colorspace=BT709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.JPEG if self._is_rgb else ColorRange.MPEG,
                interpolation=_PRECISE,
            )
        if not self._is_rgb:
            # Some encoders tag the file from the frame, others from the stream.
            frame.colorspace, frame.color_range = BT709, ColorRange.MPEG
            frame.color_primaries = frame.color_trc = BT709
        return frame


def on_white(image: Image, alpha: Alpha) -> Image:
    """What is seen of the picture on a white ground."""
    opaque = alpha[..., None].astype(np.uint16)
    return ((image * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)


def off_white(image: Image, alpha: Alpha) -> Image:
    """The inverse of `on_white`: colours that with `alpha` look like `image` on white; white where all is transparent.

    A painted colour darker than its transparency allows becomes the darkest that is possible.
    """
    opaque = np.maximum(alpha, 1)[..., None].astype(np.int32)
    straight = (255 * (image.astype(np.int32) - (255 - opaque)) + opaque // 2) // opaque
    return np.where(alpha[..., None] == 0, 255, np.clip(straight, 0, 255)).astype(np.uint8)


def _levels(pixel_format: av.VideoFormat, tags: ColorTags) -> tuple[int, int]:
    """Where the scaler puts black and white in 16-bit RGB.

    It takes all grey for full range. The bits of full range it fills up with zeros, those of RGB not.
    """
    if tags.matrix == "grey" and not tags.full_range:
        return 16 << 8, 235 << 8
    bits = max(component.bits for component in pixel_format.components)
    if bits <= 8 or not tags.full_range:
        return 0, _WHITE
    return 0, 65535 if tags.matrix == "rgb" or bits > 16 else ((1 << bits) - 1) << (16 - bits)


def _stretched(deep: NDArray[np.uint16], black: int, white: int, peak: int) -> NDArray[np.uint32]:
    """16-bit RGB with these levels, and transparency from 0 on if there is any, as values from 0 to `peak`."""
    channels = deep.shape[2]
    blacks = np.array([black, black, black, 0][:channels], np.uint32)
    spans = np.array([white, white, white, 65535][:channels], np.uint32) - blacks
    return np.minimum(((np.maximum(deep, blacks) - blacks) * peak + spans // 2) // spans, peak)


def has_alpha(pixel_format: av.VideoFormat) -> bool:
    return pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components)


def to_bt709(rgb: NDArray[np.uint16], tags: ColorTags) -> Image:
    """SDR BT.709 from 16-bit RGB (white at 65280) with BT.2020 primaries, PQ or HLG: the rule of this module."""
    light = _to_light(tags.hdr or "sdr")[rgb]
    if tags.hdr == "hlg":
        luminance = cv2.transform(light, np.array([[0.2627, 0.6780, 0.0593]], np.float32))
        light *= (1000 / 203 * np.maximum(luminance, 1e-6) ** 0.2).reshape(*light.shape[:2], 1)
    if tags.primaries in ("bt2020", "unspecified"):
        light = cv2.transform(light, _BT2020_TO_BT709)
    light = np.maximum(light, 0)
    if tags.hdr:
        peak = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
        bent = np.where(peak > 0.7, 0.7 + 0.3 * (1 - np.exp(-(peak - 0.7) / 0.3)), peak)
        light *= bent / peak
    return np.rint(cv2.pow(np.minimum(light, 1), 1 / 2.4) * 255).astype(np.uint8)


_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)


@lru_cache(maxsize=3)
def _to_light(transfer: str) -> NDArray[np.float32]:
    """Table over 16-bit signals: light, 1 = reference white (for HLG scene light, 1 = peak)."""
    signal = np.minimum(np.arange(65536) / 65280, 1)
    if transfer == "pq":
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return (light * 10000 / 203).astype(np.float32)
    if transfer == "hlg":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    return (signal**2.4).astype(np.float32)
