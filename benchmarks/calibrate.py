"""Which settings of Style-A-Video suit a checkpoint: a small grid over real clips, and an ablation of the parts.

    python -m benchmarks.calibrate --data ../shared/data [--model mini] [--out benchmarks/calibration] [--minutes 60]

Every setting paints the same pieces of four held-out clips with six prompts; the numbers are those of `kinopaint
evaluate`, seconds are the processor's. Rows go to OUT/results.csv as they are found, so a run that was stopped goes
on. `--report` alone writes from what is there: table.md (means; what masks and CLIP steps are worth against the same
without them, piece by piece; temporal backends against `identity`), pictures, and recommended.json, the fields that
training/recommended.json is to name. With its defaults all takes about 40 minutes of one core. Groups, at most 60
settings together:

    parts     each condition alone, pairs, all three, at fixed scales; the CLIP step on top
    scales    s_image × s_text, with both kinds of the words' branch
    mask      kinds, strengths and layers of the mask; the mask with less of the whole frame
    clip      strength, window, interval, shift, features and decoder of the CLIP step; the step with more words
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
import torch
from benchmarks.edges import edge_f1

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
    "edge_f1",
    "e_warp",
    "e_warp_excess",
    "l_temporal",
    "l_temporal_10",
    "sharpness_ratio",
)
COLUMNS = ("group", "setting", "fields", "clip", "prompt", *METRICS, "source_sharpness", "seconds_per_frame")
LIMIT = 60
BASELINE = ("parts", "image+text")  # what masks and CLIP steps are added to


@dataclass(frozen=True)
class Setting:
    group: str
    name: str
    fields: dict[str, Any]


def settings(base: dict[str, Any], *, tower: bool, refiner: bool) -> list[Setting]:
    """The grid around `base`, the model's recommended fields; parts that the model has not are left out."""
    clip_step = {name: value for name, value in base.items() if name.startswith("clip_")}
    still = {name: value for name, value in base.items() if name not in clip_step} | {"temporal": "identity"}
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
        at = {"clip_strength": 0.05, "clip_every": 0.33}
        add("parts", "image+text+clip", s_mask=0.0, **at)
        add("parts", "image+text+mask+clip", s_mask=s_mask, **at)
    off = {"s_mask": 0.0, "clip_strength": 0.0}
    for branch in ("joint", "null_image"):
        for image in (0.8, 1.0, 1.3) if branch == "joint" else (1.0, 1.5):
            for text in (1.5, 2.0, 3.0):
                add("scales", f"{branch} {image} {text}", text_branch=branch, s_image=image, s_text=text, **off)
    fine = "up_blocks.2"
    for mode, strengths in {"masked_content": (0.25, 0.75), "sag": (0.25, 0.75, 1.5)}.items():
        for strength in strengths:
            for layer in ("mid_block", fine):
                at = {"mask_mode": mode, "s_mask": strength, "mask_layer": layer, "clip_strength": 0.0}
                add("mask", f"{mode} {strength} {layer}", **at)
    at = {"mask_layer": fine, "clip_strength": 0.0}
    add("mask", f"binary_image 0.25 {fine}", mask_mode="binary_image", s_mask=0.25, **at)
    add("mask", f"masked_content 0.5 {fine} less image", s_mask=0.5, **{**at, "s_image": 0.6 * s_image})
    if tower:
        for strength in (0.02, 0.05):
            add("clip", f"state {strength}", clip_strength=strength, s_mask=0.0)
        for strength in (0.03, 0.05, 0.1):
            at = {"clip_strength": strength, "s_mask": 0.0}
            add("clip", f"state {strength} three times", clip_every=0.33, **at)
        for strength in (0.05, 0.1):
            at = {"clip_strength": strength, "s_mask": 0.0}
            add("clip", f"state {strength} twice", clip_every=0.5, **at)
            at["clip_every"] = 0.33
            add("clip", f"state {strength} more words", **{**at, "s_text": 1.5 * s_text})
            add("clip", f"classifier {strength}", clip_shift="classifier", **at)
            add("clip", f"self_similarity {strength}", clip_features="self_similarity", **at)
        add("clip", "state 0.1 early", clip_low=0.5, **at)
        add("clip", "state 0.1 late", clip_high=0.7, **at)
        at["clip_strength"] = 0.05
        add("clip", "eval_only 0.05", clip_shift="eval_only", **at)
        add("clip", "pooled 0.05", clip_features="pooled", **at)
        for decoder in ("linear", "reduced"):
            add("clip", f"{decoder} decoder 0.05", clip_decoder=decoder, **at)
    add("temporal", "identity", **clip_step)
    for strength in (0.5, 0.8, 0.9):
        blend = {"temporal": "flow_blend", "temporal_strength": strength}
        add("temporal", f"flow_blend {strength}", **blend, **clip_step)
    if refiner:
        add("temporal", "net", temporal="net", **clip_step)
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
    source: list[np.ndarray], results: dict[str, list[np.ndarray]], times: list[float], prompt: str, encoder: Any
) -> dict[str, dict[str, float | None]]:
    """The numbers of all results of one piece: flow and the source's embeddings are made once."""
    from kinopaint.metrics.measure import Moment, measure

    found = measure(
        (
            Moment(at, frame, {name: result[place] for name, result in results.items()})
            for place, (at, frame) in enumerate(zip(times, source, strict=True))
        ),
        encoder=encoder,
        prompt=prompt if encoder else None,
    )
    return {
        name: {metric: found.rows[name].metrics.get(metric) for metric in METRICS}
        | {"edge_f1": statistics.fmean(edge_f1(a, b) for a, b in zip(source, result, strict=True))}
        for name, result in results.items()
    }


