"""Visibility from forward and backward flow: consistent flow is seen, contradiction, borders and boundaries are not."""

import numpy as np
import torch
from tests.flow.conftest import constant_flow

from kinopaint.flow import FlowPair, inside, motion_boundary, occluded, visible


def test_zero_flow_sees_everything():
    zero = torch.zeros(2, 2, 8, 9)
    assert visible(zero, zero).min() == 1
    assert visible(zero, zero, "norm").min() == 1


def test_consistent_translation_hides_only_what_leaves_the_frame():
    seen = visible(constant_flow(5, 0), constant_flow(-5, 0))
    assert torch.equal(seen, inside(constant_flow(5, 0)).float())
    assert seen.sum() == 64 * 91


def test_contradiction_is_occluded_at_the_stated_distance():
    back = constant_flow(0, 0)
    # squared: d² > 0.01 d² + 0.5 from d = 0.7107 on; norm: d > 0.01 d + 0.5 from d = 0.5051 on
    for rule, limit in (("squared", (0.5 / 0.99) ** 0.5), ("norm", 0.5 / 0.99)):
        assert not occluded(constant_flow(limit - 1e-3, 0), back, rule).any()
        assert occluded(constant_flow(limit + 1e-3, 0), back, rule).all()


def test_large_motion_is_allowed_a_larger_error():
    there, back = constant_flow(40, 0), constant_flow(-42, 0)  # 2 pixels off; 4 < 0.01 * (1600 + 1764) + 0.5
    within = inside(there)
    assert not occluded(there, back)[within].any()
    assert occluded(there, back, "norm")[within].all()  # 2 > 0.01 * 82 + 0.5


def test_motion_boundary_lies_before_the_jump_and_not_at_the_frame_s_end():
    flow = torch.zeros(1, 2, 4, 6)
    flow[..., 3:] = 1.0
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:, 2] = True  # forward difference: the column before the jump; |∇|² = 2 > 0.002
    assert torch.equal(motion_boundary(flow)[0, 0], expected)
    assert not visible(flow, -flow)[0, 0, :, 2].any()


def test_brute_force():
    random = np.random.default_rng(2)
    height, width = 6, 7
    there, back = random.normal(0, 0.6, (2, 2, height, width))
    seen = visible(torch.tensor(there)[None].float(), torch.tensor(back)[None].float())[0, 0]
    for y in range(height):
        for x in range(width):
            b = there[:, y, x]
            px, py = x + b[0], y + b[1]
            w = np.zeros(2)
            for i in (int(np.floor(py)), int(np.floor(py)) + 1):
                for j in (int(np.floor(px)), int(np.floor(px)) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        w += back[:, i, j] * (1 - abs(py - i)) * (1 - abs(px - j))
            hidden = ((w + b) ** 2).sum() > 0.01 * ((w**2).sum() + (b**2).sum()) + 0.5
            slope = 0.0
            if x + 1 < width:
                slope += ((there[:, y, x + 1] - b) ** 2).sum()
            if y + 1 < height:
                slope += ((there[:, y + 1, x] - b) ** 2).sum()
            edge = slope > 0.01 * (b**2).sum() + 0.002
            within = 0 <= px <= width - 1 and 0 <= py <= height - 1
            assert bool(seen[y, x]) == (within and not hidden and not edge), (y, x)


def test_masks_of_a_pair_lie_on_their_own_grids_and_are_made_once():
    pair = FlowPair(backward=constant_flow(5, 0), forward=constant_flow(-5, 0))
    assert pair.visible_later[..., 91:].sum() == 0  # the later frame's right edge is new
    assert pair.visible_earlier[..., :5].sum() == 0  # the earlier frame's left edge has gone
    assert pair.visible_later is pair.visible_later
