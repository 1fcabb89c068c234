"""The delivery check: reopen what was written and compare it with what should be there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from os import PathLike
from typing import Any

from kinopaint.errors import InputError
from kinopaint.video.color import DELIVERED
from kinopaint.video.opening import find_cut, open_container
from kinopaint.video.probe import ClipInfo, scan
from kinopaint.video.sequence import ImageSequence, find_sequence

COLOR = f"{DELIVERED.matrix}, limited range, primaries {DELIVERED.primaries}, transfer {DELIVERED.transfer}"


@dataclass(frozen=True)
class DeliveryPlan:
    """What the output must hold.

    `first` and `last` are frame times and `duration` the length, in seconds, as in the source. `tick` is the
    container's finest step: times may be off by half of it. How long the last frame is shown is kept exactly by few
    containers, so `duration` has a tolerance of its own. `relative` containers (GIF) start at 0 whatever happens.
    `audio_packets` has one count per stream, None where the sound was re-encoded. `color` is None for RGB codecs.
    """

    frames: int
    first: Fraction
    last: Fraction
    duration: Fraction
    width: int
    height: int
    sample_aspect_ratio: Fraction = Fraction(1)
    alpha: bool = False
    audio_packets: tuple[int | None, ...] = ()
    color: str | None = COLOR
    tick: Fraction = Fraction(0)
    duration_tolerance: Fraction = Fraction(1, 1000)
    relative: bool = False


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
    color: str
    mismatches: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.mismatches

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times as exact fractions "1001/30000", in seconds."""
        exact = {key: str(value) if isinstance(value, Fraction) else value for key, value in asdict(self).items()}
        return {"ok": self.ok, **exact}


def check_delivery(path: str | PathLike[str], plan: DeliveryPlan) -> DeliveryCheck:
    """Reopen the output and compare frames, times, duration, size, sound and colour tags with the plan.

    Never raises for a bad output: what cannot be opened is a mismatch.
    """
    try:
        info, _ = scan(path)
    except InputError as error:
        zero = Fraction(0)
        return DeliveryCheck(0, zero, zero, zero, 0, 0, (), "", (f"the output cannot be read back: {error.what}",))
    audio = tuple(stream.packets for stream in info.streams_of("audio"))
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
            ("sound packets", audio, plan.audio_packets, _same_audio(audio, plan.audio_packets)),
            ("colour", color, plan.color, plan.color in (None, color)),
        )
        if not equal
    ]
    if sequence := find_sequence(path):
        wrong += _bad_pictures(sequence, (plan.width, plan.height))
    if info.truncated:
        wrong.append(f"the output is cut off: {info.truncated}")
    return DeliveryCheck(
        info.frame_count, first, last, info.duration, info.width, info.height, audio, color, tuple(wrong)
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


def _same_audio(found: tuple[int, ...], planned: tuple[int | None, ...]) -> bool:
    return len(found) == len(planned) and all(p in (None, f) for f, p in zip(found, planned, strict=True))
