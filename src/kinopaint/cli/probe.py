"""kinopaint probe INPUT"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from kinopaint.cli.options import Parser
from kinopaint.cli.progress import clock
from kinopaint.cli.progress import shown as progress
from kinopaint.text import shown, to_json

if TYPE_CHECKING:
    from kinopaint.video import ClipInfo, ClipReader


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "probe", description="Say what a clip is: streams, exact rates, rotation, colour, timing problems, shots."
    )
    made.add_argument("input", metavar="INPUT", help="a video or a picture, a file on this machine")
    made.add_argument(
        "--json", action="store_true", help="as one JSON object, rates as exact fractions (default: a table)"
    )
    made.add_argument(
        "--shots",
        default="auto",
        metavar="WHAT",
        help="scene cuts: auto = look for them, which reads the whole clip; off; or a file with one frame number or "
        "time per line (default: auto)",
    )
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def lines(info: ClipInfo) -> Iterator[tuple[str, str]]:
    size = f"{info.width}x{info.height}"
    if (info.coded_width, info.coded_height) != (info.width, info.height):
        size += f" (stored as {info.coded_width}x{info.coded_height})"
    if info.sample_aspect_ratio != 1:
        size += f", pixels {info.sample_aspect_ratio} as wide as high"
    yield "file", f"{shown(info.path)}, {info.format}, {info.size_bytes} bytes"
    yield "picture", f"{info.codec} {info.pixel_format}, {size}"
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
            details += [shown(text) for text in (stream.language, stream.title) if text]
            yield f"stream {stream.index}", ", ".join(details)
    if info.chapters:
        yield "chapters", str(info.chapters)
    for problem in info.problems:
        yield "problem", shown(problem)


def shot_rows(clip: ClipReader, cuts: Sequence[int]) -> list[dict[str, int | float]]:
    """Each shot's first frame, its time in seconds after the clip's first one, and how many frames it has."""
    return [
        {
            "first": first,
            "start_s": float(int(clip.times[first]) * clip.info.time_base - clip.info.start),
            "frames": end - first,
        }
        for first, end in pairwise((0, *cuts, len(clip.times)))
    ]


def run(given: argparse.Namespace) -> int:
    from kinopaint.video import open_clip, probe
    from kinopaint.video.shotlist import kept_cuts, parse_shots

    wanted, shots = parse_shots(given.shots), None
    if wanted == "off":
        info = probe(given.input)
    else:
        with open_clip(given.input, allow_damaged=True) as clip, progress("auto") as listen:
            info = clip.info
            shots = shot_rows(clip, kept_cuts(clip, wanted, listen))
    if given.json:
        print(to_json({**info.as_dict(), "shots": shots}, indent=2))
        return 0
    for name, value in lines(info):
        print(f"{name:<10} {value}")
    if shots and not info.is_image:
        print(f"{'shots':<10} {len(shots)}")
        for shot in shots:
            print(f"{'':<10} from frame {shot['first']} ({shot['start_s']:.3f} s), {shot['frames']} frames")
    return 0
