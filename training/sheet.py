"""Contact sheet of a model folder on held-out pictures: `python -m training.sheet --model src/kinopaint/models/mini`.

Rows are media, columns pictures; the first row shows the sources.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import kinopaint
from training.data import pictures
from training.words import TRAINED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=Path("runs/sheet.png"))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pictures", default="kodak_kodim23,kodak_kodim15,kodak_kodim08,sam2_coffee_05,man_skiing_06")
    parser.add_argument("--prompts", default="", help="separated by |; default: the name of every trained medium")
    parser.add_argument("--columns", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    chosen = args.pictures.split(",")
    known = {p.name: p for p in pictures(args.data)}
    sources = []
    for name in chosen:
        image = known[name].load()
        y, x = (image.shape[0] - args.size) // 2, (image.shape[1] - args.size) // 2
        sources.append((image[max(y, 0) :, max(x, 0) :][: args.size, : args.size] * 255).astype(np.uint8))
    parts = kinopaint.load_model(args.model)
    fields = dict(parts.recommended.get("style-a-video", {}))
    for item in args.set:
        name, value = item.split("=")
        fields[name] = value if value.isalpha() or "_" in value else (int(value) if value.isdigit() else float(value))
    method = kinopaint.methods.StyleAVideo(**fields)
    print(method)
    rows = [np.hstack(sources)]
    started = time.time()
    for prompt in args.prompts.split("|") if args.prompts else TRAINED:
        row = np.hstack(list(kinopaint.stylize_frames(sources, prompt, method=method, parts=parts)))
        cv2.putText(row, prompt, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 3)
        cv2.putText(row, prompt, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (200, 0, 0), 1)
        rows.append(row)
    print(f"{time.time() - started:.0f} s")
    rows += [np.zeros_like(rows[0])] * (-len(rows) % args.columns)
    height = len(rows) // args.columns
    page = np.hstack([np.vstack(rows[i * height : (i + 1) * height]) for i in range(args.columns)])
    cv2.imwrite(str(args.out), cv2.cvtColor(page, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
