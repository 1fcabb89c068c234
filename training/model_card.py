"""Put the figures of `training.judge` into the model card: `python -m training.model_card runs/judge.csv`.

What stands between the marks `<!-- figures -->` and `<!-- end of figures -->` is replaced.
"""

import argparse
import csv
from pathlib import Path

CARD = Path("src/kinopaint/models/mini/README.md")
TRIED = "[what was tried for them](../../../../training/README.md#what-was-learnt-on-the-way)"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
COLUMNS = {
    "named": "named",
    "named_unseen": "free wording",
    "psnr": "PSNR, dB",
    "structure": "structure kept",
    "feature": "shows its feature",
    "strength_ordered": "strength in order",
    "instability": "warp error",
    "sharpness": "sharpness",
}
SHARES = {"named", "named_unseen", "structure", "feature", "strength_ordered", "sharpness"}
HOW = """Measured by `python -m training.judge` on {pictures} held-out pictures at {size:.0f} px, {steps:.0f} steps,
each frame for itself. *Named*: a small network trained on the generator's pictures gives the model's the right
name; *free wording*: also by words that neither captions nor lexicon have. *PSNR* and *structure kept* compare with the
generator's rendering (structure: SSIM of lightness, relative to the photograph's own). *Feature*: what gives the medium
its name shows (`training/features.py`). *Strength in order*: "slightly" stays nearer to the photograph than "strongly".
*Warp error* and *sharpness*: of a real clip, relative to the generator's."""
Figures = dict[str, dict[str, dict[str, float]]]  # kind, name, figure


def read(file: Path) -> tuple[Figures, dict[str, tuple[str, float]]]:
    """The figures by kind and name, and what the run itself was."""
    found: Figures = {}
    run: dict[str, tuple[str, float]] = {}
    with open(file, newline="") as table:
        for row in csv.DictReader(table):
            if row["kind"] == "run":
                run[row["name"]] = row["figure"], float(row["value"])
            else:
                found.setdefault(row["kind"], {}).setdefault(row["name"], {})[row["figure"]] = float(row["value"])
    for kind in ("medium", "mood"):
        for figures in found.get(kind, {}).values():
            # a negative has none of the photograph's own structure to compare with
            if figures.get("ssim_photo", 0.0) > 0.05:
                figures["structure"] = figures["ssim"] / figures["ssim_photo"]
            if figures.get("e_warp_generator"):
                figures["instability"] = figures["e_warp"] / figures["e_warp_generator"]
    return found, run


def text(figure: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if figure in SHARES else f"{value:.1f}" + (" ×" if figure == "instability" else "")


def table(styles: dict[str, dict[str, float]], title: str) -> list[str]:
    columns = [c for c in COLUMNS if any(c in figures for figures in styles.values())]
    lines = [f"| {title} | " + " | ".join(COLUMNS[c] for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in styles.items():
        lines.append(f"| {name} | " + " | ".join(text(c, figures.get(c)) for c in columns) + " |")
    known = {c: [f[c] for f in styles.values() if c in f] for c in columns}
    return [*lines, "| **mean** | " + " | ".join(text(c, sum(v) / len(v)) for c, v in known.items()) + " |"]


def weakest(media: dict[str, dict[str, float]], count: int = 3) -> list[str]:
    """The media that are named least often and show least of their feature."""
    return sorted(media, key=lambda name: media[name]["named"] + media[name].get("feature", 0.0))[:count]


def section(found: Figures, run: dict[str, tuple[str, float]]) -> str:
    """The Markdown between the marks."""
    pictures = len(run["pictures"][0].split())
    low = weakest(found["medium"])
    slugs = ["-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()) for name in low]
    lines = [
        HOW.format(pictures=pictures, size=run["pictures"][1], steps=run["settings"][1]),
        "",
        *table(found["medium"], "medium"),
        "",
        *table(found["mood"], "mood"),
    ]
    if "pair" in found:
        both = [100 * figures["both"] for figures in found["pair"].values()]
        lines += ["", f"Of pairs of medium and mood that were never trained, {sum(both) / len(both):.0f} % show both."]
    if "control" in found:
        told = [f"{name}: {f['prompt_score']:.3f} / {f['content_ssim']:.2f}" for name, f in found["control"].items()]
        lines += [
            "",
            "Prompt score (`evaluate`'s) / likeness to the photograph, by the form of the words' branch: "
            + "; ".join(told)
            + ".",
        ]
    shown = " | ".join(
        f"![{name}](../../../../docs/images/gallery/{slug}.jpg)<br>{name}"
        for name, slug in zip(low, slugs, strict=True)
    )
    return "\n".join([*lines, "", f"The three weakest ({TRIED}):", "", f"| {shown} |", "|---" * len(low) + "|", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, nargs="?", default=Path("runs/judge.csv"))
    parser.add_argument("--card", type=Path, default=CARD)
    args = parser.parse_args()
    card = args.card.read_text(encoding="utf-8")
    before, after = card.index(BEGIN) + len(BEGIN), card.index(END)
    args.card.write_text(card[:before] + "\n" + section(*read(args.figures)) + card[after:], encoding="utf-8")
    print(args.card)


if __name__ == "__main__":
    main()
