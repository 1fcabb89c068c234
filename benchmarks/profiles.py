"""What choices that are not exact cost in likeness, and what they gain: each alone, and the engine profiles.

    python benchmarks/profiles.py [--frames 4] [--size 256x128] [--repeats 2] [--only balanced fast] [--write]

The embedded model paints two clips made in code with four prompts; each row is compared with the same settings under
`exact`. PSNR and SSIM are to the frames of `exact`, scores (those of `kinopaint evaluate`) are ratios to its own. Speed
is the processor's time of painting, rows taking turns, on one thread: the best of the turns. `--write` puts the rows
where recipes find them (src/kinopaint/deviations.json).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kinopaint
from kinopaint import demo, deviations
from kinopaint.methods import StyleAVideo
from kinopaint.metrics.measure import Moment, measure
from kinopaint.metrics.psnr import psnr
from kinopaint.metrics.ssim import ssim
from kinopaint.models import mini_path
from kinopaint.models.clip import load_clip
from kinopaint.models.hashes import file_hash
from kinopaint.models.placement import choose_dtype
from kinopaint.profiles import PROFILES, Profile

SCENES = ("coffee", "cat")
PROMPTS = ("a watercolor painting", "charcoal drawing", "comic book", "stained glass window")
UNET = "unet/diffusion_pytorch_model.safetensors"
SCORES = ("pro_con", "content", "e_warp")
HALF = "bfloat16"


@dataclass(frozen=True)
class Row:
    """A profile in a precision, with `base` fields that `exact` gets, too."""

    profile: Profile
    dtype: str = "float32"
    base: dict[str, Any] = field(default_factory=dict)

    def method(self, recommended: dict[str, Any], *, exact: bool = False) -> StyleAVideo:
        defaults = {name: each.default for name, each in StyleAVideo.__dataclass_fields__.items()}
        profile = PROFILES["exact"] if exact else self.profile
        fields = {**recommended, **self.base, **profile.method_fields(defaults, recommended | self.base)}
        return StyleAVideo(**fields)


def rows() -> dict[str, Row]:
    """Each choice of the profiles alone, then the profiles as they run where half precision is quick."""
    few = {"sampler": "dpmpp_2m"}
    mask, clip = {"s_mask": 0.5}, {"clip_strength": 0.02, "clip_every": 1.0}
    alone = {f"{steps} steps": Row(Profile("", {**few, "num_inference_steps": steps})) for steps in (15, 8, 4)}
    alone |= {
        "every second step reused": Row(Profile("", cache_every=2)),
        "half precision": Row(Profile(""), HALF),
        "lagged mask": Row(Profile("", {"mask_lagged": True}), base=mask),
        "no mask": Row(Profile("", {"s_mask": 0.0}), base=mask),
        "gradient on every second step": Row(Profile("", {"clip_every": 2}), base=clip),
        "no gradient": Row(Profile("", {"clip_strength": 0.0})),
        "a single branch": Row(Profile("", {"guidance": "single"})),
    }
    named = {name: Row(profile, HALF) for name, profile in PROFILES.items() if name != "exact"}
    full = {f"{name}, float32": replace(row, dtype="float32") for name, row in named.items()}
    return {**alone, **named, **full}


class Measuring:
    """Results of `exact` are painted once for each base, and everything is timed."""

    def __init__(self, frames: int, size: tuple[int, int]) -> None:
        self.parts = {dtype: kinopaint.load_model("mini", device="cpu", dtype=dtype) for dtype in ("float32", HALF)}
        self.clips = {scene: list(demo.render(scene, frames=frames, size=size)) for scene in SCENES}
        self.recommended = dict(self.parts["float32"].recommended.get("style-a-video", {}))
        self.encoder = load_clip("mini")

    def painted(self, row: Row, *, exact: bool = False) -> tuple[float, dict[tuple[str, str], list[np.ndarray]]]:
        """Processor seconds, and the frames by scene and prompt."""
        profile = PROFILES["exact"] if exact else row.profile
        parts = profile.applied(self.parts["float32" if exact else row.dtype])
        method, found = row.method(self.recommended, exact=exact), {}
        begin = time.process_time()
        for scene, clip in self.clips.items():
            for prompt in PROMPTS:
                found[scene, prompt] = list(kinopaint.stylize_frames(clip, prompt, method=method, parts=parts))
        return time.process_time() - begin, found

    def scores(self, found: dict[tuple[str, str], list[np.ndarray]]) -> dict[str, float]:
        """Means over scenes and prompts."""
        each = []
        for (scene, prompt), painted in found.items():
            moments = [
                Moment(index / 24, source, {"painted": picture})
                for index, (source, picture) in enumerate(zip(self.clips[scene], painted, strict=True))
            ]
            each.append(measure(moments, encoder=self.encoder, prompt=prompt).rows["painted"].metrics)
        return {name: float(np.mean([metrics[name] for metrics in each])) for name in SCORES}

    def choices(self, row: Row) -> dict[str, Any]:
        method, exact = row.method(self.recommended), row.method(self.recommended, exact=True)
        return row.profile.choices(method, exact, row.profile.applied(self.parts[row.dtype]))


def main() -> None:
    parser = argparse.ArgumentParser(description="What choices that are not exact cost in likeness.")
    parser.add_argument("--frames", type=int, default=4, help="frames of each clip (default: 4)")
    parser.add_argument("--size", default="256x128", help="pixels (default: 256x128)")
    parser.add_argument("--repeats", type=int, default=2, help="turns for the time (default: 2)")
    parser.add_argument("--only", nargs="+", help="these rows (default: all)")
    parser.add_argument("--write", action="store_true", help="write the rows for the recipes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, given.size.split("x"))
    measuring, wanted = Measuring(given.frames, (width, height)), rows()
    if given.only:
        wanted = {name: row for name, row in wanted.items() if name in given.only}
    measuring.painted(Row(Profile("", {"num_inference_steps": 1})))  # warms up
    seconds: dict[str, list[float]] = {}
    results, exact_seconds, exact_results = {}, {}, {}
    for _ in range(given.repeats):
        for base in {json.dumps(row.base): row for row in wanted.values()}.values():
            spent, exact_results[str(base.base)] = measuring.painted(base, exact=True)
            exact_seconds.setdefault(str(base.base), []).append(spent)
        for name, row in wanted.items():
            spent, results[name] = measuring.painted(row)
            seconds.setdefault(name, []).append(spent)

    about = (
        f"{len(SCENES)} clips made in code ({', '.join(SCENES)}) with {len(PROMPTS)} prompts ({', '.join(PROMPTS)}), "
        f"{given.frames} frames of {given.size} each, one thread, torch {torch.__version__}, "
        f"load of the machine {os.getloadavg()[0]:.1f}"
    )
    print(f"{about}\n\n| | PSNR | lowest | SSIM | prompt score | content score | warping error | speed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    table = []
    scored = {base: measuring.scores(found) for base, found in exact_results.items()}
    for name, row in wanted.items():
        pairs = [
            pair
            for key, painted in results[name].items()
            for pair in zip(painted, exact_results[str(row.base)][key], strict=True)
        ]
        near, own = [psnr(*pair) for pair in pairs], measuring.scores(results[name])
        ratios = {score: own[score] / scored[str(row.base)][score] for score in SCORES}
        found = {
            "psnr": round(float(np.mean(near)), 2),
            "psnr_lowest": round(min(near), 2),
            "ssim": round(float(np.mean([ssim(*pair) for pair in pairs])), 4),
            **{score: round(ratio, 4) for score, ratio in ratios.items()},
        }
        if row.dtype != HALF or choose_dtype("auto", torch.device("cpu")) == torch.bfloat16:  # else nobody runs it so
            found["speed"] = round(min(exact_seconds[str(row.base)]) / min(seconds[name]), 2)
        table.append({"name": name, "choices": measuring.choices(row), "deviation": found})
        print(f"| {name} | " + " | ".join(str(value) for value in found.values()) + " |", flush=True)
    if given.write:
        content = {"about": about, "model": "mini", "weights": file_hash(mini_path() / UNET), "rows": table}
        place = Path(deviations.__file__).with_name(deviations.TABLE)
        place.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
