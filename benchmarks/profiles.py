"""What each engine profile costs in likeness: its result against that of `exact`, with the embedded model.

    python benchmarks/profiles.py [--frames 4] [--size 512x256] [--clip FILE] [--prompts …]

PSNR is to the result of `exact`, the lowest and the mean over the prompts. Prompt and content scores are those of
`kinopaint evaluate`, as a ratio to `exact`'s; they need an image tower and are left out where there is none. Time is
the processor's, as a multiple of `exact`'s speed. The table goes to benchmarks/README.md, the figures to
`deviation` in src/kinopaint/profiles.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from shares import make_clip, print_nothing

import kinopaint
from kinopaint.profiles import PROFILES
from kinopaint.video import open_clip

SCORES = ("pro_con", "content")


def pictures(path: Path) -> np.ndarray:
    with open_clip(path) as clip:
        return np.stack([frame.image for frame in clip]).astype(np.float64)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over frames, in dB; identical frames count 100."""
    errors = ((one - other) ** 2).mean((1, 2, 3))
    return float(np.mean([10 * np.log10(255**2 / error) if error else 100.0 for error in errors]))


def main() -> None:
    parser = argparse.ArgumentParser(description="What each engine profile costs in likeness.")
    parser.add_argument("--clip", type=Path, help="a video (default: one made in code)")
    parser.add_argument("--frames", type=int, default=4, help="frames (default: 4)")
    parser.add_argument("--size", default="512x256", help="pixels of the clip made in code (default: 512x256)")
    parser.add_argument(
        "--prompts", nargs="+", default=["a watercolor painting", "charcoal drawing", "neon (cyberpunk)"]
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = given.clip or folder / "clip.mp4"
        if not given.clip:
            width, height = map(int, given.size.split("x"))
            make_clip(clip, given.frames, (width, height))
        near: dict[str, list[float]] = {profile: [] for profile in PROFILES}
        scores: dict[str, dict[str, list[float]]] = {profile: {} for profile in PROFILES}
        seconds = dict.fromkeys(PROFILES, 0.0)
        for prompt in given.prompts:
            reference = None
            for profile in PROFILES:
                result = folder / f"{profile}.mkv"
                begin = time.process_time()
                kinopaint.stylize(
                    clip, prompt, result, preset=profile, codec="ffv1", overwrite=True, progress=print_nothing
                )
                seconds[profile] += time.process_time() - begin
                found = pictures(result)
                reference = found if reference is None else reference
                near[profile].append(psnr(found, reference))
                measured = kinopaint.evaluate(clip, result, prompt=prompt, progress=print_nothing).metrics
                for score in SCORES:
                    if (value := measured.get(score)) is not None:
                        scores[profile].setdefault(score, []).append(value)
    print("| profile | PSNR to exact, lowest | mean | prompt score | content score | speed |")
    print("| --- | --- | --- | --- | --- | --- |")
    for profile in PROFILES:
        ratios = []
        for score in SCORES:
            own, exact = scores[profile].get(score), scores["exact"].get(score)
            ratios.append(f"{np.mean(own) / np.mean(exact):.3f}" if own and exact else "not measured")
        levels = f"{min(near[profile]):.1f} dB | {np.mean(near[profile]):.1f} dB"
        print(f"| `{profile}` | {levels} | {' | '.join(ratios)} | {seconds['exact'] / seconds[profile]:.2f} |")


if __name__ == "__main__":
    main()
