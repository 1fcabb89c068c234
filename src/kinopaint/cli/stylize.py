"""kinopaint stylize INPUT PROMPT -o OUTPUT"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinopaint.cli.options import Parser, add_method_fields, assignments, named
from kinopaint.cli.progress import MODES, shown
from kinopaint.errors import SettingsError, Stopped
from kinopaint.settings import one_of, option

EXAMPLES = """examples:
  kinopaint stylize in.mp4 "a watercolor painting" -o out.mp4
  kinopaint stylize in.mp4 "a pencil sketch" -o out.mp4 --start 2.5 --end 00:00:07 --preset fast
  kinopaint stylize photo.jpg "a mosaic of tiles" -o mosaic.png --seed 3 --s-text 9
"""


def add_options(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """The options that stylize and preview share; those of the method depend on `--method`."""
    from kinopaint.methods import get_method

    method = named(words, "--method", "style-a-video")
    parser.add_argument("input", metavar="INPUT", help="a video, a picture, or a folder or pattern (%%04d) of pictures")
    parser.add_argument("prompt", metavar="PROMPT", help="what it should look like, in words")

    model = parser.add_argument_group("model and method")
    model.add_argument(
        "--method",
        default="style-a-video",
        metavar="NAME",
        help="kinopaint methods lists them (default: style-a-video)",
    )
    model.add_argument(
        "--model",
        default="mini",
        metavar="NAME",
        help="mini (embedded), a name of kinopaint models, a folder in diffusers layout, a .safetensors file, or a hub "
        "id (default: mini)",
    )
    add_additions(model)
    model.add_argument(
        "--preset",
        default="balanced",
        metavar="A[,B]",
        help="an engine profile (exact, balanced, fast, live) and/or named settings of the method; later ones win, and "
        "options over all of them (default: balanced)",
    )
    model.add_argument(
        "--seed", default="0", metavar="N", help="start of the noise, a whole number from 0 (default: 0)"
    )
    model.add_argument(
        "--negative-prompt", default="", metavar="TEXT", help="what it should not look like (default: nothing)"
    )
    model.add_argument(
        "--download", action="store_true", help="allow the network for a hub id (default: local cache only)"
    )
    model.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    model.add_argument(
        "--dtype", default="auto", metavar="NAME", help="auto, float32, bfloat16, float16 (default: auto)"
    )

    model.add_argument(
        "--compile",
        action="store_true",
        help="have torch compile the network's repeated blocks first, which pays in long runs on a GPU (default: no)",
    )
    model.add_argument(
        "--memory", metavar="SIZE", help="ceiling, such as 8GB, of the process or the GPU (default: what is free)"
    )

    add_method_fields(parser, method, get_method(method))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of the method; repeatable"
    )

    part = parser.add_argument_group("part and size")
    part.add_argument("--start", metavar="TIME", help="seconds or hours:minutes:seconds (default: the beginning)")
    part.add_argument("--end", metavar="TIME", help="seconds or hours:minutes:seconds (default: the end)")
    part.add_argument("--every", default="1", metavar="N", help="keep each N-th frame, at its own time (default: 1)")
    part.add_argument(
        "--fps", metavar="RATE", help="pictures per second of an image sequence: 25, 24000/1001 (default: 25)"
    )
    part.add_argument(
        "--size",
        default="source",
        metavar="SIZE",
        help="of the result in pixels: source, WxH or short:N (default: source)",
    )
    part.add_argument(
        "--work-size",
        default="auto",
        metavar="SIZE",
        help="at which the model works, in pixels: auto, source, WxH or short:N (default: auto = the source's if both "
        "sides are 128 to 768, else the longest side reduced to 768)",
    )
    part.add_argument(
        "--shots",
        default="auto",
        metavar="WHAT",
        help="scene cuts, at which methods start anew: auto, off, or a file with one frame number or time per line "
        "(default: auto)",
    )
    part.add_argument("--allow-damaged", action="store_true", help="render what a damaged file still holds")

    run = parser.add_argument_group("run")
    run.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")
    run.add_argument("--debug", action="store_true", help="show the traceback of a failure")


def add_additions(model: Any) -> None:
    """Options for what is put on the model."""
    model.add_argument(
        "--lora",
        action="append",
        metavar="FILE[:WEIGHT]",
        help="a LoRA for the model; repeatable (default: none; weight 1)",
    )
    model.add_argument(
        "--controlnet",
        action="append",
        metavar="[HINT=]FOLDER[:WEIGHT[:START-END]]",
        help="a ControlNet that follows the frames: mini (the embedded model's, which follows lines) or a folder; HINT "
        "is canny, lines or picture (default: by its name), START-END the share of the steps in which it acts; "
        "repeatable (default: none; weight 1, 0-1)",
    )
    model.add_argument(
        "--ip-adapter",
        metavar="FILE[:WEIGHT]",
        help="an IP-Adapter, which shows the model a picture of what is wanted (default: none; weight 1)",
    )
    model.add_argument("--image-prompt", metavar="PICTURE", help="that picture (default: none)")
    model.add_argument(
        "--vae", metavar="FOLDER", help="another autoencoder, such as a tiny one (default: the model's own)"
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    result = parser.add_argument_group("result")
    result.add_argument(
        "--codec",
        default="auto",
        metavar="NAME",
        help="h264, h265, av1, vp9, prores, ffv1, gif, png (default: auto = by the extension)",
    )
    result.add_argument(
        "--quality", metavar="N", help="the codec's own scale, for h264 the CRF (default: near the source's)"
    )
    result.add_argument("--no-audio", action="store_true", help="leave the sound out")
    result.add_argument(
        "--plan", action="store_true", help="say what would be done, and how long it would take; do nothing"
    )
    add_run_options(parser)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What every command that writes a clip has."""
    work = parser.add_argument_group("work and report")
    work.add_argument("--sidecar", action="store_true", help="write the recipe beside the result too, as OUTPUT.json")
    again = work.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on with unfinished work on OUTPUT, which lies in OUTPUT.kinopaint (the default where there is some)",
    )
    again.add_argument("--restart", action="store_true", help="throw unfinished work on OUTPUT away and begin anew")
    work.add_argument("--keep-work", action="store_true", help="leave OUTPUT.kinopaint there after the delivery, too")
    work.add_argument("--progress", default="auto", metavar="MODE", help=f"{', '.join(MODES)} (default: auto)")


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "stylize",
        usage="kinopaint stylize INPUT PROMPT -o OUTPUT [options]",
        description="Restyle a clip (or a picture) with words.",
        epilog=EXAMPLES,
    )
    made.add_argument(
        "-o", "--output", required=True, metavar="OUTPUT", help="the result; its extension chooses the container"
    )
    add_output_options(made)
    add_options(made, words)
    return made


