"""The blend along the source's motion: its formula, whom it trusts, and that it does not smear."""

import pytest
import torch

from kinopaint.flow.dis import DisFlow
from kinopaint.flow.warp import warp
from kinopaint.temporal.chain import Past, Present, refine_in_order
from kinopaint.temporal.flow_blend import blurred, flow_blend, likeness, with_detail_of


class Known:
    """The exact motion of a camera that pans by `shift` pixels a frame to the right."""

    identity = "known"

    def __init__(self, shift):
        self.shift, self.calls = shift, 0

    def estimate(self, target, source):
        self.calls += 1
        flow = torch.zeros(len(target), 2, *target.shape[-2:])
        flow[:, 0] = self.shift if self.calls % 2 else -self.shift  # from this frame to the earlier one, then back
        return flow


def pan(count, shift, height=48, width=64, seed=0):
    wide = torch.rand(1, 3, height, width + shift * count, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    wide = blurred(wide, 1.0) * 2
    return torch.stack([wide[0, :, :, i * shift : i * shift + width] for i in range(count)])


def test_the_formula_where_the_source_agrees():
    """Frame f shows p where frame f-1 showed p + 3: O = P + β (W(O') - P) inside, P at the border that came in."""
    source = pan(2, 3)
    painted = torch.rand(2, 3, 48, 64)
    earlier = torch.rand(3, 48, 64)
    refine = flow_blend(Known(3), 0.6, keep_detail=False)
    refined, _ = refine(Present(source[1], painted[1]), Past(source[0], painted[0], earlier))
    inside = painted[1][..., :-3] + 0.6 * (earlier[..., 3:] - painted[1][..., :-3])
    assert torch.allclose(refined[..., :-7], inside[..., :-4], atol=1e-4)  # the last four columns are the soft edge
    assert torch.equal(refined[..., -3:], painted[1][..., -3:])


def test_the_flow_leads_from_this_frame_to_the_one_before():
    """Turned round it would lead away: the estimator is asked for (present, past) first."""
    asked = []

    class Watching(Known):
        def estimate(self, target, source):
            asked.append((target[0], source[0]))
            return super().estimate(target, source)

    source, painted = pan(2, 3), torch.rand(2, 3, 48, 64)
    refine_in_order(painted, source, None, flow_blend(Watching(3), 0.6))
    assert torch.equal(asked[0][0], source[1])
    assert torch.equal(asked[0][1], source[0])


def test_where_the_source_changed_nothing_is_taken_over():
    source, painted = pan(2, 0), torch.rand(2, 3, 48, 64)
    source[1][:, 10:30, 10:30] *= -1
    flow = Known(0)
    refine = flow_blend(flow, 0.6, keep_detail=False)
    refined, _ = refine(Present(source[1], painted[1]), Past(source[0], painted[0], torch.rand(3, 48, 64)))
    changed = (source[1] - source[0]).square().sum(0) > 1
    assert changed.sum() > 100
    assert torch.allclose(refined[:, changed], painted[1][:, changed], atol=1e-4)
    assert torch.allclose(likeness(source[:1], source[:1]), torch.ones(1))


def test_strength_zero_changes_nothing():
    source, painted = pan(3, 2), torch.rand(3, 3, 48, 64)
    refined, _ = refine_in_order(painted, source, None, flow_blend(DisFlow(), 0.0))
    assert torch.allclose(refined, painted, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 2])
def test_flicker_goes_and_sharpness_stays(shift):
    """Independent texture on every frame: the worst case. Averaged plainly it would go flat."""
    count, generator = 8, torch.Generator().manual_seed(3)
    source = pan(count, shift)
    painted = 0.3 * source + 0.4 * blurred(torch.randn(count, 3, 48, 64, generator=generator), 0.7)

    def flicker(frames):
        flow = torch.zeros(1, 2, 48, 64)
        flow[:, 0] = shift
        inner = slice(8, -8)
        pairs = [frames[i : i + 1] - warp(frames[i - 1 : i], flow) for i in range(3, count)]
        return sum(float(pair[..., inner, inner].abs().mean()) for pair in pairs)

    def sharpness(frames):
        return float((frames[3:, :, :, 9:-8] - frames[3:, :, :, 8:-9]).abs().mean())

    kept, _ = refine_in_order(painted, source, None, flow_blend(Known(shift), 0.7))
    plain, _ = refine_in_order(painted, source, None, flow_blend(Known(shift), 0.7, keep_detail=False))
    assert flicker(kept) < 0.65 * flicker(painted)
    assert sharpness(kept) > 0.9 * sharpness(painted)
    assert sharpness(plain) < 0.75 * sharpness(painted)  # the trap that the detail step avoids


def test_detail_is_given_back_only_where_it_was_lost():
    painted = torch.rand(1, 3, 40, 40)
    assert torch.allclose(with_detail_of(painted, painted), painted, atol=1e-6)
    flatter = blurred(painted, 3.0) + 0.7 * (painted - blurred(painted, 3.0))
    restored = with_detail_of(painted, flatter)
    fine = [(frame - blurred(frame, 1.5)).square().mean() for frame in (painted, flatter, restored)]
    assert fine[1] < 0.6 * fine[0]
    assert 0.9 * fine[0] < fine[2] < 1.1 * fine[0]
    sharper = painted + 0.5 * (painted - blurred(painted, 1.5))
    assert torch.allclose(with_detail_of(painted, sharper), sharper, atol=1e-6)
