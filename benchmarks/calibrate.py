"""Which settings of Style-A-Video suit a checkpoint: a small grid over real clips, and an ablation of the parts.

    python benchmarks/calibrate.py --data ../shared/data [--model mini] [--out benchmarks/calibration] [--minutes 110]

Every setting paints the same pieces of four held-out clips with six prompts; the numbers are those of `kinopaint
evaluate`. Rows go to OUT/results.csv as they are found, so that a run that was stopped goes on, and `--report` alone
draws table and pictures from what is there. Groups, at most 60 settings together:

    parts     each condition alone, pairs, all three, at fixed scales; the CLIP step on top
    scales    s_image × s_text, with both kinds of the words' branch
    mask      kinds, strengths and layers of the mask
    clip      strength, window, interval and shift of the CLIP step
    temporal  the three backends, and strengths of flow_blend
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import kinopaint

CLIPS = (("cockatoo.mp4", 2.0), ("man_skiing.mp4", 0.5), ("sam2_coffee.mp4", 3.0), ("intel_store_aisle.gif", 0.5))
PROMPTS = (
    "a watercolor painting",
    "oil painting",
    "charcoal drawing",
    "pen and ink drawing with cross-hatching",
    "comic book",
    "swirling post-impressionist painting (van Gogh)",
)
METRICS = (
    "pro_con",
    "content",
    "spat_con",
    "e_warp",
    "e_warp_excess",
    "l_temporal",
    "l_temporal_10",
    "sharpness_ratio",
)
COLUMNS = ("group", "setting", "fields", "clip", "prompt", *METRICS, "source_sharpness", "seconds_per_frame")
LIMIT = 60


@dataclass(frozen=True)
class Setting:
    group: str
    name: str
    fields: dict[str, Any]


def settings(base: dict[str, Any], *, tower: bool, refiner: bool) -> list[Setting]:
    """The grid around `base`, the model's recommended fields; parts that the model has not are left out."""
    still = {**base, "temporal": "identity"}
    s_image, s_text = base.get("s_image", 1.5), base.get("s_text", 7.5)
    s_mask = base.get("s_mask") or 0.5
    found: list[Setting] = []

    def add(group: str, name: str, **fields: Any) -> None:
        found.append(Setting(group, name, {**still, **fields}))

    for image in (0.0, s_image):
        for text in (0.0, s_text):
            for mask in (0.0, s_mask):
                if image or text or mask:
                    name = "+".join(n for n, on in (("image", image), ("text", text), ("mask", mask)) if on)
                    add("parts", name, s_image=image, s_text=text, s_mask=mask, clip_strength=0.0)
    if tower:
        add("parts", "image+text+clip", s_mask=0.0, clip_strength=0.02)
        add("parts", "image+text+mask+clip", s_mask=s_mask, clip_strength=0.02)
    off = {"s_mask": 0.0, "clip_strength": 0.0}
    for branch in ("joint", "null_image"):
        for image in (0.8, 1.0, 1.3) if branch == "joint" else (1.0, 1.5):
            for text in (1.5, 2.0, 3.0):
                add("scales", f"{branch} {image} {text}", text_branch=branch, s_image=image, s_text=text, **off)
    for mode in ("masked_content", "binary_image", "sag"):
        for strength in (0.25, 0.75):
            for layer in ("mid_block", "up_blocks.2"):
                fields = {"mask_mode": mode, "s_mask": strength, "mask_layer": layer, "clip_strength": 0.0}
                add("mask", f"{mode} {strength} {layer}", **fields)
    if tower:
        for strength in (0.005, 0.01, 0.02, 0.05, 0.1):
            add("clip", f"state {strength}", clip_strength=strength, s_mask=0.0)
        for strength in (0.02, 0.05):
            add("clip", f"state {strength} 0.9-0.2", clip_strength=strength, clip_high=0.9, clip_low=0.2, s_mask=0.0)
            add("clip", f"state {strength} every 2", clip_strength=strength, clip_every=2, s_mask=0.0)
            add("clip", f"classifier {strength}", clip_strength=strength, clip_shift="classifier", s_mask=0.0)
        add("clip", "eval_only 0.05", clip_strength=0.05, clip_shift="eval_only", s_mask=0.0)
        add("clip", "linear decoder 0.05", clip_strength=0.05, clip_decoder="linear", s_mask=0.0)
    add("temporal", "identity")
    for strength in (0.5, 0.8, 0.9):
        add("temporal", f"flow_blend {strength}", temporal="flow_blend", temporal_strength=strength)
    if refiner:
        add("temporal", "net", temporal="net")
    if len(found) > LIMIT:
        raise SystemExit(f"{len(found)} settings; the limit is {LIMIT}")
    return found


