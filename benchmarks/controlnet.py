"""What the embedded model's ControlNet is worth: how well contours of results and sources agree, with it and without.

    python -m benchmarks.controlnet --data ../shared/data [--model mini] [--controlnet mini] [--out controlnet.csv]

Frames of held-out clips are painted with six prompts where structure can come from the words and the ControlNet alone
(no frame in the image slot, sampling starts from noise), where the image slot counts little, and as the model
recommends. F1 is that of benchmarks/edges.py, prompt and content scores those of `kinopaint evaluate`.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

from benchmarks.calibrate import PROMPTS, judged, pieces
from benchmarks.edges import edge_f1

import kinopaint

COLUMNS = ("setting", "controlnet", "clip", "prompt", "edge_f1", "pro_con", "content")


def settings(recommended: dict[str, Any], steps: int) -> dict[str, dict[str, Any]]:
    """Name -> fields of Style-A-Video."""
    base = {**recommended, "num_inference_steps": steps, "temporal": "identity"}
    return {
        "words alone": {**base, "text_branch": "null_image", "s_image": 0.0, "init": "noise"},
        "image slot at a third": {**base, "s_image": base.get("s_image", 1.5) / 3},
        "recommended": base,
    }


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
