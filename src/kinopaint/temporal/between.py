"""The frames between two painted keyframes: both brought along the source's motion, and blended.

In place of an external example-based synthesis (Rerender-A-Video, arXiv:2306.07954, sec. 4.2; FRESCO uses the same), in
plain tensors: the flow to a keyframe is put together from frame to frame, each keyframe counts as far as the source
looks the same there and the nearer the keyframe is, and what averaging takes of local contrast is given back.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.blur import blurred
from kinopaint.flow.estimator import FlowEstimator
from kinopaint.flow.occlusion import inside
from kinopaint.flow.pair import flow_pair
from kinopaint.flow.warp import pixel_columns, pixel_rows, warp
from kinopaint.temporal.flow_blend import FEATHER, likeness, with_detail_of
from kinopaint.types import Flow, Frame, Frames

LEAST = 1e-3  # trust where nothing is alike: there the two keyframes fade into each other

OneFlow = Float[Tensor, "1 2 height width"]
Side = tuple[Tensor, Tensor]  # a keyframe brought to a frame, and how far it can be trusted there


def between_keyframes(
    source: Frames, keys: Sequence[int], painted: Float[Tensor, "key 3 height width"], estimator: FlowEstimator
) -> Float[Tensor, "result 3 height width"]:
    """All frames from the first keyframe to the last one: the `painted` ones, whose places in the `source` are `keys`,
    and between them what `in_between` makes.
    """
    sections = [painted[:1]]
    for place, (first, last) in enumerate(pairwise(keys)):
        inside_section = in_between(source[first : last + 1], painted[place], painted[place + 1], estimator)
        sections += [inside_section, painted[place + 1, None]]
    return torch.cat(sections)


def in_between(
    source: Frames, first: Frame, last: Frame, estimator: FlowEstimator
) -> Float[Tensor, "inner 3 height width"]:
    """The frames inside a section of the `source` whose first and last frame were painted; two less than it has.

    Where neither keyframe shows what a frame shows, both do in proportion to the time.
    """
    count = len(source) - 1  # steps from keyframe to keyframe
    if count < 2:
        return source[:0]
    pairs = [flow_pair(estimator, source[place + 1, None], source[place, None]) for place in range(count)]
    from_first = _brought(source, first, [pair.backward for pair in pairs])
    from_last = _brought(source.flip(0), last, [pair.forward for pair in reversed(pairs)])[::-1]
    sides = zip(from_first, from_last, strict=True)
    return torch.cat([_blend(*both, place / count) for place, both in enumerate(sides, 1)])


def _brought(source: Frames, painted: Frame, flows: Sequence[OneFlow]) -> list[Side]:
    """`painted`, the first of the `source` frames, as each frame strictly between sees it; `flows` lead from each frame
    to the one before it.
    """
    sides, whole = [], torch.zeros_like(flows[0])
    for frame, flow in zip(source[1:-1], flows, strict=False):
        known = inside(flow + warp(whole, _held_inside(flow)))
        whole = _held_inside(flow + warp(whole, _held_inside(flow)))  # p -> p + flow(p) -> … -> the painted frame
        alike = likeness(frame[None], warp(source[:1], whole))
        sides.append((warp(painted[None], whole), blurred(alike * known.to(alike.dtype), FEATHER)))
    return sides


def _held_inside(flow: Flow) -> Flow:
    """The flow, ending at the border where it would leave the picture."""
    columns, rows = pixel_columns(flow), pixel_rows(flow)
    x = (columns + flow[:, 0]).clamp(0, flow.shape[-1] - 1) - columns
    y = (rows + flow[:, 1]).clamp(0, flow.shape[-2] - 1) - rows
    return torch.stack([x, y], 1)


def _blend(before: Side, after: Side, time: float) -> Frames:
    """One frame of the two that it could be; `time` is how far it is on the way from the one to the other."""
    (one, trust), (other, other_trust) = before, after
    share = (1 - time) * (trust + LEAST)
    share = share / (share + time * (other_trust + LEAST))
    return with_detail_of(torch.where(share > 0.5, one, other), share * one + (1 - share) * other)
