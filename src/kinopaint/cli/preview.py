"""kinopaint preview INPUT PROMPT -o sheet.png"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from kinopaint.cli.options import Parser
from kinopaint.cli.progress import MODES, shown
from kinopaint.cli.stylize import add_options, keywords
from kinopaint.settings import one_of


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "preview",
        usage="kinopaint preview INPUT PROMPT -o SHEET [options]",
        description="Restyle a few frames and put them beside their sources, as a contact sheet.",
    )
    made.add_argument("-o", "--output", required=True, metavar="SHEET", help="the sheet: .png, .jpg or .webp")
    made.add_argument("--frames", default="3", metavar="N", help="frames to show, spread over the clip (default: 3)")
    made.add_argument("--progress", default="auto", metavar="MODE", help=f"{', '.join(MODES)} (default: auto)")
    add_options(made, words)
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint import api

    one_of("progress", given.progress, MODES)
    settings = keywords(given)
    with shown(given.progress) as listener:
        api.preview(given.input, given.prompt, given.output, frames=given.frames, progress=listener, **settings)
    return 0