def sharpness(pictures: Iterable[np.ndarray]) -> float:
    from kinopaint.metrics.sharpness import sharpness as of

    return statistics.fmean(of(picture) for picture in pictures)


def restyled(
    source: list[np.ndarray], prompt: str, fields: dict[str, Any], parts: Any, known: dict[str, Any]
) -> tuple[list[np.ndarray], float]:
    """The result of a setting and its seconds of the processor per frame; what differs only in the temporal backend is
    painted once, and kept in `known`.
    """
    from kinopaint.models.pixels import to_pictures, to_tensor
    from kinopaint.types import Clip, Prompt, Window

    clock = time.process_time()
    method = kinopaint.methods.StyleAVideo(**fields)
    frames = torch.stack([to_tensor(picture) for picture in source])
    key = json.dumps({n: v for n, v in fields.items() if not n.startswith("temporal")}, sort_keys=True)
    with torch.no_grad():
        if key not in known:
            shared = method.prepare(Clip(*frames.shape[-2:]), Prompt(prompt), parts)
            window = Window(0, frames, tuple(range(len(frames))), slice(0, None), opens_shot=True)
            known[key] = method.painted(window, shared, parts), time.process_time() - clock
            clock = time.process_time()
        painted, seconds = known[key]
        result, _ = method.steadied(painted, frames, None, parts)
    return list(to_pictures(result)), (seconds + time.process_time() - clock) / len(source)


def run(args: argparse.Namespace) -> None:
    """Fill results.csv, piece after piece (a clip with a prompt), so that a run cut short still compares fairly."""
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
    done = {(row["group"], row["setting"], row["fields"], row["clip"], row["prompt"]) for row in read(table)}
    end = time.monotonic() + 60 * args.minutes
    clips = list(pieces(args.data, args.long, args.width))
    # each turn pairs every clip with another prompt; six turns make all 24 pairs
    turns = [
        (clip, (turn + number) % len(PROMPTS)) for turn in range(len(PROMPTS)) for number, clip in enumerate(clips)
    ]
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not done and not table.stat().st_size:
            writer.writeheader()
        for place, ((name, source, times), which) in enumerate(turns, 1):
            prompt = PROMPTS[which]
            # the last two metrics of steadiness need long pieces, the others only a few frames
            for count, groups in ((args.frames, {s.group for s in grid} - {"temporal"}), (args.long, {"temporal"})):
                known: dict[str, Any] = {}
                found = []
                for setting in grid:
                    key = (setting.group, setting.name, json.dumps(setting.fields, sort_keys=True), name, prompt)
                    if setting.group in groups and key not in done and time.monotonic() < end:
                        found.append((key, *restyled(source[:count], prompt, setting.fields, parts, known)))
                if not found:
                    continue
                results = {"/".join(key[:2]): result for key, result, _ in found}
                rows = judged(source[:count], results, times[:count], prompt, encoder)
                for (key, _, seconds), row in zip(found, rows.values(), strict=True):
                    writer.writerow(
                        dict(zip(COLUMNS, key, strict=False))
                        | {n: "" if v is None else round(v, 5) for n, v in row.items()}
                        | {"source_sharpness": sharpness(source[:count]), "seconds_per_frame": round(seconds, 4)}
                    )
                file.flush()
            if time.monotonic() >= end:
                return
            print(f"piece {place} of {len(turns)}: {args.minutes - (end - time.monotonic()) / 60:.1f} min", flush=True)


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


