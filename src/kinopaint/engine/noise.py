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
    return noise_tape(shape, seed, 1)


def noise_tape(shape: Shape, seed: int, draws: int) -> Float[Tensor, "draw channel height width"]:
    """Standard normal tensors for all frames, drawn one after another; the first is `shared_noise`."""
    return _drawn(torch.Generator().manual_seed(seed), shape, draws)


def frame_tapes(
    shape: Shape, seed: int, numbers: Sequence[int], draws: int
) -> Float[Tensor, "draw frame channel height width"]:
    """The same for each frame apart; the first draw is `frame_noise`."""
    return torch.stack([_drawn(generator, shape, draws) for generator in _generators(seed, numbers)], dim=1)


def frame_noise(shape: Shape, seed: int, numbers: Sequence[int]) -> Float[Tensor, "frame channel height width"]:
    """Independent standard normal noise for each frame, by the seed and the frame's number in the video."""
    return frame_tapes(shape, seed, numbers, 1)[0]


def _drawn(generator: torch.Generator, shape: Shape, draws: int) -> Tensor:
    return torch.stack([torch.randn(tuple(shape), generator=generator) for _ in range(draws)])


def _generators(seed: int, numbers: Sequence[int]) -> list[torch.Generator]:
    # The CPU generator looks at 32 bits of its seed: spread the seed over them, so that seeds 0 and 1 share no frame.
    start = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=4).digest(), "little")
    return [torch.Generator().manual_seed((start + number) % 2**32) for number in numbers]
