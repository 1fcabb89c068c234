"""Time per frame, ours against stock diffusers: the same weights, steps, size and precision, side by side.

    python benchmarks/bench.py [--frames 8] [--steps 30] [--repeats 3] [--json FILE]

Both run in one process and take turns, so that whatever else the machine does hits both; the median of the turns
counts. Stock is `StableDiffusionInstructPix2PixPipeline`, called frame by frame as people do for videos. Ours is
Style-A-Video with three branches: `joint` computes what stock computes, `null_image` is our default. Reading and
writing video is in neither; encoding and decoding of latents is in both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kinopaint
from kinopaint import demo
from kinopaint.recipe import versions

PROMPT = "a watercolor painting"
S_TEXT, S_IMAGE = 7.5, 1.5


def stock(parts: Any, pictures: Sequence[np.ndarray], steps: int) -> Callable[[], None]:
    """Stock diffusers on the folder of `parts`, one frame at a time."""
    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL import Image

    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        parts.path, safety_checker=None, requires_safety_checker=False, torch_dtype=parts.dtype
    ).to(parts.device)
    pipeline.set_progress_bar_config(disable=True)
    images = [Image.fromarray(picture) for picture in pictures]

    def run() -> None:
        for image in images:
            pipeline(
                PROMPT,
                image=image,
                num_inference_steps=steps,
                guidance_scale=S_TEXT,
                image_guidance_scale=S_IMAGE,
                generator=torch.Generator().manual_seed(0),
                output_type="np",
            )

    return run


def ours(parts: Any, pictures: Sequence[np.ndarray], steps: int, text_branch: str) -> Callable[[], None]:
    method = kinopaint.methods.StyleAVideo(
        text_branch=text_branch, s_text=S_TEXT, s_image=S_IMAGE, s_mask=0.0, num_inference_steps=steps
    )

    def run() -> None:
        for _ in kinopaint.stylize_frames(iter(pictures), PROMPT, method=method, parts=parts):
            pass

    return run


def machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    place = f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    return f"{torch.cuda.get_device_name(device)}; {place}" if device.type == "cuda" else place


def measure(
    runs: dict[str, Callable[[], None]], repeats: int, frames: int, device: torch.device
) -> dict[str, list[float]]:
    """Milliseconds per frame of each run, one number for each turn; a first turn to warm up is not counted."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                found[name].append((time.perf_counter() - begin) / frames * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time per frame, ours against stock diffusers.")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--frames", type=int, default=8, help="frames per turn (default: 8)")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps (default: 30)")
    parser.add_argument("--repeats", type=int, default=3, help="counted turns (default: 3)")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16 (default: auto)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()

    width, height = map(int, given.size.split("x"))
    parts = kinopaint.load_model(given.model, device=given.device, dtype=given.dtype)
    pictures = list(demo.render(frames=given.frames, size=(width, height)))
    runs = {
        "stock": stock(parts, pictures, given.steps),
        "joint": ours(parts, pictures, given.steps, "joint"),
        "null_image": ours(parts, pictures, given.steps, "null_image"),
    }
    found = measure(runs, given.repeats, given.frames, parts.device)
    median = {name: statistics.median(times) for name, times in found.items()}

    print(f"{machine(parts.device)}\n{', '.join(f'{name} {version}' for name, version in versions().items())}")
    print(
        f"{given.model}, {given.size}, {given.steps} steps, {given.frames} frames, {given.repeats} turns, {parts.dtype}"
    )
    print(f"{'':<42}{'ms/frame':>9}  {'all turns'}")
    for name, label in (
        ("stock", "diffusers InstructPix2Pix, frame by frame"),
        ("joint", "ours, joint, 3 branches"),
        ("null_image", "ours, null_image, 3 branches (default)"),
    ):
        print(f"{label:<42}{median[name]:>9.0f}  {', '.join(f'{each:.0f}' for each in found[name])}")
    ratio = median["stock"] / median["joint"]
    print(f"ratio: ours (joint) takes {1 / ratio:.2f} of stock's time, {ratio:.2f} x as fast")
    if given.json:
        figures = {
            "ms_per_frame": found,
            "median": median,
            "ratio": ratio,
            "machine": machine(parts.device),
            "versions": versions(),
            "settings": {key: str(value) for key, value in vars(given).items()},
            "dtype": str(parts.dtype),
        }
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
