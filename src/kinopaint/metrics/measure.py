"""All metrics of one or several results in a single pass over the frames; flow and masks are made once for all.

Memory holds the first frame and the last ten of each video at the flow's size, never the whole clip.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinopaint.flow import DisFlow, FlowEstimator, FlowPair, warp
from kinopaint.metrics.catalogue import CATALOGUE, SAME_AS
from kinopaint.metrics.colour_drift import colour_drift, mean_lab
from kinopaint.metrics.content import content
from kinopaint.metrics.e_warp import e_pair, e_warp, e_warp_by_frame
from kinopaint.metrics.encoder import PairEncoder
from kinopaint.metrics.flicker import flicker, luminance_step
from kinopaint.metrics.fra_acc import fra_acc
from kinopaint.metrics.fra_con import fra_con
from kinopaint.metrics.l_temporal import l_temporal
from kinopaint.metrics.pixel_mse import pixel_mse
from kinopaint.metrics.pro_con import pro_con
from kinopaint.metrics.psnr import psnr
from kinopaint.metrics.references import References
from kinopaint.metrics.series import mean_of_defined
from kinopaint.metrics.sharpness import sharpness, sharpness_ratio
from kinopaint.metrics.spat_con import spat_con
from kinopaint.metrics.ssim import ssim
from kinopaint.metrics.warp_error_lai import warp_error_lai
from kinopaint.types import Frames
from kinopaint.video.sizing import Size, resize

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
Values = dict[str, float | None]

SOURCE = "source"
GAP = 10  # frames, of l_temporal_10
GAP_EVERY = 5  # frames from one such pair to the next: they change slowly, and their flow would be a third of it
SHORT_SIDE = 512  # pixels, at which flow is estimated and followed


@dataclass(frozen=True)
class Moment:
    """The frames of one point in time: of the source, and of each result by its name. `time` is in seconds."""

    time: float
    source: Picture
    results: Mapping[str, Picture]


@dataclass(frozen=True)
class Measured:
    """`metrics` of the clip and `per_frame` series, None where undefined; `undefined` says why, for whole metrics."""

    metrics: Values
    per_frame: dict[str, list[float | None]]
    undefined: dict[str, str]


@dataclass(frozen=True)
class Measurement:
    """What one pass found: a row for the source ("source", first), each result, and each reference video.

    `times` are in seconds from the first frame, `rate` is their mean per second (0 for a single frame), `size` is that
    at which flow was followed.
    """

    rows: dict[str, Measured]
    times: tuple[float, ...]
    rate: float
    size: Size


@dataclass(frozen=True)
class Words:
    """The embeddings that frames are compared with."""

    prompt: Tensor
    source_caption: Tensor


@dataclass(frozen=True)
class _View:
    """A frame at the flow's size, and what the encoder made of it."""

    small: Picture
    embedding: Tensor | None = None
    tokens: Tensor | None = None


@dataclass(frozen=True)
class _Motion:
    """The source's flow between this frame and an earlier one; None where there is no such frame."""

    previous: FlowPair | None
    first: FlowPair | None
    gap: FlowPair | None


