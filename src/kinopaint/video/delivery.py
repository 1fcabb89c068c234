"""The delivery check: reopen what was written and compare it with what should be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinopaint.errors import InputError
from kinopaint.video.color import DELIVERED
from kinopaint.video.isolated import scan
from kinopaint.video.opening import find_cut, open_container
from kinopaint.video.probe import ClipInfo, StreamInfo
from kinopaint.video.sequence import ImageSequence, find_sequence

COLOR = f"{DELIVERED.matrix}, limited range, primaries {DELIVERED.primaries}, transfer {DELIVERED.transfer}"

# Seconds by which copied sound may begin elsewhere: the rounding of containers. An encoder has blocks of its own, and
# where sound ends is known less well, because not every container says how long the last packet is.
_BEGIN = Fraction(1, 50)
_END = Fraction(1, 4)


@dataclass(frozen=True)
class SoundPlan:
    """One stream of sound: where it begins and ends, in seconds; the number of its packets, None if re-encoded."""

    packets: int | None
    first: Fraction
    end: Fraction


@dataclass(frozen=True)
class OtherStreams:
    """What stands beside the pictures: sound, the number of subtitle streams, and of chapters; no empty streams."""

    audio: tuple[SoundPlan, ...] = ()
    subtitles: int = 0
    chapters: int = 0


@dataclass(frozen=True)
class DeliveryPlan:
    """What the output must hold.

    `first` and `last` are frame times and `duration` the length, in seconds, as in the source, or counted from
    `Target.origin`. `tick` is the container's finest step: times may be off by half of it. How long the last frame is
    shown is kept exactly by few containers, so `duration` has a tolerance of its own. `relative` containers (GIF) start
    at 0 whatever happens.
    `times` are those of all frames, as whole numbers of `time_base` seconds; None where the number of frames is all
    that is stored. `color` is None for RGB codecs.
    """

    frames: int
    first: Fraction
    last: Fraction
    duration: Fraction
    width: int
    height: int
    sample_aspect_ratio: Fraction = Fraction(1)
    alpha: bool = False
    others: OtherStreams = OtherStreams()
    color: str | None = COLOR
    tick: Fraction = Fraction(0)
    duration_tolerance: Fraction = Fraction(1, 1000)
    relative: bool = False
    times: Sequence[int] | None = None
    time_base: Fraction = Fraction(1)


@dataclass(frozen=True)
class DeliveryCheck:
    """What the output holds, measured; `mismatches` are sentences, none of them if the delivery is right."""

    frames: int
    first: Fraction
    last: Fraction
    duration: Fraction
    width: int
    height: int
    audio_packets: tuple[int, ...]
    subtitles: int
    chapters: int
    color: str
    mismatches: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.mismatches

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times as exact fractions "1001/30000", in seconds."""
        exact = {key: str(value) if isinstance(value, Fraction) else value for key, value in asdict(self).items()}
        return {"ok": self.ok, **exact}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeliveryCheck:
        """What `as_dict` gave, also after a way through JSON."""
        kinds = {field.name: str(field.type) for field in fields(cls)}
        read = {
            name: Fraction(value) if kinds[name] == "Fraction" else tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in kinds
        }
        return cls(**read)


