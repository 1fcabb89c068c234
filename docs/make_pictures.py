"""Make the pictures of README and docs with the shipped model: `python docs/make_pictures.py`.

Sources are frames of the demo clips (docs/CREDITS.md), results what `kinopaint` makes of them with default settings.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import kinopaint
from kinopaint import demo
from kinopaint.sheet import contact_sheet, write_picture

IMAGES = Path(__file__).parent / "images"
STYLES = ("watercolor painting", "van gogh", "pen and ink drawing with cross-hatching", "ukiyo-e woodblock print")
FRAMES = (0, 12, 24, 36)  # one for each style
WIDTH = 400  # pixels of one picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of README and docs.")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--styles", nargs="+", default=STYLES, help="prompts, one column each")
    parser.add_argument(
        "--scenes", nargs="+", default=list(demo.SCENES), help="demo scenes, one picture below the other"
    )
    parser.add_argument("--output", type=Path, default=IMAGES / "four-styles.jpg")
    given = parser.parse_args()

    parts = kinopaint.load_model(given.model)
    rows = []
    for scene in given.scenes:
        clip = list(islice(demo.render(scene), max(FRAMES) + 1))
        sources = [clip[FRAMES[column % len(FRAMES)]] for column in range(len(given.styles))]
        results = [
            next(iter(kinopaint.stylize_frames([source], style, parts=parts)))
            for source, style in zip(sources, given.styles, strict=True)
        ]
        rows.append([(picture, "") for picture in sources])
        rows.append(list(zip(results, given.styles, strict=True)))
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_picture(given.output, contact_sheet(rows, cell=(WIDTH, WIDTH)))
    print(given.output)


if __name__ == "__main__":
    main()