def pieces(data: Path, frames: int, width: int) -> Iterator[tuple[str, list[np.ndarray], list[float]]]:
    """Consecutive frames of each clip at `width` pixels on the longer side, and their times."""
    from kinopaint.video import open_clip

    for name, start in CLIPS:
        pictures, times = [], []
        with open_clip(data / "videos" / name, start=start) as clip:
            for frame in clip:
                scale = width / max(frame.image.shape[:2])
                size = tuple(int(side * scale) // 8 * 8 for side in frame.image.shape[1::-1])
                pictures.append(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))
                times.append(float(frame.time))
                if len(pictures) == frames:
                    break
        yield name, pictures, times


def judged(
    source: list[np.ndarray], result: list[np.ndarray], times: list[float], prompt: str, encoder: Any
) -> dict[str, float | None]:
    from kinopaint.metrics.measure import Moment, measure

    moments = (Moment(at, a, {"result": b}) for at, a, b in zip(times, source, result, strict=True))
    row = measure(moments, encoder=encoder, prompt=prompt if encoder else None).rows["result"]
    return {name: row.metrics.get(name) for name in METRICS}


def sharpness(pictures: Iterable[np.ndarray]) -> float:
    from kinopaint.metrics.sharpness import sharpness as of

    return statistics.fmean(of(picture) for picture in pictures)


def run(args: argparse.Namespace) -> None:
    """Fill results.csv, round after round over clips and prompts, so that a run cut short still compares fairly."""
    from kinopaint.models.clip import has_pair, load_clip

    parts = kinopaint.load_model(args.model, dtype=args.dtype)
    assert parts.path is not None
    encoder = load_clip(args.clip or args.model) if args.clip or has_pair(parts.path) else None
    base = {**parts.recommended.get("style-a-video", {}), "num_inference_steps": args.steps}
    grid = settings(base, tower=parts.image_encoder is not None, refiner=parts.refiner is not None)
    if args.groups:
        grid = [setting for setting in grid if setting.group in args.groups]
    table = args.out / "results.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = {(row["setting"], row["fields"], row["clip"], row["prompt"]) for row in read(table)}
    begin = time.monotonic()
    clips = list(pieces(args.data, args.frames, args.width))
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not done and not table.stat().st_size:
            writer.writeheader()
        for turn in range(max(len(clips), len(PROMPTS))):
            for which in range(min(len(clips), len(PROMPTS))):
                # each turn pairs every clip with another prompt; six turns make all 24 pairs
                name, source, times = clips[which % len(clips)]
                prompt = PROMPTS[(turn + which) % len(PROMPTS)]
                for setting in grid:
                    key = (setting.name, json.dumps(setting.fields, sort_keys=True), name, prompt)
                    if key in done:
                        continue
                    if time.monotonic() - begin > 60 * args.minutes:
                        return
                    method, clock = kinopaint.methods.StyleAVideo(**setting.fields), time.monotonic()
                    result = list(kinopaint.stylize_frames(source, prompt, method=method, parts=parts))
                    spent = (time.monotonic() - clock) / len(source)
                    row = judged(source, result, times, prompt, encoder)
                    writer.writerow(
                        {"group": setting.group, "setting": setting.name, "fields": key[1], "clip": name,
                         "prompt": prompt, "source_sharpness": sharpness(source), "seconds_per_frame": round(spent, 4)}
                        | {n: "" if v is None else round(v, 5) for n, v in row.items()}
                    )  # fmt: skip
                    file.flush()
            print(f"turn {turn + 1}: {(time.monotonic() - begin) / 60:.1f} min", flush=True)


