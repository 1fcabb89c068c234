"""All metrics of one or several results in a single pass over the frames; flow and masks are made once for all.

Memory holds the first frame and the last ten of each video at the flow's size, never the whole clip.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinopaint.flow import DisFlow, FlowEstimator, FlowPair, flow_pair, warp
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
    """A frame at the flow's size, values in [0, 1], and what the encoder made of it."""

    small: Frames
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
    sources: deque[Frames] = deque(maxlen=GAP)
    first: Frames | None = None
    times: list[float] = []
    size: Size = (0, 0)
    for moment in moments:
        if not times:
            size = flow_size([_size(picture) for picture in (moment.source, *moment.results.values())], short_side)
        times.append(moment.time)
        small = resize(moment.source, size)
        now = _tensor(small)
        motion = _motion(estimator, now, sources, first)
        pictures = {SOURCE: moment.source, **moment.results}
        if made is not None:
            pictures |= made.of(small, motion.previous)
        views = _views(pictures, size, encoder)
        for name, picture in pictures.items():
            row = rows.setdefault(name, _Row())
            row.add(*comparable(picture, moment.source), views[name], views[SOURCE], motion, words)
        sources.append(now)
        first = now if first is None else first
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
        values: Values = {
            "psnr": psnr(picture, against),
            "ssim": ssim(picture, against),
            "sharpness": sharpness(picture),
            "sharpness_of_source": sharpness(against),
            **self._along_motion(now, motion),
            **self._embedded(now, source, words),
        }
        self.values.append(values)
        self.colours.append(mean_lab(picture))
        self.recent.append(now)
        self.first = self.first or now

    def _along_motion(self, now: _View, motion: _Motion) -> Values:
        values: Values = dict.fromkeys(
            ("e_warp_previous", "e_warp_first", "l_temporal", "l_temporal_10", "warp_error_lai", "pixel_mse", "step")
        )
        if (pair := motion.previous) is not None:
            previous = self.recent[-1].small
            before, after = warp(previous, pair.backward), warp(now.small, pair.forward)
            values["e_warp_previous"] = e_pair(now.small, before, pair.visible_later)
            values["pixel_mse"] = pixel_mse(now.small, before, pair.inside_later)
            values["step"] = luminance_step(now.small, before, pair.visible_later)
            values["l_temporal"] = l_temporal(previous, after, pair.visible_earlier)
            values["warp_error_lai"] = warp_error_lai(previous, after, pair.visible_earlier)
        if (pair := motion.first) is not None and self.first is not None:
            values["e_warp_first"] = e_pair(now.small, warp(self.first.small, pair.backward), pair.visible_later)
        if (pair := motion.gap) is not None:
            after = warp(now.small, pair.forward)
            values["l_temporal_10"] = l_temporal(self.recent[0].small, after, pair.visible_earlier)
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


def _motion(estimator: FlowEstimator, now: Frames, earlier: Sequence[Frames], first: Frames | None) -> _Motion:
    """Flow to the previous, the first and the tenth frame before, as far as they exist; none is estimated twice."""
    if not earlier or first is None:
        return _Motion(None, None, None)
    previous = _pair(estimator, now, earlier[-1])
    to_first = previous if earlier[-1] is first else _pair(estimator, now, first)
    gap = None
    if len(earlier) == GAP:
        gap = to_first if earlier[0] is first else _pair(estimator, now, earlier[0])
    return _Motion(previous, to_first, gap)


def _pair(estimator: FlowEstimator, later: Frames, earlier: Frames) -> FlowPair:
    return flow_pair(estimator, later * 2 - 1, earlier * 2 - 1)


def _views(pictures: Mapping[str, Picture], size: Size, encoder: PairEncoder | None) -> dict[str, _View]:
    small = {name: _tensor(resize(picture, size)) for name, picture in pictures.items()}
    if encoder is None:
        return {name: _View(tensor) for name, tensor in small.items()}
    embedded = encoder.embed_pictures(list(pictures.values()))
    return {
        name: _View(tensor, embedded.pooled[place], embedded.tokens[place])
        for place, (name, tensor) in enumerate(small.items())
    }


def _words(encoder: PairEncoder | None, prompt: str | None, source_prompt: str) -> Words | None:
    if encoder is None or not prompt:
        return None
    return Words(*encoder.embed_texts([prompt, source_prompt]))


def _size(picture: Picture) -> Size:
    return picture.shape[1], picture.shape[0]


def _tensor(picture: Picture) -> Frames:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float().div_(255).unsqueeze(0)
