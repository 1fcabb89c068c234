"""kinopaint probe INPUT"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kinopaint.cli.options import Parser
from kinopaint.cli.progress import clock

if TYPE_CHECKING:
    from kinopaint.video import ClipInfo


def parser(words: Sequence[str]) -> Parser:
    made = Parser("probe", description="Say what a clip is: streams, exact rates, rotation, colour, timing problems.")
    made.add_argument("input", metavar="INPUT", help="a video or a picture, a file on this machine")
    made.add_argument(
        "--json", action="store_true", help="as one JSON object, rates as exact fractions (default: a table)"
    )
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def lines(info: ClipInfo) -> Iterator[tuple[str, str]]:
    shown = f"{info.width}x{info.height}"
    if (info.coded_width, info.coded_height) != (info.width, info.height):
        shown += f" (stored as {info.coded_width}x{info.coded_height})"
    if info.sample_aspect_ratio != 1:
        shown += f", pixels {info.sample_aspect_ratio} as wide as high"
    yield "file", f"{plain(info.path)}, {info.format}, {info.size_bytes} bytes"
    yield "picture", f"{info.codec} {info.pixel_format}, {shown}"
    if info.rotation or info.mirrored:
        yield "turned", f"{info.rotation} degrees clockwise{', then mirrored' if info.mirrored else ''}"
    kind = "variable rate, on average" if info.variable_rate else "constant"
    if not info.is_image:
        yield "frames", f"{info.frame_count}, {clock(float(info.duration))} ({float(info.duration):.3f} s)"
        yield "rate", f"{kind} {info.rate} = {float(info.rate):.3f} per second, clock {info.time_base} s"
        yield "times", f"first {float(info.start):.3f} s, end {float(info.end):.3f} s"
    flags = [f"{info.bit_depth} bit", *(name for name in ("alpha", "interlaced", "hdr") if getattr(info, name))]
    color = info.color
    span = "full" if color.full_range else "limited"
    yield (
        "colour",
        f"{', '.join(flags)}; {color.matrix} {span} range, primaries {color.primaries}, transfer {color.transfer}",
    )
    for stream in info.streams:
        if stream.kind != "video" or stream.index != info.video_index:
            details = [stream.kind, stream.codec or "unknown codec", f"{stream.packets} packets"]
            details += [f"{stream.sample_rate} Hz, {stream.channels} channels"] if stream.sample_rate else []
            details += [plain(text) for text in (stream.language, stream.title) if text]
            yield f"stream {stream.index}", ", ".join(details)
    if info.chapters:
        yield "chapters", str(info.chapters)
    for problem in info.problems:
        yield "problem", plain(problem)


def plain(text: str) -> str:
    """Text from a file, safe on a terminal: control characters are shown as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run(given: argparse.Namespace) -> int:
    from kinopaint.video import probe

    info = probe(given.input)
    if given.json:
        print(json.dumps(info.as_dict(), indent=2))
    else:
        for name, value in lines(info):
            print(f"{name:<10} {value}")
    return 0
