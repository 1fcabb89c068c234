"""Figures of a model folder on held-out pictures: `python -m training.judge --model FOLDER`.

For every medium and mood, in `runs/judge.csv` (kind, name, figure, value):

- `named`, `named_unseen`, `named_raw`, `named_generator`: share of pictures that a small network (`classifier.py`,
  trained on the generator's pictures) gives the right name, made from the style's own name, from free wordings
  (`free_wordings.py`), from phrasings that no caption had as the text encoder alone understands them, and by the
  generator itself;
- `psnr`: to the generator's rendering of the same picture, its parameters at the middle of their ranges, in dB;
- `ssim`, `edge_f1`: of the lightness against that rendering; `ssim_photo`, `edge_f1_photo`: what the photograph itself
  has against it;
- `strength_ordered`: share of pictures that "slightly" leaves nearer to the photograph than "strongly" does;
- `e_warp`, `e_warp_generator`, `sharpness`: of frames of a real clip, painted each for itself with shared noise;
  `sharpness` is relative to the generator's;
- `feature`, `feature_generator`, `feature_photo`: share of the model's pictures, of the generator's and of the
  photographs that show what gives the medium its name (`features.py`).

Pairs of medium and mood that were kept out of training: `both`, the share of pictures nearer to the rendering in both
than to the medium or the mood alone. `control` rows: how `prompt_score` (as in `evaluate`), `judge_score` and content
follow `s_text` and `s_image`, in both forms of the words' branch.
It takes about ten minutes on one core.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import kinopaint
from kinopaint.metrics.measure import Moment, measure
from kinopaint.metrics.psnr import psnr
from kinopaint.models.clip import load_clip
from training.classifier import Classifier, middle
from training.data import frame_at, paintings, pictures
from training.features import FEATURES
from training.free_wordings import WORDINGS
from training.mood_shards import mood_folder
from training.render_shards import slug
from training.renderings import render
from training.renderings.blocks import Array, to_lab
from training.renderings.moods import apply_mood
from training.words import MOODS, TRAINED, held_out_pair, held_out_phrases, tells_apart

Row = tuple[str, str, str, float]
CONTROLLED = ("watercolor painting", "charcoal drawing", "comic book", "stained glass window", "neon (cyberpunk)")
S_TEXT, S_IMAGE = (2.0, 4.0, 6.0, 8.0), (0.8, 1.3, 1.8)
FORMS: dict[str, dict[str, Any]] = {  # of the words' branch, with the scales that are not varied
    "joint": {},
    "null_image": {"text_branch": "null_image", "s_image": 1.5, "s_text": 6.0},
}


class Model:
    """A model folder with its recommended settings, painting each frame for itself, without gradients."""

    def __init__(self, folder: str, steps: int) -> None:
        self.folder, self.parts = folder, kinopaint.load_model(folder)
        fields: dict[str, Any] = {**self.parts.recommended.get("style-a-video", {}), "num_inference_steps": steps}
        self.method = kinopaint.methods.StyleAVideo(**{**fields, "temporal": "identity", "clip_strength": 0.0})

    def paint(self, frames: list[Array], prompt: str, *, raw: bool = False, **changes: Any) -> list[Array]:
        """`raw`: the prompt goes to the text encoder as it is, as in stock pipelines."""
        parts = replace(self.parts, path=None) if raw else self.parts
        return list(kinopaint.stylize_frames(frames, prompt, method=replace(self.method, **changes), parts=parts))


def lightness(picture: Array) -> Array:
    return to_lab(picture.astype(np.float32) / 255)[..., 0]


def structure_ssim(one: Array, other: Array) -> float:
    """SSIM of lightness (Gaussian window, deviation 1.5), in [-1, 1]."""
    x, y = lightness(one), lightness(other)

    def mean(values: Array) -> Array:
        return cv2.GaussianBlur(values, (0, 0), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float((((2 * mx * my + 1) * (2 * both + 9)) / ((mx**2 + my**2 + 1) * (vx + vy + 9))).mean())


def edge_f1(one: Array, other: Array, share: float = 0.15) -> float:
    """F1 of the places of the strongest edges (a `share` of the pixels), a pixel apart still counting."""

    def edges(picture: Array) -> Array:
        light = cv2.GaussianBlur(lightness(picture), (0, 0), 1.0)
        strength = np.hypot(cv2.Scharr(light, cv2.CV_32F, 1, 0), cv2.Scharr(light, cv2.CV_32F, 0, 1))
        return (strength > np.quantile(strength, 1 - share)).astype(np.uint8)

    a, b, near = edges(one), edges(other), np.ones((3, 3), np.uint8)
    found, right = (a & cv2.dilate(b, near)).sum() / max(a.sum(), 1), (b & cv2.dilate(a, near)).sum() / max(b.sum(), 1)
    return float(2 * found * right / max(found + right, 1e-9))


def byte(picture: Array) -> Array:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def distance(one: Array, other: Array) -> float:
    return float(np.sqrt(((one.astype(np.float32) - other) ** 2).mean()))


def likeness(made: list[Array], drawn: list[Array], sources: list[Array]) -> Iterator[tuple[str, float]]:
    yield "psnr", float(np.mean([psnr(m, d) for m, d in zip(made, drawn, strict=True)]))
    for name, function in (("ssim", structure_ssim), ("edge_f1", edge_f1)):
        yield name, float(np.mean([function(m, d) for m, d in zip(made, drawn, strict=True)]))
        yield name + "_photo", float(np.mean([function(s, d) for s, d in zip(sources, drawn, strict=True)]))


def ordered(model: Model, style: str, sources: list[Array]) -> float:
    slight, strong = (model.paint(sources, f"{word} {style}") for word in ("slightly", "strongly"))
    return float(np.mean([distance(a, s) < distance(b, s) for a, b, s in zip(slight, strong, sources, strict=True)]))


def worded(model: Model, wordings: tuple[str, ...], sources: list[Array], *, raw: bool = False) -> list[Array]:
    """Each source by another wording; `raw`: as the text encoder alone understands it."""
    return [model.paint([s], wordings[i % len(wordings)], raw=raw)[0] for i, s in enumerate(sources)]


def style_rows(
    model: Model, kind: str, style: str, judge: Classifier, label: int, sources: list[Array], drawn: list[Array]
) -> Iterator[Row]:
    made = model.paint(sources, style)
    few = sources[::2]
    figures = {
        "named": judge.share(made, label),
        "named_unseen": judge.share(worded(model, WORDINGS[style], few), label),
        "named_raw": judge.share(worded(model, held_out_phrases(style), few, raw=True), label),
        "named_generator": judge.share(drawn, label),
        **dict(likeness(made, drawn, sources)),
        "strength_ordered": ordered(model, style, few),
    }
    if feature := FEATURES.get(style):
        for name, group in (("feature", made), ("feature_generator", drawn), ("feature_photo", sources)):
            figures[name] = float(np.mean([feature.margin(picture) >= 0 for picture in group]))
    for name, value in figures.items():
        yield kind, style, name, value


def pair_rows(model: Model, sources: list[Array], palettes: dict[str, list[Array]]) -> Iterator[Row]:
    """One held-out pair for every mood."""
    for place, mood in enumerate(MOODS):
        media = [m for m in TRAINED if held_out_pair(m, mood) and tells_apart(m, mood)]
        medium = media[place % len(media)]
        both = []
        for i, source in enumerate(sources):
            photo = source.astype(np.float32) / 255
            plain = render(photo, medium, 2000 + i, palettes)
            rivals = (plain, apply_mood(photo, mood, i), photo)
            goal = byte(apply_mood(plain, mood, i, source=photo, medium=medium))
            made = model.paint([source], f"{medium}, {mood}")[0]
            both.append(all(distance(made, goal) < distance(made, byte(rival)) for rival in rivals))
        yield "pair", f"{medium}, {mood}", "both", float(np.mean(both))


def clip_rows(model: Model, frames: list[Array], palettes: dict[str, list[Array]]) -> Iterator[Row]:
    results: list[dict[str, Array]] = [{} for _ in frames]
    for medium in TRAINED:
        for i, picture in enumerate(model.paint(frames, medium)):
            results[i][medium] = picture
        for i, frame in enumerate(frames):
            results[i][medium + " generator"] = byte(render(frame.astype(np.float32) / 255, medium, 3000, palettes))
    found = measure(Moment(i / 12, frame, row) for i, (frame, row) in enumerate(zip(frames, results, strict=True)))
    for medium in TRAINED:
        mine, theirs = found.rows[medium].metrics, found.rows[medium + " generator"].metrics
        yield "medium", medium, "e_warp", float(mine["e_warp"] or 0)
        yield "medium", medium, "e_warp_generator", float(theirs["e_warp"] or 0)
        yield "medium", medium, "sharpness", float((mine["sharpness_ratio"] or 0) / (theirs["sharpness_ratio"] or 1))


def control_rows(model: Model, judge: Classifier, sources: list[Array]) -> Iterator[Row]:
    """The medium's score by `evaluate`'s towers and by the judge, and likeness to the photograph, means over all."""
    towers = load_clip(model.folder)
    values = [("s_text", value) for value in S_TEXT] + [("s_image", value) for value in S_IMAGE]
    for form, scales in FORMS.items():
        for field, value in values:
            named, score, content = [], [], []
            for medium in CONTROLLED:
                made = model.paint(sources, medium, **{**scales, field: value})
                named += judge.scores(made)[:, TRAINED.index(medium)].tolist()
                score += (towers.embed_pictures(made).pooled @ towers.embed_texts([medium])[0]).tolist()
                content += [structure_ssim(m, s) for m, s in zip(made, sources, strict=True)]
            for name, found in (("prompt_score", score), ("judge_score", named), ("content_ssim", content)):
                yield "control", f"{form} {field}={value:g}", name, float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--each", type=int, default=100, help="renderings per style to learn from")
    parser.add_argument("--pictures", type=int, default=6, help="held-out pictures to restyle")
    parser.add_argument("--size", type=int, default=192, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--clip", default="man_skiing.mp4", help="a held-out clip in DATA/videos")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--styles", nargs="*", default=[], metavar="STYLE", help="only these media and moods")
    parser.add_argument("--out", type=Path, default=Path("runs/judge.csv"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    known = pictures(args.data)
    names = {p.name for p in known if p.held_out}
    held = [p for p in known if p.held_out and p.path.parent.name not in ("grocery", "clothing")]
    chosen = [held[i] for i in np.linspace(0, len(held) - 1, args.pictures).astype(int)]
    sources = [byte(middle(p.load(), args.size)) for p in chosen]
    photos = [source.astype(np.float32) / 255 for source in sources]
    palettes = paintings(args.data)
    model = Model(args.model, args.steps)
    media = Classifier.of_shards([args.shards / slug(m) for m in TRAINED], args.each, args.size, names)
    moods = Classifier.of_shards([args.shards / mood_folder(m, None) for m in MOODS], args.each, args.size, names)

    def rows() -> Iterator[Row]:
        for label, medium in enumerate(TRAINED):
            if not args.styles or medium in args.styles:
                drawn = [byte(render(p, medium, 1000 + i, palettes, typical=True)) for i, p in enumerate(photos)]
                yield from style_rows(model, "medium", medium, media, label, sources, drawn)
        for label, mood in enumerate(MOODS):
            if not args.styles or mood in args.styles:
                drawn = [byte(apply_mood(p, mood, 1000 + i)) for i, p in enumerate(photos)]
                yield from style_rows(model, "mood", mood, moods, label, sources, drawn)
        if args.styles:
            return
        clip = args.data / "videos" / args.clip
        frames = [byte(middle(_short(frame_at(clip, 1 + i / 12)), args.size)) for i in range(args.frames)]
        yield from pair_rows(model, sources[:2], palettes)
        yield from control_rows(model, media, sources[:2])
        yield from clip_rows(model, frames, palettes)

    found: list[Row] = []
    for row in rows():
        found.append(row)
        print(*row[:3], f"{row[3]:.3f}", flush=True)
    found += list(means(found))
    with open(args.out, "w", newline="") as file:
        settings = [
            ("run", "settings", str(model.method), args.steps),
            ("run", "pictures", " ".join(p.name for p in chosen), args.size),
        ]
        csv.writer(file).writerows(chain([("kind", "name", "figure", "value")], settings, found))


def _short(frame: Array, side: int = 288) -> Array:
    scale = side / min(frame.shape[:2])
    return np.clip(
        cv2.resize(frame.astype(np.float32) / 255, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), 0, 1
    )


def means(rows: list[Row]) -> Iterator[Row]:
    """The mean of every figure over the media, the moods and the pairs."""
    kinds = dict.fromkeys((kind, figure) for kind, _, figure, _ in rows if kind != "control")
    for kind, figure in kinds:
        values = [value for k, _, f, value in rows if (k, f) == (kind, figure)]
        yield "mean", kind, figure, float(np.mean(values))
        print("mean", kind, figure, f"{np.mean(values):.3f}", flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
