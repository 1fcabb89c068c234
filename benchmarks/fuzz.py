"""Mutated clips of every format through reader and writer: no hang, no crash, no traceback, no half result.

    python benchmarks/fuzz.py                    2,000 mutants, each in a decoding process: ten minutes on one core
    python benchmarks/fuzz.py --here             decoded in the process that copies them: half a minute
    python benchmarks/fuzz.py --only 1234        one of them again, with the traceback if there is one

Each mutant is read and copied, sound included, into a new clip. It must end in one of two ways:
the copy is delivered, or a Kinopaint error says why not and nothing stands under the copy's name. The tests run the
first hundred (tests/video/test_fuzz.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from kinopaint.errors import InternalError, KinopaintError
from kinopaint.video import ClipReader, Limits, open_clip, open_writer
from kinopaint.video.limits import Guard
from kinopaint.video.reader import open_here

LIMITS = Limits(pixels=2**20, frames=2000, memory=2 * 2**30, seconds=20)
PATIENCE = 180  # seconds for one mutant, all in all
SIZE = (64, 48)

# Name, codec, pixel format, sound, options of the encoder, options of the container.
SOURCES: list[tuple[str, str, str, str, dict[str, str], dict[str, str]]] = [
    ("h264.mp4", "libx264", "yuv420p", "aac", {"bf": "2", "g": "4"}, {}),
    ("fragments.mp4", "libx264", "yuv420p", "aac", {"g": "4"}, {"movflags": "frag_keyframe+empty_moov"}),
    ("h265.mp4", "libx265", "yuv420p10le", "", {"x265-params": "log-level=none"}, {}),
    ("av1.mp4", "libsvtav1", "yuv420p", "", {"preset": "12", "svtav1-params": "logical-processors=1"}, {}),
    ("h264.mkv", "libx264", "yuv444p", "libopus", {"g": "3"}, {}),
    ("ffv1.mkv", "ffv1", "yuv422p10le", "flac", {}, {}),
    ("vp8.webm", "libvpx", "yuv420p", "libopus", {"cpu-used": "8"}, {}),
    ("vp9.webm", "libvpx-vp9", "yuva420p", "libopus", {"cpu-used": "8"}, {}),
    ("prores.mov", "prores_ks", "yuva444p10le", "pcm_s16le", {}, {}),
    ("qtrle.mov", "qtrle", "argb", "", {}, {}),
    ("mpeg4.avi", "mpeg4", "yuv420p", "mp3", {"bf": "1"}, {}),
    ("mjpeg.avi", "mjpeg", "yuvj420p", "", {}, {}),
    ("mpeg2.ts", "mpeg2video", "yuv420p", "mp2", {}, {}),
    ("h264.ts", "libx264", "yuv420p", "aac", {}, {}),
    ("mpeg2.mpg", "mpeg2video", "yuv420p", "mp2", {}, {}),
    ("h263.flv", "flv", "yuv420p", "", {}, {}),
    ("wmv.asf", "wmv2", "yuv420p", "", {}, {}),
    ("vp9.ivf", "libvpx-vp9", "yuv420p", "", {"cpu-used": "8"}, {}),
    ("mpeg2.mxf", "mpeg2video", "yuv422p", "", {}, {}),
    ("ffv1.nut", "ffv1", "gray", "", {}, {}),
    ("raw.y4m", "wrapped_avframe", "yuv420p", "", {}, {}),
    ("gif.gif", "gif", "rgb8", "", {}, {}),
    ("apng.apng", "apng", "rgba", "", {}, {}),
    ("one.png", "png", "rgb24", "", {}, {"update": "1"}),
    ("one.jpg", "mjpeg", "yuvj420p", "", {}, {"update": "1"}),
    ("one.webp", "libwebp", "yuv420p", "", {}, {}),
    ("one.bmp", "bmp", "bgr24", "", {}, {"update": "1"}),
    ("one.tiff", "tiff", "rgb24", "", {}, {"update": "1"}),
]


def write_sources(folder: Path) -> list[Path]:
    """One small clip of each format."""
    return [_write(folder / name, *rest) for name, *rest in SOURCES]


def _write(
    path: Path, codec: str, pixel_format: str, sound: str, options: dict[str, str], container: dict[str, str]
) -> Path:
    muxer = {".ts": "mpegts", ".y4m": "yuv4mpegpipe", ".mpg": "mpeg"}.get(path.suffix)
    with av.open(str(path), "w", format=muxer, container_options=container) as out:
        rate = 25
        video = out.add_stream(codec, rate=rate, options=options)
        video.width, video.height = SIZE
        video.pix_fmt = pixel_format
        audio = out.add_stream(sound, rate=48000, layout="mono") if sound else None
        x, y = np.meshgrid(np.linspace(0, 200, SIZE[0]), np.linspace(0, 55, SIZE[1]))
        for index in range(1 if path.stem == "one" else 12):
            image = np.stack([np.roll(x + y, 5 * index, 1), x, 255 - x], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            for block in range(20):
                tone = np.sin(np.arange(1024)[None] * 0.05 + block)
                whole = audio.codec_context.format.name.startswith("s16")
                data = (tone * 3000).astype(np.int16) if whole else (tone * 0.1).astype(np.float32)
                part = av.AudioFrame.from_ndarray(data, format="s16" if whole else "fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48000, 1024 * block, Fraction(1, 48000)
                out.mux(audio.encode(part))
            if sound != "flac":  # its last packet is not one that Matroska takes
                out.mux(audio.encode(None))
    return path


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """The same file, damaged in one to three ways."""
    for _ in range(int(rng.integers(1, 4))):
        data = bytes(_DAMAGES[rng.integers(len(_DAMAGES))](bytearray(data), rng)) or b"\0"
    return data


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Anywhere, and every third time in the first 512 bytes, where headers are."""
    return int(rng.integers(min(len(data), 512 if rng.random() < 0.33 else len(data))))


