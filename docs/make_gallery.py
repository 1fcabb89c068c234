"""Make docs/gallery.md and its pictures with the shipped model: `python docs/make_gallery.py`.

One picture for every medium and mood that the model lists, and four short animations, all of the demo footage
(docs/CREDITS.md) with default settings. It takes some minutes; `--output FOLDER` writes elsewhere to look first.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

import kinopaint
from kinopaint import demo
from kinopaint.sheet import write_picture
from kinopaint.styles import Style, known_styles

SIDE = 256  # pixels of a picture
COLUMNS = 4
ANIMATED = (  # scene, prompt
    ("cat", "a watercolor painting"),
    ("coffee", "stained glass window"),
    ("cat", "comic book"),
    ("coffee", "neon, moonlit night"),
)
EVERY, SECONDS, SIZE = 2, "2", "320x160"  # of the animations
PAGE = """# Gallery

What the embedded model makes of the demo footage with default settings; nothing is retouched or picked out. `python
docs/make_gallery.py` makes this page and its pictures again. Which styles are strong and which are weak is measured in
the [model card](../src/kinopaint/models/mini/README.md).

## The footage
{sources}

## In motion
{animations}

## Media
{media}

## Moods
Moods go with every medium; here they lie on the photograph.

{moods}
"""


def slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def sources() -> dict[str, np.ndarray]:
    """The middle of one frame of every demo scene, square."""
    found = {}
    for scene in demo.SCENES:
        frame = next(islice(demo.render(scene), 12, None))
        height, width = frame.shape[:2]
        left = (width - height) // 2
        found[scene] = cv2.resize(frame[:, left : left + height], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return found


def table(cells: list[str]) -> str:
    """A Markdown table of `COLUMNS` without a head."""
    rows = [cells[at : at + COLUMNS] for at in range(0, len(cells), COLUMNS)]
    lines = ["| " + " | ".join(row + [""] * (COLUMNS - len(row))) + " |" for row in rows]
    return "\n".join(["|" + "   |" * COLUMNS, "|" + "---|" * COLUMNS, *lines])


def cell(file: Path, text: str, folder: Path) -> str:
    return f"![{text}]({file.relative_to(folder).as_posix()})<br>{text}"


def animate(scene: str, prompt: str, model: str, output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        demo.write_clip(clip, scene)
        painted = Path(folder) / output.name  # its recipe, in a file beside it, is not part of the page
        kinopaint.stylize(clip, prompt, painted, model=model, every=EVERY, end=SECONDS, size=SIZE, work_size=SIZE)
        shutil.copyfile(painted, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of gallery.md")
    parser.add_argument("--styles", nargs="*", default=[], metavar="STYLE", help="only these (default: all)")
    parser.add_argument("--still", action="store_true", help="no animations")
    given = parser.parse_args()

    images = given.output / "images" / "gallery"
    images.mkdir(parents=True, exist_ok=True)
    parts = kinopaint.load_model(given.model)
    pictures = sources()

    def kept(name: str, picture: np.ndarray) -> Path:
        write_picture(images / f"{slug(name)}.jpg", picture)
        return images / f"{slug(name)}.jpg"

    def drawn(place: int, style: Style) -> str:
        source = list(pictures.values())[place % len(pictures)]
        result = next(iter(kinopaint.stylize_frames([source], style.name, parts=parts)))
        return cell(kept(style.name, result), style.name, given.output)

    listed = [style for style in known_styles() if not given.styles or style.name in given.styles]
    shown = {
        kind: table([drawn(i, style) for i, style in enumerate(listed) if style.kind == kind])
        for kind in ("medium", "mood")
    }
    animations = []
    for scene, prompt in () if given.still else ANIMATED:
        file = images / f"{scene}-{slug(prompt)}.gif"
        animate(scene, prompt, given.model, file)
        animations.append(cell(file, prompt, given.output))
    page = PAGE.format(
        sources=table(
            [cell(kept(f"source-{name}", picture), name, given.output) for name, picture in pictures.items()]
        ),
        animations=table(animations),
        media=shown["medium"],
        moods=shown["mood"],
    )
    (given.output / "gallery.md").write_text(page, encoding="utf-8")
    size = sum(file.stat().st_size for file in images.iterdir())
    print(f"{given.output / 'gallery.md'}: {size / 1e6:.1f} MB of pictures")


if __name__ == "__main__":
    main()
