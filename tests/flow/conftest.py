"""Pictures with texture, and what moves them."""

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def texture():
    """One 96x64 frame in [-1, 1] with detail at several scales."""
    noise = torch.Generator().manual_seed(5)
    layers = [
        F.interpolate(torch.rand(1, 3, 64 // size, 96 // size, generator=noise), (64, 96), mode="bicubic")
        for size in (2, 4, 8, 16)
    ]
    frame = torch.stack(layers).mean(0)
    return ((frame - frame.min()) / (frame.max() - frame.min())) * 2 - 1


@pytest.fixture
def moved():
    """A function: the frame shifted by whole pixels, border repeated; what was at p is now at p + (x, y)."""

    def move(frame, x, y):
        height, width = frame.shape[-2:]
        rows = (torch.arange(height) - y).clamp(0, height - 1)
        columns = (torch.arange(width) - x).clamp(0, width - 1)
        return frame[..., rows, :][..., columns]

    return move


def constant_flow(x, y, height=64, width=96):
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, height, width).contiguous()
