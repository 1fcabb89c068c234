"""kinopaint bench SUITE.toml -o FOLDER"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kinopaint.cli.options import Parser

EXAMPLES = """examples:
  kinopaint bench benchmarks/mini.toml -o mini-bench
  docs/metrics.md shows what a suite can say. Run it again to go on: finished cells are not done again.
"""


def parser(words: Sequence[str]) -> Parser:
    made = Parser(
        "bench",
        usage="kinopaint bench SUITE.toml [-o FOLDER]",
        description="Run clips × prompts × methods × presets: results, metrics, time, memory, a page and a CSV.",
        epilog=EXAMPLES,
    )
    made.add_argument("suite", metavar="SUITE.toml", help="what to run")
    made.add_argument("-o", "--output", metavar="FOLDER", help="where it goes (default: the suite's name and -bench)")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint.bench.results import write_bench_page, write_csv
    from kinopaint.bench.runner import run_suite
    from kinopaint.bench.suite import check_cells, read_suite
    from kinopaint.text import shown

    suite = read_suite(Path(given.suite))
    check_cells(suite)
    folder = Path(given.output or f"{suite.path.stem}-bench").absolute()

    def say(text: str) -> None:
        print(shown(text), file=sys.stderr, flush=True)

    outcomes = run_suite(suite, folder, say=say)
    write_csv(folder / "bench.csv", suite, outcomes)
    write_bench_page(folder / "bench.html", suite, outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} cells: {shown(folder / 'bench.html')}")
    return 0