Cell = tuple[str, str]  # clip, prompt
Scores = dict[tuple[str, str], dict[Cell, dict[str, float]]]  # of a (group, setting), in each piece


def scores(rows: list[dict[str, str]]) -> Scores:
    found: Scores = defaultdict(dict)
    for row in rows:
        numbers = {name: float(row[name]) for name in METRICS if row[name]}
        found[row["group"], row["setting"]][row["clip"], row["prompt"]] = numbers
    return found


def plain_mixture(plain: list[dict[str, float]], prompt: float, name: str) -> list[float] | None:
    """Weights of the plain settings (given by their mean scores) that together have at least this prompt score, and
    of `name` the most that one or two of them can have; None where even the best falls short of the words.
    """
    best: tuple[float, list[float]] | None = None
    for i, one in enumerate(plain):
        if one["pro_con"] < prompt:
            continue
        for j, other in enumerate(plain):
            share = 1.0
            if other["pro_con"] < prompt:
                share = (prompt - other["pro_con"]) / (one["pro_con"] - other["pro_con"])
            value = share * one[name] + (1 - share) * other[name]
            if best is None or value > best[0]:
                weights = [0.0] * len(plain)
                weights[j] += 1 - share
                weights[i] += share
                best = value, weights
    return best[1] if best else None


def worth(rows: list[dict[str, str]], group: str) -> tuple[list[str], str | None]:
    """A table of what each kind of mask or CLIP step changes, and the one among those that help that helps most.

    More content is to be had by the scales, too, at the price of the words. So a part is compared with the plain
    scales, or mixture of two, that have the same prompt score and the most content. It helps if content, or the
    contours (which no network sees: the CLIP step moves towards the very score of content), are higher by more than two
    standard errors of the mean over the pieces, and neither is lower by as much.
    """
    found = scores(rows)
    plain = [key for key in found if key[0] == "scales" or key == BASELINE]
    lines = ["| setting | pieces | prompt | content | content at equal prompt score | edge F1 there | helps |",
             "|---" * 7 + "|"]  # fmt: skip
    useful = {}
    for key in (key for key in found if key[0] == group):
        cells = sorted(set.intersection(*(set(found[other]) for other in (key, *plain))))
        if len(cells) < 2:
            continue

        def mean(of: tuple[str, str], name: str, cells: list[Cell] = cells) -> float:
            return statistics.fmean(found[of][cell][name] for cell in cells)

        own = {name: mean(key, name) for name in ("pro_con", "content", "edge_f1")}
        curve = [{name: mean(other, name) for name in own} for other in plain]
        gains = {}
        for name in ("content", "edge_f1"):
            weights = plain_mixture(curve, own["pro_con"], name)
            if weights is not None:
                mixed = (
                    sum(w * found[other][cell][name] for w, other in zip(weights, plain, strict=True)) for cell in cells
                )
                gains[name] = gain([found[key][cell][name] - value for cell, value in zip(cells, mixed, strict=True)])
        higher = [value for value, error in gains.values() if value > 2 * error]
        helpful = higher if not any(value < -2 * error for value, error in gains.values()) else []
        told = [f"{v:+.4f} ± {e:.4f}" for v, e in (gains[n] for n in gains)] if gains else ["–", "–"]
        changes = [f"{own[n] - mean(BASELINE, n):+.4f}" for n in ("pro_con", "content")]
        lines.append(f"| {key[1]} | {len(cells)} | {' | '.join(changes + told)} | {'yes' if helpful else 'no'} |")
        if helpful:
            useful[key[1]] = max(helpful)
    return lines, max(useful, key=useful.__getitem__) if useful else None


