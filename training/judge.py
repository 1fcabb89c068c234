"""Does a plain classifier name the medium of the model's pictures? `python -m training.judge --model FOLDER`.

A linear classifier on colour and band-energy statistics is trained on the generator's renderings of training pictures,
and asked about its renderings of held-out pictures and about what the model makes of them, from the medium's own name
and from phrasings that no caption had. It knows nothing of the model.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch

import kinopaint
from training.data import paintings, pictures
from training.render_shards import slug
from training.renderings import render
from training.renderings.blocks import to_lab
from training.words import TRAINED, held_out_phrases


def features(picture: np.ndarray) -> np.ndarray:
    """Statistics of an RGB uint8 picture: colours, contrast, energy by scale and direction."""
    lab = to_lab(picture.astype(np.float32) / 255)
    out = [*lab.mean((0, 1)), *lab.std((0, 1)), *np.percentile(lab, (2, 15, 50, 85, 98), axis=(0, 1)).ravel()]
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    out += [chroma.mean(), chroma.std(), np.percentile(chroma, 95)]
    level = lab
    for _ in range(5):
        smooth = cv2.GaussianBlur(level, (0, 0), 1.2)
        band = level - smooth
        out += [*np.log1p(np.abs(band).mean((0, 1))), np.log1p((band[..., 0] ** 4).mean() ** 0.25)]
        level = smooth[::2, ::2]
    gx, gy = cv2.Scharr(lab[..., 0], cv2.CV_32F, 1, 0), cv2.Scharr(lab[..., 0], cv2.CV_32F, 0, 1)
    turn = ((np.arctan2(gy, gx) % np.pi) / np.pi * 8).astype(int) % 8
    energy = np.bincount(turn.ravel(), np.hypot(gx, gy).ravel(), 8)
    return np.array([*out, *(energy / max(energy.sum(), 1e-9))], np.float64)


class Classifier:
    def __init__(self, rows: np.ndarray, labels: np.ndarray) -> None:
        self.mean, self.scale = rows.mean(0), rows.std(0) + 1e-9
        x = self._expand(rows)
        targets = np.eye(len(TRAINED))[labels]
        self.weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(x.shape[1]), x.T @ targets)

    def _expand(self, rows: np.ndarray) -> np.ndarray:
        z = np.clip((rows - self.mean) / self.scale, -4, 4)
        return np.hstack([np.ones((len(z), 1)), z, z**2])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (self._expand(rows) @ self.weights).argmax(1)


def middle(image: np.ndarray, size: int = 256) -> np.ndarray:
    y, x = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[y : y + size, x : x + size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--each", type=int, default=110, help="renderings per medium to learn from")
    parser.add_argument("--pictures", type=int, default=8, help="held-out pictures to restyle")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/judge.json"))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    known = pictures(args.data)
    held = [p for p in known if p.held_out and p.path.parent.name not in ("grocery", "clothing")]
    names = {p.name for p in known if p.held_out}
    rows, labels = [], []
    for label, medium in enumerate(TRAINED):
        files = [f for f in sorted((args.shards / slug(medium)).glob("*.jpg")) if f.stem not in names][: args.each]
        for file in files:
            rows.append(features(middle(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB))))
            labels.append(label)
    judge = Classifier(np.array(rows), np.array(labels))
    chosen = [held[i] for i in np.linspace(0, len(held) - 1, args.pictures).astype(int)]
    sources = [middle((p.load() * 255).astype(np.uint8)) for p in chosen]
    palettes = paintings(args.data)
    parts = kinopaint.load_model(args.model)
    fields = {**parts.recommended.get("style-a-video", {}), "num_inference_steps": args.steps}
    method = kinopaint.methods.StyleAVideo(**fields)
    report: dict[str, dict[str, float]] = {}
    for label, medium in enumerate(TRAINED):
        drawn = [
            (render(s.astype(np.float32) / 255, medium, 1000 + i, palettes) * 255).astype(np.uint8)
            for i, s in enumerate(sources)
        ]
        made = list(kinopaint.stylize_frames(sources, medium, method=method, parts=parts))
        fresh = "make it look like " + held_out_phrases(medium)[0]
        worded = list(kinopaint.stylize_frames(sources[: len(sources) // 2], fresh, method=method, parts=parts))
        report[medium] = {
            name: float((judge(np.array([features(p) for p in group])) == label).mean())
            for name, group in (("generator", drawn), ("model", made), ("unseen wording", worded))
        }
        print(medium, report[medium], flush=True)
    mean = {key: float(np.mean([row[key] for row in report.values()])) for key in next(iter(report.values()))}
    print("mean", mean)
    args.out.write_text(json.dumps({"settings": str(method), "mean": mean, "media": report}, indent=1))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
