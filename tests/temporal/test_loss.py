"""T32: the short-term loss, its direction and its gradient."""

import torch

from kinopaint.flow.warp import warp
from kinopaint.temporal.loss import soft_visibility, temporal_loss

# The camera pans so that this frame shows at p what the earlier one showed at p - 2: the flow to it is -2.
BACK = torch.zeros(1, 2, 16, 24)
BACK[:, 0] = -2
EARLIER = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
NOW = torch.roll(EARLIER, 2, dims=-1)
SEEN = torch.ones(1, 1, 16, 24)
SEEN[..., :2] = 0


def test_it_is_zero_for_the_earlier_output_brought_along_and_not_with_the_flow_turned_round():
    assert temporal_loss(warp(EARLIER, BACK), EARLIER, BACK, torch.ones_like(SEEN)) == 0
    assert temporal_loss(NOW, EARLIER, BACK, SEEN) < 1e-6
    assert temporal_loss(NOW, EARLIER, -BACK, SEEN) > 0.1


def test_the_gradient_goes_to_the_output_alone():
    output, earlier = NOW.clone().requires_grad_(), EARLIER.clone().requires_grad_()
    temporal_loss(output + 0.1, earlier, BACK, SEEN).backward()
    assert output.grad.abs().max() > 0
    assert earlier.grad is None


def test_what_the_mask_hides_costs_nothing():
    assert temporal_loss(NOW + 1, EARLIER, BACK, torch.zeros_like(SEEN)) == 0


def test_visibility_falls_with_the_sum_of_the_squares():
    source = 2 * NOW - 1
    earlier = 2 * EARLIER - 1
    assert torch.allclose(soft_visibility(source, earlier, BACK)[..., 2:], torch.ones(1), atol=1e-4)
    lit = source + 2 * torch.tensor([0.1, -0.1, 0.0]).view(3, 1, 1)  # the sum of the differences would be zero
    expected = torch.exp(torch.tensor(-50 * 0.02))
    assert torch.allclose(soft_visibility(lit, earlier, BACK)[..., 2:], expected, atol=1e-4)
