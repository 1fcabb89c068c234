"""Each video method against frames painted one by one: how steady the results are, at which prompt score.

    python benchmarks/methods.py --data ../shared/data [--model mini] [--methods pix2video …] [--out out/methods]

All paint the same pieces of the same clips with the same prompts, seed and number of steps, on the settings that the
model recommends. Rows of the table:

    plain       image-to-image, frame by frame, from the noised frame with one noise for all: what a method must beat
    identity    style-a-video with --temporal identity
    NAME        a method; `--set NAME.field=value` changes one of its settings

`excess` is E_warp over the source's own (see kinopaint.evaluation), a mean over pieces like all figures; `kept` is its
ratio to plain's and `prompt` that of the prompt scores. With --out the results of each piece are laid out as sheets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import kinopaint
from kinopaint.methods import get_method
from kinopaint.settings import coerce_fields

PIECES = (
    ("cockatoo.mp4", 2.0, "a watercolor painting"),
    ("man_skiing.mp4", 0.5, "a watercolor painting"),
    ("sam2_coffee.mp4", 3.0, "oil painting"),
    ("flower.mp4", 1.0, "ukiyo-e woodblock print"),
    ("intel_store_aisle.gif", 1.0, "comic book"),
    ("man_skiing.mp4", 0.5, "charcoal drawing"),
)
METRICS = ("e_warp_excess", "e_warp", "pro_con", "content", "fra_con", "sharpness_ratio")


def piece(path: Path, start: float, frames: int, width: int) -> tuple[list[np.ndarray], list[float]]:
    """Consecutive frames at `width` pixels on the longer side, and their times."""
    from kinopaint.video import open_clip

    pictures, times = [], []
    with open_clip(path, start=start) as clip:
        for frame in clip:
            scale = width / max(frame.image.shape[:2])
            size = tuple(int(side * scale) // 8 * 8 for side in frame.image.shape[1::-1])
            pictures.append(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))
            times.append(float(frame.time))
            if len(pictures) == frames:
                break
    return pictures, times


def contestants(args: argparse.Namespace, parts: Any) -> Iterator[tuple[str, Any]]:
    """Name and method of each row."""
    given: dict[str, dict[str, str]] = {}
    for text in args.set:
        name, _, rest = text.partition(".")
        field, _, value = rest.partition("=")
        given.setdefault(name, {})[field] = value
    steps = {"num_inference_steps": args.steps}

    def made(row: str, name: str, **fields: Any) -> Any:
        kind = get_method(name)
        chosen = {**parts.recommended.get(name, {}), **steps, **fields, **given.get(row, {})}
        return kind(**coerce_fields(kind, chosen))

    identity = made("identity", "style-a-video", temporal="identity")
    slot = parts.backbone.image_channels > 0
    plain = {"text_branch": "joint", "s_image": 1.0} if slot else {"text_branch": "null_image", "s_image": 0.0}
    yield "plain", made("plain", "style-a-video", temporal="identity", s_mask=0.0, clip_strength=0.0, **plain)
    yield "identity", identity
    for name in args.methods:
        yield name, made(name, name)


def judged(source: list[np.ndarray], result: list[np.ndarray], times: list[float], prompt: str, encoder: Any) -> Any:
    from kinopaint.metrics.measure import Moment, measure

    moments = (Moment(at, a, {"result": b}) for at, a, b in zip(times, source, result, strict=True))
    row = measure(moments, encoder=encoder, prompt=prompt if encoder else None).rows["result"]
    return {name: row.metrics.get(name) for name in METRICS}


def sheet(rows: dict[str, list[np.ndarray]], path: Path, columns: int = 6) -> None:
    """One line of frames for each row, its name written on the first."""
    lines = []
    for name, pictures in rows.items():
        shown = [pictures[round(place)] for place in np.linspace(0, len(pictures) - 1, min(columns, len(pictures)))]
        line = np.concatenate(shown, 1)
        cv2.putText(line, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 2, cv2.LINE_AA)
        cv2.putText(line, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        lines.append(line)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(lines), cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with videos/")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--clip", help="a CLIP that scores (default: the model's own pair)")
    parser.add_argument("--methods", nargs="+", default=["pix2video"], help="which (default: pix2video)")
    parser.add_argument("--set", action="append", default=[], metavar="ROW.FIELD=VALUE", help="change a setting")
    parser.add_argument("--frames", type=int, default=10, help="frames of each clip (default: 10)")
    parser.add_argument("--steps", type=int, default=15, help="denoising steps (default: 15)")
    parser.add_argument("--width", type=int, default=256, help="pixels, longer side (default: 256)")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, help="folder for sheets and results.json")
    args = parser.parse_args()

    from kinopaint.models.clip import has_pair, load_clip

    parts = kinopaint.load_model(args.model, dtype=args.dtype)
    assert parts.path is not None
    encoder = load_clip(args.clip or args.model) if args.clip or has_pair(parts.path) else None
    found: dict[str, list[dict[str, Any]]] = {}
    for name, start, prompt in PIECES:
        source, times = piece(args.data / "videos" / name, start, args.frames, args.width)
        lines = {"source": source}
        for row, method in contestants(args, parts):
            clock = time.process_time()
            result = list(kinopaint.stylize_frames(source, prompt, method=method, parts=parts, seed=args.seed))
            spent = (time.process_time() - clock) / len(source)
            numbers = judged(source, result, times, prompt, encoder)
            found.setdefault(row, []).append({"clip": name, "prompt": prompt, **numbers, "seconds": spent})
            lines[row] = result
            print(
                f"{name:<18} {row:<12}", *(f"{key} {value:.4f}" for key, value in numbers.items() if value), flush=True
            )
        if args.out:
            sheet(lines, args.out / f"{Path(name).stem}-{prompt.replace(' ', '-')}.png")
    names = ("kept", "pro_con", "prompt", "content", "sharpness")
    print(f"\n{'':<14}{'excess':>9}" + "".join(f"{name:>10}" for name in names) + f"{'cpu s/frame':>13}")
    for row, pieces in found.items():

        def mean(name: str, pieces: list[dict[str, Any]] = pieces) -> float:
            return statistics.fmean(each[name] for each in pieces if each[name] is not None)

        def ratio(name: str, pieces: list[dict[str, Any]] = pieces) -> float:
            return mean(name, pieces) / mean(name, found["plain"])

        print(
            f"{row:<14}{mean('e_warp_excess'):>9.4f}{ratio('e_warp_excess'):>10.3f}{mean('pro_con'):>10.4f}"
            f"{ratio('pro_con'):>10.3f}{mean('content'):>10.4f}{mean('sharpness_ratio'):>10.3f}{mean('seconds'):>13.2f}"
        )
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
