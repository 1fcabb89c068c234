"""Compile a network's repeated blocks with torch.compile: seconds on the first call of a kind, less on later ones where
kernels are many and small. Results are the same up to rounding.
"""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from kinopaint.errors import SettingsError
from kinopaint.models.layers import TransformerBlock


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """Compile the transformer blocks of `unet`, but not the attention in them, where interventions may be any code.

    Raises SettingsError (KP-SETTING-COMPILE) where there is nothing that compiles, such as a C++ compiler.
    """
    _try_compiler(unet.device)
    network: Any = unet
    eager: Any = torch.compiler.disable
    for module in network.modules():
        if isinstance(module, Attention):
            module.forward = eager(module.forward)  # type: ignore[method-assign]
    network._repeated_blocks = [TransformerBlock.__name__]  # diffusers looks for its own name
    network.compile_repeated_blocks()


def _try_compiler(device: torch.device) -> None:
    """Compile and run something small."""

    def sine(numbers: torch.Tensor) -> torch.Tensor:
        return numbers.sin() + 1

    try:
        torch.compile(sine)(torch.zeros(8, device=device))
    except Exception as error:
        raise SettingsError(
            "KP-SETTING-COMPILE",
            f"torch.compile does not work here: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
            where="--compile",
            fix="leave --compile out, or install what it wants: a C++ compiler (g++) and, for a GPU, Triton",
        ) from error
