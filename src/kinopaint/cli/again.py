"""kinopaint again OUTPUT [-o NEW]"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from kinopaint.cli.options import Parser
from kinopaint.cli.progress import MODES, shown
from kinopaint.cli.stylize import add_additions, add_run_options
from kinopaint.settings import one_of


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "again",
        usage="kinopaint again OUTPUT [-o NEW] [options]",
        description="Repeat the run whose recipe OUTPUT carries (or OUTPUT.json beside it). On the same machine the "
        "decoded frames are identical; elsewhere they may differ by rounding.",
    )
    made.add_argument("output", metavar="OUTPUT", help="a result of kinopaint stylize")
    made.add_argument("-o", "--new", metavar="NEW", help="the new result (default: OUTPUT's name with -again)")
    made.add_argument("--input", metavar="FILE", help="the source (default: its recorded name, beside OUTPUT)")
    made.add_argument("--model", metavar="NAME", help="mini, a folder or a hub id (default: the recorded name)")
    made.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (default: the recorded one)")
    made.add_argument(
        "--download", action="store_true", help="allow the network for a hub id (default: local cache only)"
    )
    made.add_argument("--overwrite", action="store_true", help="replace an existing NEW")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    add_additions(made.add_argument_group("what was put on the model, if anything was"))
    add_run_options(made)
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint.repeat import again

    one_of("progress", given.progress, MODES)
    names = ["input", "model", "device", "download", "overwrite", "resume", "restart", "keep_work", "sidecar"]
    names += ["vae", "lora", "controlnet", "ip_adapter", "image_prompt"]
    with shown(given.progress) as listener:
        again(given.output, given.new, progress=listener, **{name: getattr(given, name) for name in names})
    return 0