def gain(differences: list[float]) -> tuple[float, float]:
    """The mean, and its standard error."""
    return statistics.fmean(differences), statistics.stdev(differences) / len(differences) ** 0.5


def steadiness(rows: list[dict[str, str]]) -> tuple[list[str], str | None]:
    """A table of the temporal backends, and among those that meet all four demands (excess cut by 35 %, prompt within
    2 %, content no lower, sharpness at least 95 %) the one that cuts most.
    """
    found, pieces_of = means([row for row in rows if row["group"] == "temporal"]), scores(rows)
    plain = found["temporal", "identity"]
    lines = ["| backend | excess E_warp | cut | gap 1 | gap 10 | sharpness, mean (worst) | prompt | content | meets |",
             "|---" * 9 + "|"]  # fmt: skip
    meeting = {}
    for key, row in found.items():
        own, other = pieces_of[key], pieces_of["temporal", "identity"]
        sharp = [own[cell]["sharpness_ratio"] / other[cell]["sharpness_ratio"] for cell in own.keys() & other.keys()]
        cut = 1 - row["e_warp_excess"] / plain["e_warp_excess"]
        prompt = row["pro_con"] / plain["pro_con"] - 1 if "pro_con" in row else 0.0
        content = row["content"] - plain["content"] if "content" in row else 0.0
        meets = cut >= 0.35 and abs(prompt) <= 0.02 and content >= 0 and statistics.fmean(sharp) >= 0.95
        far = f"{row['l_temporal_10']:.4f}" if "l_temporal_10" in row else "–"
        lines.append(
            f"| {key[1]} | {row['e_warp_excess']:.4f} | {100 * cut:.0f} % | {row['l_temporal']:.4f} | {far} "
            f"| {statistics.fmean(sharp):.3f} ({min(sharp):.3f}) | {100 * prompt:+.1f} % | {content:+.4f} "
            f"| {'yes' if meets else 'no'} |"
        )
        if meets:
            meeting[key[1]] = cut
    return lines, max(meeting, key=meeting.__getitem__) if meeting else None


