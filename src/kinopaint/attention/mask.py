"""A mask of where self-attention looks, taken on the way through one layer."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kinopaint.attention.record import AttentionOutput, ReceivedAttention
from kinopaint.engine.interventions import Intervention, is_self, under, where
from kinopaint.engine.schedule import Step
from kinopaint.errors import SettingsError
from kinopaint.types import Mask


def above_mean(amount: Float[Tensor, "frame height width"]) -> Bool[Tensor, "frame height width"]:
    """Where a location has more than the mean of its frame, which for attention probabilities is 1.

    Self-attention guidance (arXiv:2210.00939) writes the constant 1.0. Uniform attention gives an empty mask: the
    margin of 1e-6 keeps rounding from deciding there.
    """
    threshold = amount.mean((-2, -1), keepdim=True) + 1e-6 * amount.abs().amax((-2, -1), keepdim=True)
    return amount > threshold


def resized(mask: Bool[Tensor, "frame h w"], size: tuple[int, int]) -> Mask:
    """The mask at `size` (height, width), 0 and 1, by the nearest neighbour."""
    return F.interpolate(mask[:, None].to(torch.float32), size=size, mode="nearest")


class AttentionMask:
    """The mask M of the latest watched prediction, at the latents' `size`; asks one branch of one layer only.

    `source` is what is compared with its mean: "probs", how much each location is attended to, or "output", what the
    attention gives there. All other layers stay on fused attention.
    """

    def __init__(self, layer: str, source: str, size: tuple[int, int]) -> None:
        self.layer, self.source, self.size = layer, source, size
        self._record: ReceivedAttention | AttentionOutput | None = None
        self._index = -1

    def watching(self, branch: str, step: Step) -> Intervention:
        """An intervention for one prediction, which keeps the mask of `branch`."""
        self._record = ReceivedAttention(branch) if self.source == "probs" else AttentionOutput(branch)
        self._index = step.index
        return where(is_self & under(self.layer), self._record)

    def known_at(self, step: Step, *, lagged: bool = False) -> Mask | None:
        """The mask if it was recorded in this step, or with `lagged` in whichever was the latest; else None.

        Raises SettingsError (KP-SETTING-LAYER) if the network has no such layer.
        """
        if self._record is None or (self._index != step.index and not lagged):
            return None
        if self._record.map is None:
            raise SettingsError(
                "KP-SETTING-LAYER",
                f"the network has no self-attention at {self.layer!r}",
                where="mask_layer",
                fix='name a block that has attention, such as "mid_block"',
            )
        return resized(above_mean(self._record.map), self.size)
