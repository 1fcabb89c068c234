"""Read the shown parts of a source and its results again, side by side, and make the page's film of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from kinopaint.flow import DisFlow, FlowEstimator, flow_pair
from kinopaint.report.flicker_map import change_along_motion, flicker_map
from kinopaint.report.parts import Part
from kinopaint.report.proxy import Proxy, Tiles
from kinopaint.types import Frames
from kinopaint.video import Selection, open_clip
from kinopaint.video.frame import Frame
from kinopaint.video.sizing import resize

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
THUMBNAIL = 168  # pixels, width


@dataclass(frozen=True)
class Footage:
    """`film` is an MP4 of `tiles`: the source, the results, the results' flicker maps. For each of its frames, `frames`
    has the number in the clip, `times` the seconds there, `at` the seconds in the film. `thumbnails` are JPEG data URIs
    of (source, result) by frame number and place of the result.
    """

    film: bytes
    tiles: Tiles
    frames: list[int]
    times: list[float]
    at: list[float]
    thumbnails: dict[tuple[int, int], tuple[str, str]]


def make_footage(
    source: Path,
    results: Sequence[Path],
    selection: Selection,
    times: Sequence[float],
    parts: Sequence[Part],
    *,
    thumbnails: Sequence[tuple[int, int]],
    limit: int,
    flow: FlowEstimator | None = None,
) -> Footage:
    """Film the `parts` of a clip whose frames are at `times`, in at most about `limit` bytes.

    `selection` is the part of the source that was restyled; `thumbnails` are pairs (frame, place of the result).
    Raises InputError as `open_clip` does.
    """
    estimator = flow or DisFlow()
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.04
    durations = [after - before for before, after in pairwise(times)] + [step]
    shown = [frame for part in parts for frame in range(part.first, part.last + 1)]
    begins = {part.first for part in parts}
    seconds = sum(durations[frame] for frame in shown)
    proxy: Proxy | None = None
    at: list[float] = []
    pictures: dict[tuple[int, int], tuple[str, str]] = {}
    clock = 0.0
    before: list[Frames] = []
    for number, moment in _moments(source, results, selection, times, parts):
        if proxy is None:
            height, width = moment[0].shape[:2]
            tiles = Tiles.of((width, height), 1 + 2 * len(results))
            proxy = Proxy(tiles, 1 / step, seconds, limit)
        small = [resize(picture, (tiles.width, tiles.height)) for picture in moment]
        now = [_tensor(picture) for picture in small]
        if before and number not in begins:
            pair = flow_pair(estimator, now[0] * 2 - 1, before[0] * 2 - 1)
            own, *changes = [change_along_motion(*two, pair) for two in zip(now, before, strict=True)]
            maps = [flicker_map(change, own) for change in changes]
        else:
            maps = [np.zeros_like(small[0])] * len(results)
        before = now
        proxy.add([*small, *maps], clock, durations[number])
        at.append(round(clock, 5))
        clock += durations[number]
        for place in range(len(results)):
            if (number, place) in thumbnails:
                pictures[number, place] = thumbnail(small[0]), thumbnail(small[place + 1])
    assert proxy is not None  # there is at least one frame
    return Footage(proxy.finish(), tiles, shown, [round(times[frame], 5) for frame in shown], at, pictures)


def thumbnail(picture: Picture, width: int = THUMBNAIL) -> str:
    """A small JPEG as a data URI."""
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    small = resize(picture, (width, height)) if width < picture.shape[1] else picture
    _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 82))
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _moments(
    source: Path, results: Sequence[Path], selection: Selection, times: Sequence[float], parts: Sequence[Part]
) -> Iterator[tuple[int, list[Picture]]]:
    """The pictures of source and results for each frame of the parts, with its number."""
    whole = [selection, *[Selection()] * len(results)]
    for part in parts:
        with ExitStack() as stack:
            clips = []
            for path, chosen in zip((source, *results), whole, strict=True):
                cut = _cut(path, chosen, times, part)
                clips.append(stack.enter_context(open_clip(path, start=cut.start, end=cut.end, every=cut.every)))
            for number, frames in zip(range(part.first, part.last + 1), zip(*clips, strict=False), strict=False):
                yield number, [frame.image for frame in frames]


def _cut(path: Path, selection: Selection, times: Sequence[float], part: Part) -> Selection:
    """The selection of just the frames of `part`; begins and ends between frames, because times are rounded."""
    if part.first == 0 and part.last == len(times) - 1:
        return selection
    with open_clip(path, start=selection.start, end=selection.end, every=selection.every) as clip:
        first: Frame = next(iter(clip))
        offset = first.time - clip.info.start
    start, end = selection.start, selection.end
    if part.first:
        start = offset + _just_before(times, part.first, selection.every)
    if part.last < len(times) - 1:
        end = offset + _just_before(times, part.last + 1, selection.every)
    return Selection(start, end, selection.every)


def _just_before(times: Sequence[float], frame: int, every: int) -> Fraction:
    """Half a frame of the source before a kept frame."""
    return Fraction(times[frame] - (times[frame] - times[frame - 1]) / (2 * every))


def _tensor(picture: Picture) -> Frames:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float().div_(255).unsqueeze(0)
