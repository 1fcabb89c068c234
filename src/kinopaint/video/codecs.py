"""What can be written: file endings, codecs, and which goes with which. Names are those of `--codec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from kinopaint.errors import SettingsError, did_you_mean

# File ending -> (FFmpeg muxer, codec by default). Single images have no muxer.
CONTAINERS: Mapping[str, tuple[str | None, str]] = {
    ".mp4": ("mp4", "h264"),
    ".m4v": ("mp4", "h264"),
    ".mov": ("mov", "h264"),
    ".mkv": ("matroska", "h264"),
    ".webm": ("webm", "vp9"),
    ".gif": ("gif", "gif"),
    ".png": (None, "png"),
    ".jpg": (None, "jpeg"),
    ".jpeg": (None, "jpeg"),
    ".webp": (None, "webp"),
}


@dataclass(frozen=True)
class Codec:
    """An encoder and how it is driven.

    `quality` is the option that `--quality` sets, with its default and its range; for the constant-rate-factor codecs
    lower is better, for jpeg and webp higher is. None: the codec has no such setting. `odd_format` is the pixel format
    for sizes with an odd side, where the usual one cannot hold them; `alpha_format` the one that keeps transparency, in
    the muxers of `alpha_muxers`. `deep`: sources of more than 8 bits are written with 10. Pictures narrower than
    `narrowest` pixels are refused, and those that wide if they are as high or higher: x265 writes beyond its memory.
    """

    encoder: str
    muxers: tuple[str | None, ...]
    pixel_format: str
    odd_format: str
    quality: tuple[str, int, range] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    no_b_frames: Mapping[str, str] = field(default_factory=dict)
    tag: str | None = None
    deep: bool = False
    narrowest: int = 1
    alpha_format: str | None = None
    alpha_muxers: tuple[str | None, ...] = ()
    alpha_options: Mapping[str, str] = field(default_factory=dict)

    def pixel_format_for(self, size: tuple[int, int], *, bit_depth: int = 8, alpha: bool = False) -> str:
        if alpha and self.alpha_format:
            return self.alpha_format
        name = self.odd_format if size[0] % 2 or size[1] % 2 else self.pixel_format
        return f"{name}10le" if self.deep and bit_depth > 8 else name


PICTURES = ("png", "jpeg", "webp")  # one file per picture
CODECS: Mapping[str, Codec] = {
    "h264": Codec(
        "libx264",
        ("mp4", "mov", "matroska"),
        "yuv420p",
        "yuv444p",  # 4:2:0 H.264 cannot be cropped to an odd size
        ("crf", 18, range(52)),
        # Its macroblock tree comes out differently from run to run, at any size and with one thread, too.
        {"preset": "medium", "mbtree": "0"},
        {"bf": "0"},
    ),
    "h265": Codec(
        "libx265",
        ("mp4", "mov", "matroska"),
        "yuv420p",
        "yuv444p",
        ("crf", 20, range(52)),
        {"preset": "medium", "x265-params": "log-level=none"},
        {"x265-params": "log-level=none:bframes=0"},
        tag="hvc1",  # the only tag that Apple's players take
        deep=True,
        narrowest=64,
    ),
    "av1": Codec(
        "libsvtav1",
        ("mp4", "matroska", "webm"),
        "yuv420p",
        "yuv420p",
        ("crf", 24, range(1, 64)),
        {"preset": "8"},
        deep=True,
    ),
    "vp9": Codec(
        "libvpx-vp9",
        ("webm", "matroska", "mp4"),
        "yuv420p",
        "yuv420p",
        ("crf", 24, range(64)),
        {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        alpha_format="yuva420p",
        alpha_muxers=("webm", "matroska"),
    ),
    "prores": Codec(
        "prores_ks",
        ("mov", "matroska"),
        "yuv422p10le",
        "yuv444p10le",
        options={"profile": "hq"},
        alpha_format="yuva444p10le",
        alpha_muxers=("mov", "matroska"),
        alpha_options={"profile": "4444", "alpha_bits": "16"},
    ),
    "ffv1": Codec(
        "ffv1",
        ("matroska",),
        "bgr0",
        "bgr0",
        options={"level": "3", "slicecrc": "1"},
        alpha_format="bgra",
        alpha_muxers=("matroska",),
    ),
    "gif": Codec(
        "gif",
        ("gif",),
        "pal8",
        "pal8",
        # What a frame shares with the one before is found by palette numbers, whatever the palette of that one was.
        options={"gifflags": "0"},
        alpha_format="pal8",
        alpha_muxers=("gif",),
    ),
    "png": Codec("png", (None,), "rgb24", "rgb24", alpha_format="rgba", alpha_muxers=(None,)),
    "jpeg": Codec("jpeg", (None,), "yuvj444p", "yuvj444p", ("quality", 95, range(1, 101))),
    "webp": Codec(
        "webp", (None,), "rgb24", "rgb24", ("quality", 95, range(1, 101)), alpha_format="rgba", alpha_muxers=(None,)
    ),
}

# What each muxer takes of the sound without re-encoding, and what it gets otherwise.
AUDIO_COPIED: Mapping[str, frozenset[str] | None] = {
    "mp4": frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac"}),
    "mov": frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"}),
    "matroska": None,  # anything
    "webm": frozenset({"opus", "vorbis"}),
}
AUDIO_ENCODER: Mapping[str, str] = {"mp4": "aac", "mov": "aac", "matroska": "flac", "webm": "libopus"}
SUBTITLES_COPIED: Mapping[str, frozenset[str] | None] = {
    "mp4": frozenset({"mov_text"}),
    "mov": frozenset({"mov_text"}),
    "matroska": frozenset({"subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}),
    "webm": frozenset({"webvtt"}),
}
SUBTITLE_ENCODER: Mapping[str, str] = {"mp4": "mov_text", "mov": "mov_text", "matroska": "subrip", "webm": "webvtt"}


def choose_codec(path: str | PathLike[str], codec: str = "auto", quality: int | None = None) -> str:
    """The codec's name for this output, checked against the file ending and the quality. Opens nothing.

    A name without ending is a folder for single pictures if the codec is one of PICTURES.
    Raises SettingsError: KP-SETTING-FORMAT for an unknown ending, KP-SETTING-CODEC for an unknown codec or one that the
    container cannot hold, KP-SETTING-QUALITY.
    """
    ending = Path(path).suffix.lower()
    folder = not ending and codec in PICTURES
    if ending not in CONTAINERS and not folder:
        raise SettingsError(
            "KP-SETTING-FORMAT",
            f"the ending {ending!r} names no format that can be written" if ending else "the output has no file ending",
            where=Path(path).name,
            fix=f"use one of {', '.join(CONTAINERS)}; for single pictures name/%04d.png",
        )
    muxer, name = CONTAINERS.get(ending, (None, codec))
    if codec != "auto":
        name = codec
    if name not in CODECS:
        raise SettingsError(
            "KP-SETTING-CODEC", f"unknown codec {codec!r}", where="--codec", fix=did_you_mean(codec, ["auto", *CODECS])
        )
    if muxer not in CODECS[name].muxers or (muxer is None and not folder and CONTAINERS[ending][1] != name):
        endings = [e for e, (m, default) in CONTAINERS.items() if m in CODECS[name].muxers and (m or default == name)]
        raise SettingsError(
            "KP-SETTING-CODEC",
            f"a {ending} file cannot hold {name}",
            where="--codec",
            fix=f"use {' or '.join(endings)} for {name}, or --codec auto",
        )
    if quality is not None:
        scale = CODECS[name].quality
        if scale is None:
            raise SettingsError(
                "KP-SETTING-QUALITY", f"{name} has no quality setting", where="--quality", fix="leave it out"
            )
        if not isinstance(quality, int) or quality not in scale[2]:
            best = "higher" if scale[0] == "quality" else "lower"
            raise SettingsError(
                "KP-SETTING-QUALITY",
                f"quality {quality!r} for {name}",
                where="--quality",
                fix=f"a whole number from {scale[2][0]} to {scale[2][-1]}, {best} is better, {scale[1]} by default",
            )
    return name
