"""The metrics by name: what each one says, its range and direction. Definitions and sources stand in the modules."""

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "near 1"]


@dataclass(frozen=True)
class About:
    """`group` is what the metric judges; `of_source`: the untouched source has a value of its own to compare with."""

    better: Better
    range: str
    what: str
    group: Literal["prompt", "faithfulness", "steadiness"]
    of_source: bool = False


CATALOGUE: dict[str, About] = {
    "pro_con": About("higher", "-1 to 1", "cosine of frames and prompt", "prompt"),
    "fra_acc": About("higher", "0 to 1", "share of frames nearer to the prompt than to the source's caption", "prompt"),
    "content": About("higher", "-1 to 1", "cosine of each frame and its source frame", "faithfulness"),
    "spat_con": About("lower", "0 to 2", "difference of the self-similarity of frame and source frame", "faithfulness"),
    "psnr": About("higher", "dB, 100 = identical", "pixel by pixel, against the source", "faithfulness"),
    "ssim": About("higher", "-1 to 1", "structure, against the source", "faithfulness"),
    "sharpness_ratio": About("near 1", "from 0", "mean gradient, result over source", "faithfulness"),
    "fra_con": About("higher", "-1 to 1", "cosine of neighbouring frames", "steadiness", of_source=True),
    "e_warp": About("lower", "0 to 6", "change along the source's motion: previous + first frame", "steadiness", True),
    "e_warp_excess": About("lower", "-6 to 6", "e_warp less the source's own", "steadiness"),
    "e_warp_previous": About("lower", "0 to 3", "the part of e_warp from frame to frame", "steadiness", True),
    "e_warp_first": About("lower", "0 to 3", "the part of e_warp against the first frame", "steadiness", True),
    "l_temporal": About("lower", "0 to 1", "mean change along the motion, gap 1", "steadiness", True),
    "l_temporal_10": About("lower", "0 to 1", "the same over a gap of 10 frames, each fifth frame", "steadiness", True),
    "warp_error_lai": About("lower", "0 to 1", "squared change along the motion, visible pixels", "steadiness", True),
    "pixel_mse": About("lower", "0 to 1", "squared change along the motion, all pixels", "steadiness", True),
    "flicker": About("lower", "levels², from 0", "luminance energy above 4 Hz along the motion", "steadiness", True),
    "colour_drift": About(
        "lower", "ΔE2000, from 0", "mean colour of each second against the first", "steadiness", True
    ),
}

# Other papers' names for the same numbers.
SAME_AS = {"tem_con": "fra_con", "fram_acc": "fra_acc"}
