"""Where a network is trained, and in which precision: the same recipe on CPU and GPU.

Data and random numbers are drawn on the CPU, so that their order is that of the seed on every device.
"""

import argparse

import torch

from kinopaint.models.placement import choose_device, choose_dtype


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option `--device`, read as a `torch.device`."""
    parser.add_argument("--device", type=choose_device, default="auto", help="auto: CUDA where there is one")


def halves(device: torch.device) -> bool:
    """Whether `device` multiplies in bfloat16. Elsewhere that takes ten times as long as float32."""
    return choose_dtype("auto", device) == torch.bfloat16


def half_precision(device: torch.device) -> torch.autocast:
    """A context where matrix products and convolutions run in bfloat16, if `device` multiplies in it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=halves(device))
