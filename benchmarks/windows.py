"""How many frames to denoise together: time of a prediction per frame, by size of the window, taking turns.

    python benchmarks/windows.py [--sizes 1 2 4 8 16] [--size 512x256] [--repeats 5] [--dtype bfloat16 float32]

The embedded model with three branches; the processor's time on one thread, median of the turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

import kinopaint
from kinopaint.engine.denoiser import Condition


def main() -> None:
    parser = argparse.ArgumentParser(description="How many frames to denoise together.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="frames (default: 1 2 4 8 16)")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: 5)")
    parser.add_argument("--dtype", nargs="+", default=["bfloat16", "float32"], help="precisions (default: both)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, given.size.split("x"))
    largest = max(given.sizes)
    for dtype in given.dtype:
        parts = kinopaint.load_model("mini", device="cpu", dtype=dtype)
        nothing, words = parts.text_encoder.encode(["", "a watercolor painting"])
        cells = height // parts.autoencoder.factor, width // parts.autoencoder.factor
        latents = torch.randn(largest, parts.backbone.latent_channels, *cells)
        step = parts.schedule.steps(30)[10]
        milliseconds: dict[int, list[float]] = {size: [] for size in given.sizes}
        with torch.no_grad():
            for _ in range(given.repeats + 1):
                for size, found in milliseconds.items():
                    begin = time.process_time()
                    for first in range(0, largest, size):
                        part = latents[first : first + size]
                        told = [
                            Condition("nothing", nothing),
                            Condition("content", nothing, part),
                            Condition("style", words, part),
                        ]
                        parts.backbone.sized(3 * size).predict(part, step, told)
                    found.append((time.process_time() - begin) / largest * 1000)
        told = ", ".join(f"{size} frames {statistics.median(each[1:]):.1f}" for size, each in milliseconds.items())
        print(f"{given.size}, {dtype}: {told} ms per frame and step; load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