def _flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(int(rng.integers(1, 12))):
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def _overwrite(data: bytearray, rng: np.random.Generator) -> bytearray:
    place, length = _place(data, rng), int(rng.integers(1, 64))
    data[place : place + length] = rng.bytes(min(length, len(data) - place))
    return data


def _extreme(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A number that a parser would rather not meet."""
    numbers = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01")
    place = _place(data, rng)
    data[place : place + 4] = numbers[rng.integers(len(numbers))][: len(data) - place]
    return data


def _drop(data: bytearray, rng: np.random.Generator) -> bytearray:
    place = _place(data, rng)
    del data[place : place + int(rng.integers(1, 200))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    place, length = _place(data, rng), int(rng.integers(1, 2000))
    data[place:place] = data[place : place + length]
    return data


def _truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(len(data) * rng.uniform(0.2, 1))]


_DAMAGES: list[Callable[[bytearray, np.random.Generator], bytearray]] = [
    *(3 * [_flip]),
    _overwrite,
    _extreme,
    _drop,
    _repeat,
    _truncate,
]


class Outcome(NamedTuple):
    """`said` is "delivered" or the code of the refusal; `fault` what must not be, empty if nothing."""

    number: int
    name: str
    opened: bool
    said: str
    seconds: float
    fault: str = ""


Open = Callable[[Path], ClipReader]


def open_in_this_process(path: Path) -> ClipReader:
    return open_here(path, guard=Guard(LIMITS), allow_damaged=True)


def open_isolated(path: Path) -> ClipReader:
    return open_clip(path, limits=LIMITS, allow_damaged=True)


def outcome_of(number: int, seed: int, sources: list[Path], folder: Path, opening: Open = open_isolated) -> Outcome:
    """Make mutant `number`, copy it, and look at what is left in the folder."""
    source = sources[number % len(sources)]
    # Matroska takes any sound as it is; for MP4 some has to be decoded.
    target = folder / ("copy.mkv", "copy.mp4")[number // len(sources) % 2]
    mutant = folder / f"mutant{source.suffix}"
    mutant.write_bytes(mutate(source.read_bytes(), np.random.default_rng([seed, number])))
    opened, fault, begin = False, "", time.monotonic()
    try:
        with opening(mutant) as clip:
            opened = True
            with open_writer(target, source=clip.info) as writer:
                for frame in clip:
                    writer.write(frame.image, frame)
                writer.finish()
        said = "delivered"
    except KinopaintError as error:
        said = error.code
        if isinstance(error, InternalError):
            fault = f"{error.what} {error.__cause__ or ''}"
    except MemoryError:  # in the decoding process it is KP-INPUT-LIMIT
        said = "out of memory"
    except Exception as error:
        said, fault = "exception", f"{type(error).__name__}: {error}"
    mutant.unlink()
    left = sorted(path.name for path in folder.iterdir())
    if left != ([target.name] if said == "delivered" else []):
        fault = fault or f"left behind: {left}"
    for name in left:
        (folder / name).unlink()
    return Outcome(number, source.name, opened, said, round(time.monotonic() - begin, 2), fault)


def _work(first: int, end: int, seed: int, opening: Open) -> None:
    """The worker: one JSON line for each mutant."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "work"
        folder.mkdir()
        (Path(root) / "sources").mkdir()
        sources = write_sources(Path(root) / "sources")
        for number in range(first, end):
            print(json.dumps(outcome_of(number, seed, sources, folder, opening)), flush=True)


def outcomes(count: int, seed: int, *, here: bool) -> Iterator[Outcome]:
    """All mutants, in a process that is started again when it crashes or hangs: that is an outcome, too."""
    number = 0
    while number < count:
        command = [sys.executable, __file__, "--worker", str(number), str(count), "--seed", str(seed)]
        command += ["--here"] if here else []
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert worker.stdout
        while True:
            watchdog = threading.Timer(PATIENCE, worker.kill)
            watchdog.start()
            line = worker.stdout.readline()
            watchdog.cancel()
            if not line:
                break
            yield Outcome(*json.loads(line))
            number += 1
        code = worker.wait()
        if number < count:
            name = SOURCES[number % len(SOURCES)][0]
            yield Outcome(number, name, False, "died", 0, f"the process ended with {code} (-9: after {PATIENCE} s)")
            number += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--worker", nargs=2, type=int, metavar=("FIRST", "END"), help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help="without a process for decoding")
    given = parser.parse_args()
    opening = open_in_this_process if given.here else open_isolated
    if given.worker:
        _work(*given.worker, given.seed, opening)
        return 0
    if given.only is not None:
        _work(given.only, given.only + 1, given.seed, opening)
        return 0
    told: list[Outcome] = []
    for each in outcomes(given.count, given.seed, here=given.here):
        told.append(each)
        if each.fault or each.seconds > LIMITS.seconds:
            print(each, flush=True)
    report(told)
    return 1 if any(each.fault for each in told) else 0


def report(told: list[Outcome]) -> None:
    opened: dict[str, Any] = Counter(each.name for each in told if each.opened)
    print(f"{len(told)} mutants of {len(SOURCES)} formats, {sum(opened.values())} opened, ", end="")
    print(f"{sum(bool(each.fault) for each in told)} faults, slowest {max(each.seconds for each in told):.1f} s")
    for said, count in Counter(each.said for each in told).most_common():
        print(f"  {count:5} {said}")
    for name, *_ in SOURCES:
        print(f"  {name:14} {opened[name]} of {sum(each.name == name for each in told)} opened")


if __name__ == "__main__":
    sys.exit(main())
