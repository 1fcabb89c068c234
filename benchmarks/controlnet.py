"""What the embedded model's ControlNet is worth: how well contours of results and sources agree, with it and without.

    python -m benchmarks.controlnet --data ../shared/data [--model mini] [--controlnet mini] [--out controlnet.csv]

Frames of held-out clips are painted with six prompts where structure can come from the words and the ControlNet alone
(no frame in the image slot, sampling starts from noise), where the image slot counts little, and as the model
recommends. Contours are Canny's after a blur of one pixel. F1 is of precision (contours of the result that have one of
the source within two pixels) and recall (the reverse). Prompt scores are those of `kinopaint evaluate`.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks.calibrate import PROMPTS, judged, pieces

import kinopaint

REACH = 2  # pixels
COLUMNS = ("setting", "controlnet", "clip", "prompt", "edge_f1", "pro_con", "content")


def settings(recommended: dict[str, Any], steps: int) -> dict[str, dict[str, Any]]:
    """Name -> fields of Style-A-Video."""
    base = {**recommended, "num_inference_steps": steps, "temporal": "identity"}
    return {
        "words alone": {**base, "text_branch": "null_image", "s_image": 0.0, "init": "noise"},
        "image slot at a third": {**base, "s_image": base.get("s_image", 1.5) / 3},
        "recommended": base,
    }


def contours(picture: np.ndarray) -> np.ndarray:
    """Where contours are, "height width" of bool."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return cv2.Canny(grey, 40, 100) > 0


def edge_f1(source: np.ndarray, result: np.ndarray) -> float:
    """1: all contours of either have one of the other within `REACH` pixels; 0: none, or one of them has no contour."""
    wanted, found = contours(source), contours(result)
    if not wanted.any() or not found.any():
        return 0.0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1,) * 2)
    near_wanted, near_found = (cv2.dilate(each.astype(np.uint8), disc) > 0 for each in (wanted, found))
    precision, recall = near_wanted[found].mean(), near_found[wanted].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    from kinopaint.models.clip import has_pair, load_clip

    models = {
        "without": kinopaint.load_model(args.model, dtype=args.dtype),
        "with": kinopaint.load_model(args.model, dtype=args.dtype, controlnet=args.controlnet),
    }
    parts = models["without"]
    assert parts.path is not None
    encoder = load_clip(args.model) if has_pair(parts.path) else None
    grid = settings(dict(parts.recommended.get("style-a-video", {})), args.steps)
    rows = []
    for clip, source, times in pieces(args.data, 1, args.width):
        for prompt in PROMPTS:
            names = [(setting, which) for setting in grid for which in models]
            results = {
                f"{setting}/{which}": list(
                    kinopaint.stylize_frames(
                        source, prompt, method=kinopaint.methods.StyleAVideo(**grid[setting]), parts=models[which]
                    )
                )
                for setting, which in names
            }
            scores = judged(source, results, times, prompt, encoder)
            for setting, which in names:
                name = f"{setting}/{which}"
                f1 = statistics.fmean(edge_f1(a, b) for a, b in zip(source, results[name], strict=True))
                own = (setting, which, clip, prompt, round(f1, 4), scores[name]["pro_con"], scores[name]["content"])
                rows.append(dict(zip(COLUMNS, own, strict=True)))
        print(clip, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Means for each setting, with the ControlNet and without, and by how much F1 differs."""
    lines = [
        "| setting | pictures | edge F1 without | with | change | prompt score | content score |",
        "|---" * 7 + "|",
    ]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        means = {
            (name, which): statistics.fmean(found) if (found := [
                row[name] for row in rows
                if (row["setting"], row["controlnet"]) == (setting, which) and row[name] is not None
            ]) else float("nan")
            for name in COLUMNS[4:] for which in ("without", "with")
        }  # fmt: skip
        pictures = sum(row["setting"] == setting and row["controlnet"] == "with" for row in rows)
        f1 = means["edge_f1", "without"], means["edge_f1", "with"]
        change = f"{100 * (f1[1] / f1[0] - 1):+.0f} %" if f1[0] else "–"
        scores = [" → ".join(f"{means[name, which]:.3f}" for which in ("without", "with")) for name in COLUMNS[5:]]
        lines.append(f"| {setting} | {pictures} | {f1[0]:.3f} | {f1[1]:.3f} | {change} | {' | '.join(scores)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Edge F1 of results with a ControlNet and without.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with videos/")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--controlnet", default="mini", help="as for kinopaint stylize (default: mini)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps (default: 8)")
    parser.add_argument("--width", type=int, default=256, help="pixels, longer side (default: 256)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 (default: auto)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/controlnet.csv"), help="a row per picture")
    args = parser.parse_args()
    rows = run(args)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
