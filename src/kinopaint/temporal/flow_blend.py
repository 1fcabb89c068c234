"""Flicker removed without a network: each frame leans on the one before it, brought along by the source's motion.

O = P + M β (W(O') - P): W carries the previous result O' into this frame along the source's flow, the mask M is 1 where
the source shows the same there. An average of two textures that do not agree is flatter than either, the more so in a
chain; so what the average lost in local contrast against the frame P is given back (after Heitz and Neyret's
variance-preserving blending, 2018). Otherwise consistency would be bought with smear.
"""

import torch
from torch import Tensor

from kinopaint.engine.blur import blurred
from kinopaint.flow.estimator import FlowEstimator
from kinopaint.flow.pair import flow_pair
from kinopaint.flow.warp import warp
from kinopaint.temporal.chain import Past, Present, Refine
from kinopaint.types import Frames, Mask

DETAIL = 1.5  # pixels: what is finer than this Gaussian is detail
NEIGHBOURHOOD = 4.0  # pixels: deviation of the Gaussian in which its contrast is measured
MOST = 2.0  # gain at most, so that noise is not blown up where the average is flat
NOISE = 1e-5  # squared contrast that counts as none
FEATHER = 1.5  # pixels: how soft the edge is between what is carried on and what is painted anew
DOUBT = 50.0  # how fast trust falls with the squared difference of the source, in [0, 1]


def flow_blend(estimator: FlowEstimator, share: float, *, keep_detail: bool = True) -> Refine:
    """A backend: `share` is β, in [0, 1); 0 changes nothing."""

    def refine(present: Present, past: Past) -> tuple[Tensor, None]:
        now, before = present.source[None], past.source[None]
        flow = flow_pair(estimator, now, before)
        # The test for visibility answers yes or no, pixel by pixel: taken as it is it would sprinkle the result.
        seen = blurred(flow.visible_later, FEATHER) * flow.inside_later
        trust = seen * likeness(now, warp(before, flow.backward))
        carried = warp(past.refined[None], flow.backward)
        painted = present.painted[None]
        blended = painted + share * trust * (carried - painted)
        return (with_detail_of(painted, blended) if keep_detail else blended)[0], None

    return refine


def likeness(one: Frames, other: Frames) -> Mask:
    """exp(-50 e), e the squared distance of the colours in [0, 1]: Lai et al.'s soft visibility (arXiv:1808.00449)."""
    return torch.exp(-DOUBT * ((one - other) / 2).square().sum(1, keepdim=True))


def with_detail_of(painted: Frames, blended: Frames) -> Frames:
    """`blended` with its fine detail amplified to the local contrast that `painted` has; never damped."""
    fine = blended - blurred(blended, DETAIL)
    wanted = painted - blurred(painted, DETAIL)
    there, asked = (blurred(part.square().sum(1, keepdim=True), NEIGHBOURHOOD) for part in (fine, wanted))
    gain = ((asked + NOISE) / (there + NOISE)).sqrt().clamp(1, MOST)
    return blended + (gain - 1) * fine