def keywords(given: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of the Python API for what was given on the command line."""
    from kinopaint.job import Job

    known = inspect.signature(Job.of).parameters.keys() - {"input", "prompt", "output"}
    plain = {name: value for name, value in vars(given).items() if name in known}
    fields = {name[6:]: value for name, value in vars(given).items() if name.startswith("field:") and value is not None}
    by_set = assignments(given.set)
    if other := next((name for name in by_set if name in plain), None):
        raise SettingsError(
            "KP-USAGE", f"{other} is no setting of the method", where="--set", fix=f"say {option(other)}"
        )
    twice = fields.keys() & by_set.keys()
    if twice:
        raise SettingsError("KP-USAGE", f"{', '.join(sorted(twice))} is given twice", where="--set", fix="say it once")
    return {**plain, **by_set, **fields}


def run(given: argparse.Namespace) -> int:
    from kinopaint import api
    from kinopaint.video.codecs import choose_codec
    from kinopaint.video.sequence import result_place

    one_of("progress", given.progress, MODES)
    settings = keywords(given)
    if given.plan:
        from kinopaint.plan import plan

        print(plan(given.input, given.prompt, given.output, **settings))
        return 0
    try:
        with shown(given.progress) as listener:
            api.stylize(given.input, given.prompt, given.output, sidecar=given.sidecar, progress=listener, **settings)
    except KeyboardInterrupt:
        raise stopped(result_place(given.output, choose_codec(given.output, given.codec))) from None
    return 0


def stopped(output: Path) -> Stopped:
    """What to tell after a signal: what is kept, and how to go on."""
    from kinopaint.work import frames_kept, work_folder

    frames = frames_kept(output)
    kept = f"{frames} finished frames are kept in {work_folder(output).name}" if frames else "no frame was finished"
    return Stopped(
        "KP-STOPPED",
        f"stopped by a signal; {kept}, and nothing stands under the final name",
        where=str(output),
        fix="run the same command again to go on" if frames else "run the same command again",
    )
