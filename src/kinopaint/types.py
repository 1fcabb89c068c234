"""The values that pass between the parts: shape-annotated tensors, prompts, clips and windows of frames."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.errors import SettingsError

Frame = Float[Tensor, "3 height width"]  # RGB in [-1, 1]
Frames = Float[Tensor, "frame 3 height width"]  # RGB in [-1, 1]
Latents = Float[Tensor, "*branch frame channel height width"]  # branch: guidance terms, source/edit pairs
Mask = Float[Tensor, "frame 1 height width"]  # 0 to 1
Flow = Float[Tensor, "frame 2 height width"]  # backward flow in pixels of this resolution, x before y


@dataclass(frozen=True)
class Prompt:
    """What the result should look like, in words; `negative` takes the place of the empty text.

    Raises SettingsError (KP-PROMPT-EMPTY) if `text` holds nothing but white space, and KP-PROMPT-TEXT for what is no
    text, such as bytes of another encoding than UTF-8 that the shell handed over.
    """

    text: str
    negative: str = ""

    def __post_init__(self) -> None:
        for name, words in (("prompt", self.text), ("negative prompt", self.negative)):
            try:
                words.encode()
            except (AttributeError, UnicodeEncodeError):
                raise SettingsError(
                    "KP-PROMPT-TEXT", f"{words!r} is no text in Unicode", where=name, fix="write the words in UTF-8"
                ) from None
        if not self.text.strip():
            raise SettingsError(
                "KP-PROMPT-EMPTY",
                "the prompt is empty",
                where="prompt",
                fix='say what the result should look like, for example "a watercolor painting"',
            )


@dataclass(frozen=True)
class Clip:
    """What is known of a video before its frames are read: their size as the model sees it, how many there are, and
    the numbers of the frames, above 0 and rising, with which a new shot begins.
    """

    height: int
    width: int
    count: int | None = None  # None: not known, as for a live source
    cuts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Window:
    """Some frames that are denoised together; only the `fresh` ones are written.

    `numbers` are the frames' places in the video, from 0. Context frames (anchors, then overlap) come first.
    `carried` are the positions, in this window, of the frames that the next window will see again. All frames are of
    one shot; `opens_shot` marks its first window, where chained methods start anew. `keys` are the positions of the
    keyframes, where a plan has any (`kinopaint.engine.keyframes`).
    """

    index: int
    frames: Frames
    numbers: tuple[int, ...]
    fresh: slice
    carried: tuple[int, ...] = ()
    opens_shot: bool = False
    keys: tuple[int, ...] = ()

    @property
    def fresh_numbers(self) -> tuple[int, ...]:
        return self.numbers[self.fresh]


@dataclass(frozen=True)
class WindowPlan:
    """How a video is cut: windows of at most `size` frames, of which some were written by earlier windows.

    `overlap` is the number of frames just before the window, `anchors` are frame numbers that every later window of
    the shot sees (0 is its first frame). Raises SettingsError (KP-SETTING-WINDOWS) if no room is left for fresh frames.
    """

    size: int = 8
    overlap: int = 0
    anchors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 1 or self.overlap < 0 or any(anchor < 0 for anchor in self.anchors):
            self._refuse(f"{self} has a negative number or no frames")
        if len(set(self.anchors)) < len(self.anchors):
            self._refuse(f"{self} names an anchor twice")
        if self.size <= self.overlap + len(self.anchors):
            self._refuse(f"{self} leaves no room for fresh frames: overlap and anchors fill the window")
        if any(anchor >= self.size for anchor in self.anchors):
            self._refuse(f"{self} has an anchor outside the first window")

    written: ClassVar[str] = "SIZE, SIZE:OVERLAP or SIZE:OVERLAP:ANCHOR,ANCHOR, such as 8 or 8:1:0"

    @classmethod
    def _refuse(cls, what: str) -> None:
        raise SettingsError("KP-SETTING-WINDOWS", what, where="windows", fix=f"write {cls.written}")

    @classmethod
    def parse(cls, text: str) -> "WindowPlan":
        """Read `SIZE[:OVERLAP[:ANCHOR,ANCHOR…]]`, the form in which `str(plan)` writes it."""
        parts = text.split(":")
        try:
            size, overlap = int(parts[0]), int(parts[1]) if len(parts) > 1 else 0
            anchors = tuple(int(part) for part in parts[2].split(",")) if len(parts) > 2 else ()
            if len(parts) > 3:
                raise ValueError
        except ValueError:
            cls._refuse(f"{text!r} is not a plan for windows")
        return cls(size, overlap, anchors)

    def __str__(self) -> str:
        anchors = ",".join(map(str, self.anchors))
        return (
            f"{self.size}:{self.overlap}:{anchors}"
            if anchors
            else (f"{self.size}:{self.overlap}" if self.overlap else f"{self.size}")
        )

    def every_frame(self) -> "WindowPlan":
        """This plan without frames that are not painted: itself, unless it knows keyframes."""
        return self

    def cut(self, frames: Iterable[Frame], cuts: Sequence[int] = ()) -> Iterator[Window]:
        """Yield windows in order; every frame is fresh in exactly one of them, and none spans one of the `cuts`.

        Frames are drawn from `frames` only as they are needed, and never more than one window is held.
        """
        source = enumerate(frames)
        index = 0
        for first, end in zip((0, *cuts), (*cuts, None), strict=True):
            for window in self._cut_shot(source, first, end):
                yield replace(window, index=index)
                index += 1

    def _cut_shot(self, source: Iterator[tuple[int, Tensor]], first: int, end: int | None) -> Iterator[Window]:
        """The windows of the frames from number `first` up to, not including, `end`."""
        kept_anchors: dict[int, Tensor] = {}
        recent: deque[tuple[int, Tensor]] = deque(maxlen=self.overlap)
        following = first
        while True:
            tail = {number for number, _ in recent}
            context = [pair for pair in kept_anchors.items() if pair[0] not in tail] + list(recent)
            room = self.size - len(context)
            fresh = _take(source, room if end is None else min(room, end - following))
            if not fresh:
                return
            kept_anchors |= {number: frame for number, frame in fresh if number - first in self.anchors}
            recent.extend(fresh)
            held = context + fresh
            numbers = tuple(number for number, _ in held)
            seen_again = {*kept_anchors, *(number for number, _ in recent)}
            yield Window(
                0,
                torch.stack([frame for _, frame in held]),
                numbers,
                slice(len(context), len(held)),
                tuple(place for place, number in enumerate(numbers) if number in seen_again),
                opens_shot=following == first,
            )
            following += len(fresh)

    def lengths(self, count: int, cuts: Sequence[int] = ()) -> list[int]:
        """How many frames each window holds, context included, of a video with `count` frames."""
        found = []
        inside = [cut for cut in cuts if cut < count]
        for first, end in pairwise((0, *inside, count)):
            done = 0
            while done < end - first:
                context = len({*range(done - self.overlap, done), *self.anchors}) if done else 0
                fresh = min(self.size - context, end - first - done)
                found.append(context + fresh)
                done += fresh
        return found


def _take(source: Iterator[tuple[int, Tensor]], count: int) -> list[tuple[int, Tensor]]:
    return [pair for _, pair in zip(range(count), source, strict=False)]
