"""Sizes: of the result, and the one at which the model works; how a picture gets there and comes back.

A picture is reduced to the work size if need be, then padded by reflection on all sides to multiples of the model's
step. On the way back the padding is cut off and, if the picture was reduced, it is enlarged with the source as guide:
bicubic, plus the detail that reducing took from the source, weighted by how much the result follows the source there.
The weight is the slope of the fast guided filter (He and Sun, arXiv:1505.00996) on luma, window 9x9 at the work size,
regularised by the square of 8 grey levels: near 1 where edges of the result sit on edges of the source, near 0 on even
ground, where the source's noise would spoil the paint. Sharp edges come back, brush strokes stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kinopaint.errors import SettingsError, ShapeError
from kinopaint.video.frame import Image

Size = tuple[int, int]  # width, height in pixels

AUTO_SIDES = 128, 768  # sides for which the model is used at the source's own size
LARGEST_SIDE = 16384
_GUIDE_RADIUS = 4  # pixels at the work size
_GUIDE_NOISE = (8 / 255) ** 2


@dataclass(frozen=True)
class SizePlan:
    """Four sizes: `source` is read, `work` is painted, `padded` is `work` with its padding, `output` is written."""

    source: Size
    output: Size
    work: Size
    padded: Size

    def prepare(self, image: Image) -> Image:
        """The source picture at the padded work size. Raises ShapeError if it is not of the planned source size."""
        _check(image, self.source)
        left, top = self._corner
        right, bottom = self.padded[0] - self.work[0] - left, self.padded[1] - self.work[1] - top
        image = resize(image, self.work)
        if self.padded == self.work:
            return image
        return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REFLECT_101)

    def restore(self, image: Image, guide: Image) -> Image:
        """The painted picture at the output size; `guide` is the source picture that was prepared.

        Raises ShapeError if either size is not the planned one.
        """
        _check(image, self.padded)
        _check(guide, self.source)
        left, top = self._corner
        image = np.ascontiguousarray(image[top : top + self.work[1], left : left + self.work[0]])
        if self.output[0] <= self.work[0] and self.output[1] <= self.work[1]:
            return resize(image, self.output)
        return enlarge_guided(image, resize(guide, self.output))

    @property
    def _corner(self) -> Size:
        return (self.padded[0] - self.work[0]) // 2, (self.padded[1] - self.work[1]) // 2


def plan_size(
    width: int, height: int, *, size: str = "source", work_size: str = "auto", multiple: int = 8, minimum: int = 64
) -> SizePlan:
    """Choose the sizes for a source of `width` x `height` pixels as shown.

    `size` (of the result): "source", "WxH" or "short:N". `work_size`: "auto" keeps the source's size if both sides
    lie within 128 to 768, else reduces the longest side to 768 and never enlarges; or as `size`. The model gets sides
    that are multiples of `multiple` and at least `minimum`: tiny pictures are padded up, not enlarged.
    Raises SettingsError (KP-SETTING-SIZE).
    """
    output = parse_size(size, (width, height))
    if work_size == "auto":
        longest = max(width, height)
        work = (width, height) if longest <= AUTO_SIDES[1] else _scaled(width, height, AUTO_SIDES[1], longest)
    else:
        work = parse_size(work_size, (width, height))
    least = -(-minimum // multiple) * multiple
    padded = max(-(-work[0] // multiple) * multiple, least), max(-(-work[1] // multiple) * multiple, least)
    return SizePlan((width, height), output, work, padded)


def parse_size(text: str, source: Size) -> Size:
    """Width and height from "source", "WxH", or "short:N" (the short side becomes N, the shape is kept).

    Raises SettingsError (KP-SETTING-SIZE).
    """
    text = text.strip().lower()
    if text == "source":
        return source
    if match := re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", text, re.ASCII):
        chosen = int(match[1]), int(match[2])
    elif match := re.fullmatch(r"short:([1-9]\d*)", text, re.ASCII):
        chosen = _scaled(*source, int(match[1]), min(source))
    else:
        raise SettingsError(
            "KP-SETTING-SIZE", f"{text!r} is not a size", fix="write source, width x height (640x360) or short:512"
        )
    if not all(1 <= side <= LARGEST_SIDE for side in chosen):
        raise SettingsError(
            "KP-SETTING-SIZE",
            f"{text!r} gives {chosen[0]}x{chosen[1]} pixels",
            fix=f"each side must be 1 to {LARGEST_SIDE} pixels",
        )
    return chosen


def resize(image: Image, size: Size) -> Image:
    """Scale to (width, height): area averages when a side shrinks, bicubic otherwise; unchanged at the same size."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = size[0] < width or size[1] < height
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def enlarge_guided(image: Image, guide: Image) -> Image:
    """`image` at the size of `guide`, with edges as sharp as the guide's: the rule of this module."""
    height, width = image.shape[:2]
    size = guide.shape[1], guide.shape[0]
    luma = cv2.cvtColor(guide, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    small = resize(luma, (width, height))
    painted = image.astype(np.float32) / 255

    mean, mean_painted = _box(small), _box(painted)
    variance = _box(small * small) - mean * mean
    covariance = _box(small[..., None] * painted) - mean[..., None] * mean_painted
    slope = _box(covariance / (variance + _GUIDE_NOISE)[..., None])

    detail = luma - cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    enlarged = cv2.resize(painted, size, interpolation=cv2.INTER_CUBIC)
    enlarged += np.clip(cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR), -1, 1) * detail[..., None]
    return np.rint(np.clip(enlarged, 0, 1) * 255).astype(np.uint8)


def _box(values: NDArray[np.float32]) -> NDArray[np.float32]:
    side = 2 * _GUIDE_RADIUS + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)


def _scaled(width: int, height: int, target: int, reference: int) -> Size:
    """Both sides times target / reference, rounded, at least 1."""
    return tuple(max(1, (2 * side * target + reference) // (2 * reference)) for side in (width, height))


def _check(image: Image, size: Size) -> None:
    if image.shape != (size[1], size[0], 3):
        raise ShapeError(f"the picture is {image.shape} but {(size[1], size[0], 3)} was planned (height, width, RGB)")
