"""kinopaint styles [WORDS]"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from kinopaint.cli.options import Parser

SHOWN = 8


def parser(words: Sequence[str]) -> Parser:
    made = Parser("styles", description="List the styles of the embedded model; with WORDS the nearest, and how near.")
    made.add_argument("words", nargs="*", metavar="WORDS", help="a prompt (default: list all styles)")
    made.add_argument("--json", action="store_true", help="as one JSON object (default: as text)")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint.styles import known_styles

    words = " ".join(given.words).strip()
    if words:
        return _near(words, as_json=given.json)
    styles = known_styles()
    if given.json:
        found = {
            key: [{"name": style.name, "trained": style.trained} for style in styles if style.kind == kind]
            for key, kind in (("media", "medium"), ("moods", "mood"))
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for kind, title in (("medium", "media"), ("mood", "moods, which go with every medium")):
        print(f"{title}:")
        for style in styles:
            if style.kind == kind:
                print(f"  {style.name}{'' if style.trained else '   (not trained yet)'}")
    return 0


def _near(words: str, *, as_json: bool) -> int:
    from kinopaint.models import load_model
    from kinopaint.styles import NEAR, nearest, read

    reading = read(words)
    matches = nearest(words, load_model("mini", device="cpu", dtype="float32").text_encoder)
    if as_json:
        rows = [
            {"name": m.style.name, "kind": m.style.kind, "trained": m.style.trained, "nearness": round(m.nearness, 4)}
            for m in matches
        ]
        told = {"medium": reading.medium, "mood": reading.mood, "strength": reading.strength or None}
        print(json.dumps({"words": words, "read_as": told, "near": NEAR, "styles": rows}, indent=2, ensure_ascii=False))
        return 0
    if reading.prompt:
        print(f"read as: {reading.prompt}")
    for match in matches[:SHOWN]:
        note = "" if match.style.trained else "   (not trained yet)"
        print(f"{match.nearness:5.2f}  {match.style.name} ({match.style.kind}){note}")
    if not reading.prompt and matches[0].nearness < NEAR:
        print(f"nothing is near: below {NEAR} the model has hardly learnt such words")
    return 0