def read(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def means(rows: list[dict[str, str]]) -> dict[tuple[str, str], dict[str, float]]:
    """(group, setting) -> mean of each number over the clips and prompts that all settings of the group have."""
    pairs: dict[tuple[str, str], dict[tuple[str, str], dict[str, str]]] = defaultdict(dict)
    for row in rows:
        pairs[row["group"], row["setting"]][row["clip"], row["prompt"]] = row
    found = {}
    for (group, setting), cells in pairs.items():
        shared = set.intersection(*(set(other) for (g, _), other in pairs.items() if g == group))
        values: dict[str, float] = {"pieces": len(shared)}
        for name in (*METRICS, "seconds_per_frame"):
            numbers = [float(cells[cell][name]) for cell in sorted(shared) if cells[cell][name]]
            if numbers:
                values[name] = statistics.fmean(numbers)
        found[group, setting] = values
    return found


def report(args: argparse.Namespace) -> None:
    """Write OUT/table.md and OUT/<group>.png, and say which setting a rule would take."""
    found = means(read(args.out / "results.csv"))
    if not found:
        raise SystemExit(f"{args.out / 'results.csv'} holds nothing yet")
    names = [n for n in (*METRICS, "seconds_per_frame") if any(n in row for row in found.values())]
    lines = ["| group | setting | pieces | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for (group, setting), row in found.items():
        cells = " | ".join(f"{row[n]:.4f}" if n in row else "" for n in names)
        lines.append(f"| {group} | {setting} | {row['pieces']} | {cells} |")
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(found, args.out)
    print("\n".join(lines))
    if choice := chosen({setting: row for (group, setting), row in found.items() if group == "scales"}):
        print(f"\nby the rule (best prompt score among those above the median content score): {choice}")


def chosen(rows: dict[str, dict[str, float]]) -> str | None:
    """Of the settings whose content score is at least the median, the one with the best prompt score."""
    scored = {name: row for name, row in rows.items() if "pro_con" in row and "content" in row}
    if not scored:
        return None
    middle = statistics.median(row["content"] for row in scored.values())
    return max((name for name in scored if scored[name]["content"] >= middle), key=lambda n: scored[n]["pro_con"])


def draw(found: dict[tuple[str, str], dict[str, float]], out: Path) -> None:
    """A picture for each group: prompt against content score, or where there is no tower, steadiness and sharpness."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for group in dict.fromkeys(group for group, _ in found):
        rows = {setting: row for (g, setting), row in found.items() if g == group}
        scored = all("pro_con" in row for row in rows.values())
        across, up = ("content", "pro_con") if scored and group != "temporal" else ("e_warp_excess", "sharpness_ratio")
        figure, axes = pyplot.subplots(figsize=(8, 5))
        for setting, row in rows.items():
            if across in row and up in row:
                axes.scatter(row[across], row[up])
                axes.annotate(setting, (row[across], row[up]), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(f"{group}: mean over clips and prompts")
        figure.tight_layout()
        figure.savefig(out / f"{group}.png", dpi=90)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate Style-A-Video for a checkpoint, and compare its parts.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with videos/")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--clip", help="a CLIP that scores (default: the model's own pair; its tower also guides)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/calibration"), help="folder of results")
    parser.add_argument("--groups", nargs="*", default=[], help="only these (default: all)")
    parser.add_argument("--frames", type=int, default=12, help="frames of each clip (default: 12)")
    parser.add_argument("--steps", type=int, default=8, help="denoising steps (default: 8)")
    parser.add_argument("--width", type=int, default=192, help="pixels, longer side (default: 192)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 (default: auto)")
    parser.add_argument("--minutes", type=float, default=110, help="stop after so long (default: 110)")
    parser.add_argument("--report", action="store_true", help="only table and pictures of what is there")
    args = parser.parse_args()
    if not args.report:
        run(args)
    report(args)


if __name__ == "__main__":
    main()
