"""LoRA: low-rank changes of a network's weights (arXiv:2106.09685).

W becomes W + weight · alpha / rank · up · down. The change is added to the weights themselves, so that it costs nothing
while denoising; taking it off puts back the very parameters that were there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Change:
    """What is added to one weight: scale · up · down; a convolution's `down` may have a kernel."""

    down: Tensor
    up: Tensor
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        """The change for `weight`, in fp32 and of its shape."""
        factors = self.up.flatten(1).to(weight.device), self.down.flatten(1).to(weight.device)
        return (self.scale * (factors[0] @ factors[1])).view(weight.shape)


@dataclass(frozen=True)
class Lora:
    """Changes by part ("unet", "text_encoder", …) and name of the module whose weight they change."""

    changes: Mapping[str, Mapping[str, Change]]
    weight: float = 1.0

    def fuse(self, networks: Mapping[str, nn.Module]) -> list[tuple[Any, nn.Parameter]]:
        """Add the changes to the networks, by part; returns each changed module with the parameter that it had."""
        before = []
        for part, changes in self.changes.items():
            for name, change in changes.items():
                module: Any = networks[part].get_submodule(name)
                old = module.weight
                new = (old.float() + self.weight * change.of(old)).to(old.dtype)
                if old.ndim == 4:
                    new = new.contiguous(memory_format=torch.channels_last)
                module.weight = nn.Parameter(new, requires_grad=False)
                before.append((module, old))
        return before

    @contextmanager
    def applied(self, networks: Mapping[str, nn.Module]) -> Iterator[None]:
        """Have the changes in the networks for a while."""
        before = self.fuse({**networks})
        try:
            yield
        finally:
            for module, old in reversed(before):
                module.weight = old
