"""The temporal refinement network: Lai et al.'s transformation network (arXiv:1808.00449), in Deflicker's use of it.

Named as the published weights are, which declare instance normalisation and, by a slip in the test for it, never apply
it: it is not built here, and its buffers in a file are skipped.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinopaint.types import Frames

State = tuple[Tensor, Tensor]
_MULTIPLE = 4  # two halvings


class _Conv(nn.Module):
    """A convolution behind reflected borders."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(inside, outside, kernel, stride)
        self.reach = kernel // 2

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.conv2d(F.pad(features, (self.reach,) * 4, mode="reflect"))
        return result


class _Residual(nn.Module):
    """Two convolutions around which the input goes; no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Conv(channels, channels, 3), _Conv(channels, channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.conv2(_activated(self.conv1(features)))
        return result


class _ConvLstm(nn.Module):
    """One convolution for all gates: in, forget, out, cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, features: Tensor, state: State | None) -> State:
        """The new hidden and cell state; None: zeros before."""
        hidden, cell = state or (torch.zeros_like(features), torch.zeros_like(features))
        enter, forget, leave, new = self.Gates(torch.cat([features, hidden], dim=1)).chunk(4, dim=1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell.tanh(), cell


class RefinementNet(nn.Module):
    """P + tanh(network(P, O', G, G')): frames in [0, 1]; `width` 32 and 5 `blocks` are the published size.

    `guide` says what G is, "painted" or "source"; with `carries_state` the recurrent state goes from frame to frame
    (Lai et al.), else it is zero for every frame (Deflicker).
    """

    def __init__(self, width: int = 32, blocks: int = 5, guide: str = "painted", carries_state: bool = False) -> None:
        super().__init__()
        self.guide, self.carries_state = guide, carries_state
        self.conv1a, self.conv1b = _Conv(6, width, 7), _Conv(6, width, 7)
        self.conv2a, self.conv2b = _Conv(width, 2 * width, 3, 2), _Conv(width, 2 * width, 3, 2)
        self.conv3 = _Conv(4 * width, 4 * width, 3, 2)
        self.ResBlocks = nn.ModuleList(_Residual(4 * width) for _ in range(blocks))
        self.convlstm = _ConvLstm(4 * width)
        self.deconv1 = _Conv(4 * width, 2 * width, 3)
        self.deconv2 = _Conv(4 * width, width, 3)
        self.deconv3 = _Conv(2 * width, 3, 7)

    def forward(
        self, painted: Frames, earlier_output: Frames, guide: Frames, earlier_guide: Frames, state: State | None = None
    ) -> tuple[Frames, State]:
        """The refined frame and the recurrent state. Any size: sides are padded by repetition and cropped again."""
        height, width = painted.shape[-2:]
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        dtype = self.conv3.conv2d.weight.dtype
        ours, theirs = (
            F.pad(torch.cat(pair, dim=1).to(dtype), padding, mode="replicate")
            for pair in ((painted, earlier_output), (guide, earlier_guide))
        )
        full_a, full_b = _activated(self.conv1a(ours)), _activated(self.conv1b(theirs))
        half_a, half_b = _activated(self.conv2a(full_a)), _activated(self.conv2b(full_b))
        features = _activated(self.conv3(torch.cat([half_a, half_b], dim=1)))
        for block in self.ResBlocks:
            features = block(features)
        state = self.convlstm(features, state)
        half = _activated(self.deconv1(_doubled(state[0])))
        full = _activated(self.deconv2(_doubled(torch.cat([half, half_a], dim=1))))
        change = torch.tanh(self.deconv3(torch.cat([full, full_a], dim=1)))
        return painted + change[..., :height, :width].to(painted.dtype), state


def _activated(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.2)


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")


def without_unused_norms(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the buffers of normalisation layers, which published weights hold and never used."""
    return {name: tensor for name, tensor in state.items() if ".norm_layer." not in name}
