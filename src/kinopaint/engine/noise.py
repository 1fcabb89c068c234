"""Noise from a seed, drawn on the CPU in fp32, so that it is the same on every device.

Neither policy depends on how a video is cut into windows.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Shape = Sequence[int]  # channel, height, width of the latents


def shared_noise(shape: Shape, seed: int) -> Float[Tensor, "1 channel height width"]:
    """One standard normal tensor for all frames; what diffusers' `randn_tensor` draws for one image."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))


def frame_noise(shape: Shape, seed: int, numbers: Sequence[int]) -> Float[Tensor, "frame channel height width"]:
    """Independent standard normal noise for each frame, by the seed and the frame's number in the video."""
    # The CPU generator looks at 32 bits of its seed: spread the seed over them, so that seeds 0 and 1 share no frame.
    start = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "little")
    generators = [torch.Generator().manual_seed((start + number) % 2**32) for number in numbers]
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