def report(args: argparse.Namespace) -> None:
    """Write table.md, pictures and recommended.json into OUT."""
    rows = read(args.out / "results.csv")
    if not rows:
        raise SystemExit(f"{args.out / 'results.csv'} holds nothing yet")
    groups = {row["group"] for row in rows}
    plain = [row for row in rows if (row["group"], row["setting"]) == BASELINE]
    found = means([{**row, "group": of} for of in ("mask", "clip") if of in groups for row in plain] + rows)
    names = [n for n in (*METRICS, "seconds_per_frame") if any(n in row for row in found.values())]
    lines = ["| group | setting | pieces | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
    for (group, setting), row in found.items():
        cells = " | ".join(f"{row[n]:.4f}" if n in row else "" for n in names)
        lines.append(f"| {group} | {setting} | {row['pieces']} | {cells} |")
    fields = {(row["group"], row["setting"]): json.loads(row["fields"]) for row in rows}
    advised: dict[str, Any] = {}

    def advise(group: str, setting: str | None, *kept: str) -> None:
        if setting is not None:
            advised.update({n: v for n, v in fields[group, setting].items() if n.startswith(kept)})

    advise(
        "scales", chosen({s: row for (g, s), row in found.items() if g == "scales"}), "text_branch", "s_image", "s_text"
    )
    for group, title, kept in (("mask", "Mask", ("s_mask", "mask_")), ("clip", "CLIP step", ("clip_",))):
        if group in groups and BASELINE in found:
            table, best = worth(rows, group)
            about = "prompt and content against the same without it; gains are means over the pieces ± standard error"
            lines += ["", f"{title}: {about}.", "", *table]
            advise(group, best, *kept)
    if "temporal" in groups:
        table, best = steadiness(rows)
        lines += ["", "Temporal backends:", "", *table]
        advise("temporal", best, "temporal")
    (args.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (args.out / "recommended.json").write_text(json.dumps(advised, indent=2) + "\n", encoding="utf-8")
    draw(found, args.out)
    print("\n".join(lines), "\nrecommended:", advised, sep="\n")


def chosen(rows: dict[str, dict[str, float]]) -> str | None:
    """Of the settings whose content score is at least the median, the one with the best prompt score."""
    scored = {name: row for name, row in rows.items() if "pro_con" in row and "content" in row}
    if not scored:
        return None
    middle = statistics.median(row["content"] for row in scored.values())
    return max((name for name in scored if scored[name]["content"] >= middle), key=lambda n: scored[n]["pro_con"])


def draw(found: dict[tuple[str, str], dict[str, float]], out: Path) -> None:
    """ablation.png: parts and temporal backends; and a picture each of scales, masks and CLIP steps.

    Masks and CLIP steps stand among the plain scales (crosses), which they have to beat.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores, steady = ("content", "pro_con"), ("e_warp_excess", "sharpness_ratio")
    for picture, panels in {
        "ablation": (("parts", scores), ("temporal", steady)),
        **{group: ((group, scores),) for group in ("scales", "mask", "clip")},
    }.items():
        figure, all_axes = pyplot.subplots(1, len(panels), figsize=(9 * len(panels), 5), squeeze=False)
        for axes, (group, (across, up)) in zip(all_axes[0], panels, strict=True):

            def points(of: str, names: tuple[str, str] = (across, up)) -> list[tuple[str, float, float, float]]:
                return [
                    (setting, row[names[0]], row[names[1]], row.get("e_warp_excess", 0.0))
                    for (kind, setting), row in found.items()
                    if kind == of and names[0] in row and names[1] in row
                ]

            shown = points(group)
            if group in ("mask", "clip"):
                for _, x, y, _ in points("scales"):
                    axes.plot(x, y, "x", color="lightgrey")
            if shown:
                names, xs, ys, errors = zip(*shown, strict=True)
                drawn = axes.scatter(xs, ys, c=errors, cmap="viridis_r")
                if any(errors):  # single frames have none
                    figure.colorbar(drawn, ax=axes, label="e_warp_excess", pad=0.01)
                for number, (x, y) in enumerate(zip(xs, ys, strict=True), 1):
                    axes.annotate(f"{number}", (x, y), fontsize=8, xytext=(4, 3), textcoords="offset points")
                listed = "\n".join(f"{number}  {name}" for number, name in enumerate(names, 1))
                axes.text(1.22, 1.0, listed, transform=axes.transAxes, fontsize=8, va="top")
            axes.set(xlabel=across, ylabel=up, title=f"{group}: mean over clips and prompts")
        figure.tight_layout()
        figure.savefig(out / f"{picture}.png", dpi=80)
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibrate Style-A-Video for a checkpoint, and compare its parts.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with videos/")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--clip", help="a CLIP that scores (default: the model's own pair; its tower also guides)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/calibration"), help="folder of results")
    parser.add_argument("--groups", nargs="*", default=[], help="only these (default: all)")
    parser.add_argument("--frames", type=int, default=2, help="frames of each clip (default: 2)")
    parser.add_argument("--long", type=int, default=12, help="frames for the temporal backends (default: 12)")
    parser.add_argument("--steps", type=int, default=15, help="denoising steps (default: 15)")
    parser.add_argument("--width", type=int, default=160, help="pixels, longer side (default: 160)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 (default: auto)")
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long (default: 60)")
    parser.add_argument("--report", action="store_true", help="only table and pictures of what is there")
    args = parser.parse_args()
    if not args.report:
        run(args)
    report(args)


if __name__ == "__main__":
    main()