def check_delivery(path: str | PathLike[str], plan: DeliveryPlan) -> DeliveryCheck:
    """Reopen the output and compare frames, times, duration, size, sound and colour tags with the plan.

    Never raises for a bad output: what cannot be opened is a mismatch.
    """
    try:
        info, times = scan(path)
    except InputError as error:
        zero = Fraction(0)
        return DeliveryCheck(
            0, zero, zero, zero, 0, 0, (), 0, 0, "", (f"the output cannot be read back: {error.what}",)
        )
    # MP4 leaves out sound without packets, Matroska keeps it; subtitles without a line get an empty packet in MP4.
    sounds = [stream for stream in info.streams_of("audio") if stream.packets]
    subtitles = sum(stream.packets > 0 for stream in info.streams_of("subtitle"))
    audio = tuple(stream.packets for stream in sounds)
    shift = plan.first - info.start if plan.relative else Fraction(0)
    first, last = info.start + shift, info.last * info.time_base + shift
    color = _color(info)
    near = plan.tick / 2
    length = info.is_image or abs(info.duration - plan.duration) <= plan.duration_tolerance
    size, planned_size = f"{info.width}x{info.height}", f"{plan.width}x{plan.height}"
    shape, planned_shape = info.sample_aspect_ratio, plan.sample_aspect_ratio
    wrong = [
        f"{name}: {found} in the output, {wanted} planned"
        for name, found, wanted, equal in (
            ("frames", info.frame_count, plan.frames, info.frame_count == plan.frames),
            ("first time", first, plan.first, abs(first - plan.first) <= near),
            ("last time", last, plan.last, abs(last - plan.last) <= near),
            ("duration", info.duration, plan.duration, length),
            ("size", size, planned_size, size == planned_size),
            ("transparency", info.alpha, plan.alpha, info.alpha or not plan.alpha),
            ("pixel shape", shape, planned_shape, shape == planned_shape),
            ("sound streams", len(sounds), len(plan.others.audio), len(sounds) == len(plan.others.audio)),
            ("subtitle streams", subtitles, plan.others.subtitles, subtitles >= plan.others.subtitles),
            ("chapters", info.chapters, plan.others.chapters, info.chapters == plan.others.chapters),
            ("colour", color, plan.color, plan.color in (None, color)),
        )
        if not equal
    ]
    if info.frame_count == plan.frames:
        wrong += _wrong_times(times, info, plan, shift)
    for number, (found, planned) in enumerate(zip(sounds, plan.others.audio, strict=False)):
        wrong += _wrong_sound(number, found, planned)
    if sequence := find_sequence(path):
        wrong += _bad_pictures(sequence, (plan.width, plan.height))
    if info.truncated:
        wrong.append(f"the output is cut off: {info.truncated}")
    return DeliveryCheck(
        info.frame_count,
        first,
        last,
        info.duration,
        info.width,
        info.height,
        audio,
        subtitles,
        info.chapters,
        color,
        tuple(wrong),
    )


def _bad_pictures(sequence: ImageSequence, size: tuple[int, int]) -> Iterator[str]:
    """What is wrong with the files of a sequence, from their headers and ends."""
    for file in sequence.files:
        try:
            with open_container(file) as container:
                found = container.streams.video[0]
                if (found.width, found.height) != size:
                    yield f"{file.name}: {found.width}x{found.height} in the output, {size[0]}x{size[1]} planned"
            if cut := find_cut(file):
                yield f"{file.name} is cut off: {cut.found}"
        except (InputError, IndexError):
            yield f"{file.name} cannot be read back"


def _color(info: ClipInfo) -> str:
    color = info.color
    return (
        f"{color.matrix}, {'full' if color.full_range else 'limited'} range, "
        f"primaries {color.primaries}, transfer {color.transfer}"
    )


def _wrong_times(times: NDArray[np.int64], info: ClipInfo, plan: DeliveryPlan, shift: Fraction) -> Iterator[str]:
    """The first frame between the first and the last whose time is not the planned one, where these are known."""
    for number, (found, planned) in enumerate(zip(times[1:-1], (plan.times or ())[1:], strict=False), start=1):
        there, wanted = int(found) * info.time_base + shift, planned * plan.time_base
        if abs(there - wanted) > plan.tick / 2:
            yield f"time of frame {number}: {there} in the output, {wanted} planned"
            return


def _wrong_sound(number: int, found: StreamInfo, planned: SoundPlan) -> Iterator[str]:
    """Copied packets are counted and begin where they did; what was re-encoded covers the same time.

    Packets of plain samples are not counted: MOV keeps only the samples, and readers cut them as they like.
    """
    plain = (found.codec or "").startswith("pcm_")
    if planned.packets not in (None, found.packets) and not plain:
        yield f"packets of sound {number}: {found.packets} in the output, {planned.packets} planned"
    begin = _END if planned.packets is None else _BEGIN
    for name, there, wanted, near in (
        ("begin", found.first, planned.first, begin),
        ("end", found.end, planned.end, _END),
    ):
        if there is None or abs(there - wanted) > near:
            yield f"{name} of sound {number}: {there} in the output, {wanted} planned"