def measure(
    moments: Iterable[Moment],
    *,
    flow: FlowEstimator | None = None,
    encoder: PairEncoder | None = None,
    prompt: str | None = None,
    source_prompt: str = "a photo",
    short_side: int = SHORT_SIDE,
    references: bool = False,
    no_encoder: str = "there is no image encoder",
) -> Measurement:
    """Measure every result, the source itself (as "source"), and with `references` the rows of `References`.

    Frames of a video are of one size. Where the sizes of source and result differ, the larger is reduced to the
    smaller's size before they are compared. Flow is estimated (with `flow`, DIS if not given) on the source reduced to
    the smallest size among them and to at most `short_side` pixels, and followed in the results at that size.
    `no_encoder` says why there is none. There must be at least one moment.
    """
    estimator = flow or DisFlow()
    words = _words(encoder, prompt, source_prompt)
    made = References() if references else None
    rows: dict[str, _Row] = {}
    earlier: deque[Picture] = deque(maxlen=GAP)  # source frames at the flow's size
    first: Picture | None = None
    times: list[float] = []
    size: Size = (0, 0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for moment in moments:
            if not times:
                size = flow_size([_size(picture) for picture in (moment.source, *moment.results.values())], short_side)
            times.append(moment.time)
            small = resize(moment.source, size)
            spans_gap = len(times) > GAP and (len(times) - 1 - GAP) % GAP_EVERY == 0
            motion = _motion(estimator, small, earlier, first, pool, spans_gap=spans_gap)
            pictures = {SOURCE: moment.source, **moment.results}
            if made is not None:
                pictures |= made.of(small, motion.previous)
            views = _views(pictures, size, encoder)
            jobs = [
                pool.submit(
                    rows.setdefault(name, _Row()).add,
                    *comparable(picture, moment.source),
                    views[name],
                    views[SOURCE],
                    motion,
                    words,
                )
                for name, picture in pictures.items()
            ]
            for job in jobs:
                job.result()
            earlier.append(small)
            first = small if first is None else first
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    why = _reasons(len(times), rate, no_encoder if encoder is None else "", words)
    return Measurement(dict(_finished(rows, rate, why)), tuple(at - times[0] for at in times), rate, size)


def flow_size(sizes: Iterable[Size], short_side: int = SHORT_SIDE) -> Size:
    """The smallest of the sizes, reduced in proportion to at most `short_side` pixels on the short side."""
    width, height = min(sizes, key=lambda size: size[0] * size[1])
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def comparable(result: Picture, source: Picture) -> tuple[Picture, Picture]:
    """Both at one size: that of the smaller one."""
    if result.shape == source.shape:
        return result, source
    if result.shape[0] * result.shape[1] < source.shape[0] * source.shape[1]:
        return result, resize(source, _size(result))
    return resize(result, _size(source)), source


class _Row:
    """What is gathered about one video."""

    def __init__(self) -> None:
        self.values: list[Values] = []
        self.colours: list[Any] = []
        self.first: _View | None = None
        self.recent: deque[_View] = deque(maxlen=GAP)

    def add(
        self, picture: Picture, against: Picture, now: _View, source: _View, motion: _Motion, words: Words | None
    ) -> None:
        own = sharpness(picture)
        values: Values = {
            "psnr": psnr(picture, against),
            "ssim": ssim(picture, against),
            "sharpness": own,
            "sharpness_of_source": own if picture is against else sharpness(against),
            **self._along_motion(now, motion),
            **self._embedded(now, source, words),
        }
        self.values.append(values)
        self.colours.append(mean_lab(picture))
        self.recent.append(now)
        self.first = self.first or now

    def _along_motion(self, view: _View, motion: _Motion) -> Values:
        values: Values = dict.fromkeys(
            ("e_warp_previous", "e_warp_first", "l_temporal", "l_temporal_10", "warp_error_lai", "pixel_mse", "step")
        )
        if self.first is None or motion.previous is None or motion.first is None:
            return values
        now, previous, first = (_tensor(each.small) for each in (view, self.recent[-1], self.first))
        pair = motion.previous
        before, after = warp(previous, pair.backward), warp(now, pair.forward)
        values["e_warp_previous"] = e_pair(now, before, pair.visible_later)
        values["pixel_mse"] = pixel_mse(now, before, pair.inside_later)
        values["step"] = luminance_step(now, before, pair.visible_later)
        values["l_temporal"] = l_temporal(previous, after, pair.visible_earlier)
        values["warp_error_lai"] = warp_error_lai(previous, after, pair.visible_earlier)
        values["e_warp_first"] = e_pair(now, warp(first, motion.first.backward), motion.first.visible_later)
        if (pair_10 := motion.gap) is not None:
            after = warp(now, pair_10.forward)
            values["l_temporal_10"] = l_temporal(_tensor(self.recent[0].small), after, pair_10.visible_earlier)
        return values

    def _embedded(self, now: _View, source: _View, words: Words | None) -> Values:
        values: Values = dict.fromkeys(("fra_con", "pro_con", "fra_acc", "content", "spat_con"))
        if now.embedding is None or source.embedding is None or now.tokens is None or source.tokens is None:
            return values
        if self.recent and (before := self.recent[-1].embedding) is not None:
            values["fra_con"] = fra_con(now.embedding, before)
        values["content"] = content(now.embedding, source.embedding)
        values["spat_con"] = spat_con(now.tokens, source.tokens)
        if words is not None:
            values["pro_con"] = pro_con(now.embedding, words.prompt)
            values["fra_acc"] = fra_acc(now.embedding, words.prompt, words.source_caption)
        return values


def _finished(rows: Mapping[str, _Row], rate: float, why: Mapping[str, str]) -> Iterator[tuple[str, Measured]]:
    own: Values = {}
    for name, row in rows.items():
        series = {key: [values[key] for values in row.values] for key in row.values[0]}
        steps, result, source = (series.pop(key) for key in ("step", "sharpness", "sharpness_of_source"))
        series["sharpness_ratio"] = [sharpness_ratio([a], [b]) for a, b in zip(result, source, strict=True)]
        series["flicker"] = [None if step is None else 255 * abs(step) for step in steps]
        series["e_warp"] = e_warp_by_frame(series["e_warp_previous"], series["e_warp_first"])
        metrics = {key: mean_of_defined(series[key]) for key in CATALOGUE if key in series} | {
            "e_warp": e_warp(series["e_warp_previous"], series["e_warp_first"]),
            "sharpness_ratio": sharpness_ratio(result, source),
            "flicker": flicker(steps, rate),
            "colour_drift": colour_drift(row.colours, rate),
        }
        own = own or metrics  # the source comes first
        metrics["e_warp_excess"] = _less(metrics["e_warp"], own["e_warp"])
        metrics |= {other: metrics[key] for other, key in SAME_AS.items()}
        undefined = {key: why.get(key, "nothing to measure") for key, value in metrics.items() if value is None}
        yield name, Measured(metrics, series, undefined)


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _reasons(frames: int, rate: float, no_encoder: str, words: Words | None) -> dict[str, str]:
    """Why a metric can be undefined, by its name. `no_encoder` is empty if there is one."""
    why: dict[str, str] = {}
    if words is None:
        why |= dict.fromkeys(("pro_con", "fra_acc", "fram_acc"), "no prompt was given")
    if no_encoder:
        scores = ("pro_con", "fra_acc", "fram_acc", "fra_con", "tem_con", "content", "spat_con")
        why |= dict.fromkeys(scores, no_encoder)
    motion = [name for name, about in CATALOGUE.items() if about.of_source]
    if frames < 2:
        why |= dict.fromkeys([*motion, "e_warp_excess", "tem_con"], "there is a single frame")
    else:
        flat = (
            f"{frames} frames at {rate:.3g} per second hold no 4 Hz" if rate <= 8 else "there are fewer than 8 frames"
        )
        why |= {"l_temporal_10": f"there are no {GAP + 1} frames", "flicker": flat}
    return why


def _motion(
    estimator: FlowEstimator,
    now: Picture,
    earlier: Sequence[Picture],
    first: Picture | None,
    pool: Executor,
    *,
    spans_gap: bool,
) -> _Motion:
    """Flow to the previous and the first frame, and if asked for to the tenth before; none is estimated twice."""
    if not earlier or first is None:
        return _Motion(None, None, None)
    wanted = [earlier[-1], first, *([earlier[0]] if spans_gap else [])]
    frames = {id(frame): _tensor(frame) * 2 - 1 for frame in wanted}
    here = _tensor(now) * 2 - 1
    jobs = {
        key: (pool.submit(estimator.estimate, here, there), pool.submit(estimator.estimate, there, here))
        for key, there in frames.items()
    }
    pairs = {key: FlowPair(backward.result(), forward.result()) for key, (backward, forward) in jobs.items()}
    previous, to_first, *gap = [pairs[id(frame)] for frame in wanted]
    # Masks are made once, here, not by every row that comes to need them at the same time.
    masks: list[Callable[[], object]] = [
        lambda: previous.visible_later,
        lambda: previous.visible_earlier,
        lambda: previous.inside_later,
        lambda: to_first.visible_later,
        *(lambda pair=pair: pair.visible_earlier for pair in gap),
    ]
    for job in [pool.submit(mask) for mask in masks]:
        job.result()
    return _Motion(previous, to_first, gap[0] if gap else None)


def _views(pictures: Mapping[str, Picture], size: Size, encoder: PairEncoder | None) -> dict[str, _View]:
    small = {name: resize(picture, size) for name, picture in pictures.items()}
    if encoder is None:
        return {name: _View(picture) for name, picture in small.items()}
    embedded = encoder.embed_pictures(list(pictures.values()))
    return {
        name: _View(picture, embedded.pooled[place], embedded.tokens[place])
        for place, (name, picture) in enumerate(small.items())
    }


def _words(encoder: PairEncoder | None, prompt: str | None, source_prompt: str) -> Words | None:
    if encoder is None or not prompt:
        return None
    return Words(*encoder.embed_texts([prompt, source_prompt]))


def _size(picture: Picture) -> Size:
    return picture.shape[1], picture.shape[0]


def _tensor(picture: Picture) -> Frames:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float().div_(255).unsqueeze(0)
