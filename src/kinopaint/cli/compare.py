"""kinopaint compare SOURCE RESULT… --prompt P"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinopaint.cli.evaluate import add_options, check_files, settings
from kinopaint.cli.options import Parser
from kinopaint.cli.progress import MODES, shown
from kinopaint.settings import one_of
from kinopaint.text import to_json

if TYPE_CHECKING:
    from kinopaint.evaluation import Evaluation

EXAMPLES = """examples:
  kinopaint compare in.mp4 a.mp4 b.mp4 --prompt "a watercolor painting"
  kinopaint compare in.mp4 a.mp4 b.mp4 --report comparison.html
"""
# The columns of the terminal's table; the page and the JSON have all metrics.
COLUMNS = ("pro_con", "content", "psnr", "ssim", "sharpness_ratio", "fra_con", "e_warp", "l_temporal", "flicker")


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "compare",
        usage="kinopaint compare SOURCE RESULT [RESULT …] [options]",
        description="Measure several results of one source, side by side.",
        epilog=EXAMPLES,
    )
    made.add_argument("source", metavar="SOURCE", help="the clip that was restyled")
    made.add_argument("results", metavar="RESULT", nargs="+", help="what came out")
    add_options(made)
    output = made.add_argument_group("output")
    output.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="all numbers as JSON, to FILE or (without one) instead of the table",
    )
    output.add_argument("--report", metavar="FILE.html", help="write a page to look at: one file, no network needed")
    output.add_argument("--overwrite", action="store_true", help="replace existing files")
    output.add_argument("--progress", default="auto", metavar="MODE", help=f"{', '.join(MODES)} (default: auto)")
    output.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint.evaluation import evaluate_all
    from kinopaint.report import write_report
    from kinopaint.video.place import write_whole

    one_of("progress", given.progress, MODES)
    clips = [given.source, *given.results]
    files = [Path(name).absolute() for name in (given.json, given.report) if name and name != "-"]
    check_files(files, clips, overwrite=given.overwrite)
    with shown(given.progress) as listener:
        found = evaluate_all(given.source, given.results, progress=listener, **settings(given))
        if given.report:
            write_report(found, Path(given.report).absolute(), overwrite=given.overwrite)
    text = to_json([evaluation.as_dict() for evaluation in found], indent=2) + "\n"
    if given.json == "-":
        print(text, end="")
        return 0
    show(found)
    if given.json:
        write_whole(Path(given.json).absolute(), text.encode(), overwrite=given.overwrite)
    return 0


def show(found: Sequence[Evaluation]) -> None:
    """Print a row for each result, the best of each column marked, and each metric's ranking."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kinopaint.report.report import display_names
    from kinopaint.report.scores import mean_ranks, rows, written

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    names = display_names([evaluation.result for evaluation in found])
    source, games = found[0].source_metrics, found[0].references
    every = rows([evaluation.metrics for evaluation in found], [], [])
    chosen = [row for row in every if row.name in COLUMNS and any(value is not None for value in row.values)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("result", overflow="fold")
    for row in chosen:
        table.add_column(f"{row.name} {row.arrow}", justify="right")
    table.add_column("mean rank ↓", justify="right")
    means = mean_ranks(every, len(found))
    for place, name in enumerate(names):
        cells = [f"[bold green]* {row.cells[place]}[/]" if row.best(place) else row.cells[place] for row in chosen]
        table.add_row(escape(name), *cells, written(means[place]))
    for name, other in ({"source": source} | games).items():
        table.add_row(
            f"[dim]{name}[/]",
            *(f"[dim]{written(other[row.name])}[/]" if row.name in other else "" for row in chosen),
            "",
        )
    console.print(table)
    if len(found) > 1:
        ranked_by = [row for row in every if any(row.ranks)]
        console.print(f"* best of its column. The mean rank is over {len(ranked_by)} metrics:")
        for row in ranked_by:
            order = sorted((rank, name) for rank, name in zip(row.ranks, names, strict=True) if rank is not None)
            ranked = ", ".join(f"{rank}. {name}" for rank, name in order)
            console.print(escape(f"  {row.name} {row.arrow}  {ranked}"))
    for note in dict.fromkeys(note for evaluation in found for note in evaluation.notes):
        console.print(escape(f"note: {note}"))
