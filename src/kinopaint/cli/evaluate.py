"""kinopaint evaluate SOURCE RESULT --prompt P"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.cli.options import Parser
from kinopaint.cli.progress import MODES, shown
from kinopaint.errors import SettingsError
from kinopaint.settings import one_of
from kinopaint.text import to_json

if TYPE_CHECKING:
    from kinopaint.evaluation import Evaluation

EXAMPLES = """examples:
  kinopaint evaluate in.mp4 out.mp4 --prompt "a watercolor painting" --report report.html
  kinopaint evaluate in.mp4 out.mp4 --json numbers.json --fail-if "e_warp>0.05" --fail-if "sharpness_ratio<0.95"
  kinopaint evaluate in.mp4 out.mp4 --prompt "a pencil sketch" --clip openai/clip-vit-base-patch32
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is measured, and how: for every command that evaluates."""
    scores = parser.add_argument_group("scores")
    scores.add_argument("--prompt", metavar="TEXT", help="what the result should look like (default: not scored)")
    scores.add_argument(
        "--source-prompt",
        default="a photo",
        metavar="TEXT",
        help="the source's caption, for fra_acc (default: a photo)",
    )
    scores.add_argument(
        "--clip",
        metavar="NAME",
        help="model for the scores of prompt and content: a CLIP in transformers layout, a model folder with an "
        "image_encoder, or a hub id (default: the embedded pair, comparable only with itself)",
    )
    scores.add_argument(
        "--download", action="store_true", help="allow the network for a hub id (default: local cache only)"
    )
    scores.add_argument("--device", default="cpu", metavar="NAME", help="of that model: cpu, cuda, … (default: cpu)")
    scores.add_argument(
        "--short-side", default="512", metavar="N", help="largest short side for the flow, in pixels (default: 512)"
    )
    scores.add_argument(
        "--references", action="store_true", help="also measure a flat picture, blur, noise and smearing (default: no)"
    )
    part = parser.add_argument_group("part of the source that was restyled")
    part.add_argument("--start", metavar="TIME", help="seconds or hours:minutes:seconds (default: the beginning)")
    part.add_argument("--end", metavar="TIME", help="seconds or hours:minutes:seconds (default: the end)")
    part.add_argument("--every", default="1", metavar="N", help="each N-th frame (default: 1)")
    part.add_argument(
        "--fps",
        metavar="RATE",
        help="pictures per second of an image sequence (default: 25; of a result: the source's)",
    )
    part.add_argument(
        "--shots",
        default="auto",
        metavar="WHAT",
        help="scene cuts: auto, off, or a file, as in stylize (default: auto)",
    )


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `kinopaint.evaluate` for what was given."""
    names = (
        "prompt", "source_prompt", "clip", "download", "device", "short_side", "references", "start", "end", "every",
        "fps", "shots",
    )  # fmt: skip
    return {name: getattr(given, name) for name in names}


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "evaluate",
        usage="kinopaint evaluate SOURCE RESULT [options]",
        description="Measure a result: prompt, faithfulness to the source, steadiness along its motion.",
        epilog=EXAMPLES,
    )
    made.add_argument("source", metavar="SOURCE", help="the clip that was restyled")
    made.add_argument("result", metavar="RESULT", help="what came out")
    add_options(made)
    output = made.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", help="write all numbers, also per frame, to FILE")
    output.add_argument("--report", metavar="FILE.html", help="write a page to look at: one file, no network needed")
    output.add_argument("--overwrite", action="store_true", help="replace existing files")
    output.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help='leave with exit code 7 if it holds, such as "e_warp>0.05"; repeatable',
    )
    output.add_argument("--progress", default="auto", metavar="MODE", help=f"{', '.join(MODES)} (default: auto)")
    output.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def check_files(files: Sequence[Path | None], clips: Sequence[str], *, overwrite: bool) -> None:
    """Refuse a place where numbers or page cannot go, before anything is measured."""
    from kinopaint.video.place import check_place

    wanted = [file for file in files if file is not None]
    if len(set(wanted)) < len(wanted):
        raise SettingsError(
            "KP-SETTING-CONFLICT", "numbers and page cannot be one file", where="--json, --report", fix="name two files"
        )
    for file in wanted:
        for clip in clips:
            check_place(file, clip, overwrite=overwrite)


def run(given: argparse.Namespace) -> int:
    from kinopaint.evaluation import evaluate
    from kinopaint.metrics.gates import Gate
    from kinopaint.report import write_report
    from kinopaint.video.place import write_whole

    one_of("progress", given.progress, MODES)
    gates = [Gate.parse(text) for text in given.fail_if]
    numbers, page = (Path(name).absolute() if name else None for name in (given.json, given.report))
    check_files([numbers, page], [given.source, given.result], overwrite=given.overwrite)
    with shown(given.progress) as listener:
        evaluation = evaluate(given.source, given.result, progress=listener, **settings(given))
        if page is not None:
            write_report([evaluation], page, overwrite=given.overwrite)
    show(evaluation)
    if numbers is not None:
        text = to_json(evaluation.as_dict(), indent=2) + "\n"
        write_whole(numbers, text.encode(), overwrite=given.overwrite)
    evaluation.check(gates)
    return 0


def show(evaluation: Evaluation) -> None:
    """Print the table, the frames to look at, and what could not be measured."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kinopaint.metrics.catalogue import CATALOGUE, SAME_AS
    from kinopaint.text import shown as shown_text

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    references = [name for name in evaluation.references if name != "source"]
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    table.add_column("metric")
    for name in ("result", "source", *references):
        table.add_column(name, justify="right")
    table.add_column("better")
    table.add_column("what", overflow="fold")
    own = evaluation.references.get("source", evaluation.source_metrics)
    other_names = {key: other for other, key in SAME_AS.items()}
    for name, about in CATALOGUE.items():
        title = f"{name}, {other_names[name]}" if name in other_names else name
        rows = [evaluation.metrics, own, *(evaluation.references[key] for key in references)]
        numbers = [_number(row[name]) if name in row else "" for row in rows]
        table.add_row(title, *numbers, about.better, about.what)
    console.print(table)
    width, height = evaluation.sizes["flow"]
    motion = f"flow: {evaluation.flow} at {width}x{height}; encoder: {evaluation.encoder or 'none'}"
    console.print(escape(f"{evaluation.frames} frames, {evaluation.rate:.6g} per second; {motion}"))
    for worst in evaluation.worst:
        place = f"frame {worst.frame} at {worst.time:.2f} s"
        console.print(escape(f"look at {place}: {worst.why} ({worst.metric} {worst.value:.4g})"))
    for note in evaluation.notes:
        console.print(escape(f"note: {shown_text(note)}"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
