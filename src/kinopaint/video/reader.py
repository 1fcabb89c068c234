"""Read a clip frame by frame: exact times, rotation applied once, colour by tag, memory that does not grow."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinopaint.errors import InputError, SettingsError
from kinopaint.video.clip import ClipReader, Seen
from kinopaint.video.color import ToRgb, color_tags
from kinopaint.video.deinterlace import deinterlaced
from kinopaint.video.frame import Frame, Image
from kinopaint.video.limits import Guard, Limits
from kinopaint.video.opening import check_source, damaged, find_cut, open_container, short_of_memory, shown, truncated
from kinopaint.video.probe import ClipInfo, codes_alpha, orientation, scan
from kinopaint.video.sequence import FORMAT as SEQUENCE
from kinopaint.video.sequence import ImageSequence, find_sequence
from kinopaint.video.shots import REDUCED, find_cuts
from kinopaint.video.sizing import resize
from kinopaint.video.timecode import Selection, Time, parse_rate

TOLD_EVERY = 0.25  # seconds


def open_here(
    path: str | PathLike[str],
    *,
    start: Time = None,
    end: Time = None,
    every: int = 1,
    fps: Time = None,
    allow_damaged: bool = False,
    guard: Guard | None = None,
) -> FileReader:
    """Open a clip to be decoded in this process: what `isolated.open_clip`, whose arguments and errors these are, does
    in a process of its own.
    """
    selection = Selection.of(start, end, every)
    info, times = scan(path, guard, fps=None if fps is None else parse_rate(fps))
    if info.truncated and not allow_damaged:
        raise truncated(path, info.truncated)
    return FileReader(info, times, selection, allow_damaged=allow_damaged, guard=guard)


class FileReader(ClipReader):
    """Decodes with PyAV in this process."""

    def __init__(
        self,
        info: ClipInfo,
        times: NDArray[np.int64],
        selection: Selection,
        *,
        allow_damaged: bool = False,
        guard: Guard | None = None,
    ) -> None:
        self.info, self.selection, self.allow_damaged = info, selection, allow_damaged
        self.warnings = []
        self._guard = guard or Guard()
        base = info.time_base
        start = None if selection.start is None else info.start + selection.start
        end = None if selection.end is None else info.start + selection.end
        self._first_kept = info.first if start is None else -(-start // base)  # rounded up, in units of the time base
        self._end_kept = None if end is None else -(-end // base)
        last = len(times) if self._end_kept is None else np.searchsorted(times, self._end_kept)
        self.skipped = int(np.searchsorted(times, self._first_kept))
        self.times = times[self.skipped : last]
        if not len(self.times):
            raise SettingsError(
                "KP-SETTING-RANGE",
                f"no frame lies in the chosen range; the clip is {float(info.duration):.3f} s long",
                where=f"--start, --end on {shown(info.path)}",
                fix="choose a range inside the clip",
            )
        self.expected_frames = 1 if info.is_image else -(-len(self.times) // selection.every)
        self.span = (info.start if start is None else start, info.end if end is None else min(end, info.end))
        self._open: list[InputContainer] = []
        self._sequence = find_sequence(info.path) if info.format == SEQUENCE else None
        for note in info.problems:
            self._warn(note)
        if info.interlaced:
            self._warn("interlaced frames are completed from their first field, see kinopaint.video.deinterlace")
        if info.hdr:
            self._warn(f"HDR ({info.hdr.upper()}) is tone-mapped to BT.709, see kinopaint.video.color")
        elif info.bit_depth > 8:
            self._warn(f"{info.bit_depth}-bit pictures are reduced to 8 bits")

    def close(self) -> None:
        for container in self._open:
            container.close()
        self._open.clear()

    def find_cuts(self, seen: Seen | None = None) -> tuple[int, ...]:
        if self.info.is_image:
            return ()
        return tuple(find_cuts(_told(self._reduced(), seen or (lambda count: None)), float(self.info.rate)))

    def _reduced(self) -> Iterator[Image]:
        """All pictures of the range, small and in haste: not turned, and without regard to HDR."""
        scaler = VideoReformatter()
        for picture in self._from_start():
            if self._end_kept is not None and picture.pts is not None and picture.pts >= self._end_kept:
                break
            reduced = scaler.reformat(picture, *REDUCED, "rgb24", interpolation="AREA")
            yield reduced.to_ndarray().astype(np.uint8, copy=False)

    def __iter__(self) -> Iterator[Frame]:
        convert, base = ToRgb(), self.info.time_base
        pending: tuple[av.VideoFrame, int] | None = None  # held back until its duration is known
        in_range = index = corrupt = moved = 0
        previous, end = self.info.first - 1, self.info.start
        for picture in self._from_start():
            pts = picture.pts if picture.pts is not None else previous + 1
            if pts <= previous:
                pts, moved = previous + 1, moved + 1
            if self._end_kept is not None and pts >= self._end_kept:
                break
            corrupt += picture.is_corrupt
            if in_range % self.selection.every == 0:
                if pending is not None:
                    yield self._frame(convert, *pending, index, (pts - pending[1]) * base)
                    index += 1
                pending = picture, pts
            in_range += 1
            step = pts - previous if in_range > 1 else self.info.frame_step or 0
            end = self.info.end if pts == self.info.last else (pts + (picture.duration or step)) * base
            previous = pts
            if self.info.is_image:
                break
        if pending is None:
            raise InputError(
                "KP-INPUT-NO-FRAMES",
                "no frame could be decoded",
                where=shown(self.info.path),
                fix="copy or download the file again",
            )
        if corrupt:
            self._warn(f"{corrupt} of {in_range} frames are damaged")
        if moved:
            self._warn(f"{moved} repeated or backward timestamps were moved forward")
        self._check_count(in_range)
        yield self._frame(convert, *pending, index, end - pending[1] * base or None)

    def _from_start(self) -> Iterator[av.VideoFrame]:
        """Decoded pictures from the first kept one on, in order; jumps there where that is known to be exact."""
        if self._sequence is not None:
            yield from self._pictures(self._sequence)
            return
        wanted = int(self.times[0])
        exact = self.info.format.startswith(("mov", "matroska")) and not self.info.interlaced  # fields need neighbours
        if wanted > self.info.first and exact:
            pictures = deinterlaced(self._decode(seek=wanted), self.info.time_base)
            for picture in pictures:
                if picture.pts is None or picture.pts > wanted:
                    break  # landed too late: the file's index is wrong
                if picture.pts == wanted and not picture.is_corrupt:
                    yield picture
                    yield from pictures
                    return
            pictures.close()
        for picture in deinterlaced(self._decode(), self.info.time_base):
            if picture.pts is None or picture.pts >= self._first_kept:
                yield picture

    def _decode(self, seek: int | None = None) -> Generator[av.VideoFrame, None, None]:
        with open_container(Path(self.info.path), self._guard.limits) as container:
            self._open.append(container)
            stream = container.streams[self.info.video_index]
            decoder = _decoder(stream, self._guard.limits)
            if seek is not None:
                container.seek(seek, stream=stream)
            moment: Fraction | None = None
            lost = 0
            self._guard.start(shown(self.info.path))
            try:
                for packet in container.demux(stream):
                    self._guard.packet()
                    try:
                        pictures = decoder.decode(packet)
                    except av.FFmpegError as error:
                        if isinstance(error, EOFError):  # a flush after the end
                            continue
                        if not self.allow_damaged:
                            if short_of_memory(error):
                                raise MemoryError from None
                            place = "at its start" if moment is None else f"after {float(moment):.3f} s"
                            raise damaged(self.info.path, f"decoding fails ({error.strerror})", f", {place}") from None
                        lost += 1
                        continue
                    for picture in pictures:
                        self._guard.frame()
                        if picture.pts is not None:
                            moment = picture.pts * self.info.time_base - self.info.start
                        yield picture
            except (av.FFmpegError, OSError) as error:  # from reading the file
                if not self.allow_damaged:
                    raise damaged(self.info.path, f"reading fails ({error.strerror})") from None
            finally:
                if container in self._open:
                    self._open.remove(container)
            if lost:
                self._warn(f"{lost} packets could not be decoded")

    def _pictures(self, sequence: ImageSequence) -> Generator[av.VideoFrame, None, None]:
        """The pictures of a sequence from the first kept one on."""
        lost = 0
        self._guard.start(shown(sequence.path))
        for file, place in zip(sequence.files, sequence.places, strict=True):
            if place < self._first_kept:
                continue
            self._guard.packet()
            try:
                picture = _picture(file, self._guard.limits)
            except InputError:
                if not self.allow_damaged:
                    raise
                lost += 1
                continue
            picture.pts, picture.time_base = place, self.info.time_base
            yield picture
        if lost:
            self._warn(f"{lost} pictures could not be read")

    def _frame(self, convert: ToRgb, picture: av.VideoFrame, pts: int, index: int, duration: Fraction | None) -> Frame:
        info = self.info
        try:
            # Tags may appear on later frames only, or change on the way.
            image, alpha = convert(picture, color_tags(picture))
        except InputError as error:
            error.where = f"{shown(info.path)}, frame {index}"
            raise
        # Of a clip the first frame decides for all; photographs turn one by one.
        turn = orientation(picture) if self._sequence else (info.rotation, info.mirrored)
        image, alpha = turned(image, *turn), None if alpha is None else turned(alpha, *turn)
        if image.shape[:2] != (info.height, info.width):
            self._warn(f"the size changes within the clip; all frames are scaled to {info.width}x{info.height}")
            size = info.width, info.height
            image, alpha = resize(image, size), None if alpha is None else resize(alpha, size)
        if alpha is not None:
            self._warn("transparent parts are painted as if on white")
        return Frame(image, index, pts, info.time_base, duration, alpha)

    def _check_count(self, decoded: int) -> None:
        """Fewer frames than packets: a few may be normal (a broken start), more is damage."""
        missing = len(self.times) - decoded
        if missing <= 0 or self.info.interlaced:  # each field may have its own packet
            return
        if missing > max(2, len(self.times) // 50) and not self.allow_damaged:
            raise damaged(self.info.path, f"only {decoded} of {len(self.times)} frames can be decoded")
        self._warn(f"only {decoded} of {len(self.times)} frames can be decoded")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _told(pictures: Iterator[Image], seen: Seen) -> Iterator[Image]:
    last = time.monotonic()
    for count, picture in enumerate(pictures, 1):
        yield picture
        if time.monotonic() - last > TOLD_EVERY:
            last = time.monotonic()
            seen(count)


def turned(image: Image, rotation: int, mirrored: bool) -> Image:
    """The picture as shown: turned clockwise by `rotation` degrees (a multiple of 90), then mirrored left to right."""
    image = np.rot90(image, -(rotation // 90))
    return np.ascontiguousarray(image[:, ::-1] if mirrored else image)


def _picture(file: Path, limits: Limits) -> av.VideoFrame:
    """One picture of a sequence. Raises InputError that names the file."""
    with open_container(check_source(file), limits) as container:
        if cut := find_cut(file):
            raise truncated(file, cut.found)
        try:
            return next(container.decode(video=0))
        except (av.FFmpegError, StopIteration, IndexError):
            raise damaged(file, "the picture cannot be decoded") from None


def _decoder(stream: VideoStream, limits: Limits) -> av.VideoCodecContext:
    """The stream's own decoder, except where FFmpeg's native one would drop the alpha channel."""
    name = stream.codec_context.name
    if codes_alpha(stream) and name in ("vp8", "vp9"):
        decoder = av.CodecContext.create("libvpx" if name == "vp8" else "libvpx-vp9", "r")
        decoder.options = {"max_pixels": str(limits.pixels)}
        decoder.extradata = stream.codec_context.extradata
        return decoder
    # Frame threads conceal damage differently from run to run; slices and a fixed order do not.
    stream.codec_context.thread_type = "SLICE"
    return stream.codec_context
