"""The page about one result or several of one source: pictures in step, curves, worst frames, numbers.

write_report([evaluate("in.mp4", "out.mp4")], Path("report.html"))
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinopaint.report.footage import Footage, make_footage
from kinopaint.report.page import LARGEST, render, write_page
from kinopaint.report.parallel import parallel_plot
from kinopaint.report.parts import LONGEST, choose_parts
from kinopaint.report.scores import Row, curves, mean_ranks, rows, written
from kinopaint.text import shown

if TYPE_CHECKING:
    from kinopaint.evaluation import Evaluation

_FILM = int(0.65 * LARGEST)  # bytes: base64 makes a third more of it


def write_report(
    evaluations: Sequence[Evaluation],
    path: Path,
    *,
    longest: float = LONGEST,
    overwrite: bool = False,
) -> None:
    """Write the page about evaluations of one source (at least one) to `path`.

    A clip longer than `longest` seconds is shown around its worst frames. Raises InputError and OutputError.
    """
    one = evaluations[0]
    worst = sorted(
        ((place, frame) for place, found in enumerate(evaluations) for frame in found.worst),
        key=lambda pair: -pair[1].score,
    )
    parts = choose_parts(one.times, (frame.frame for _, frame in worst), longest)
    footage = make_footage(
        one.source,
        [found.result for found in evaluations],
        one.selection,
        one.times,
        parts,
        thumbnails=[(frame.frame, place) for place, frame in worst],
        limit=_FILM,
    )
    names = display_names([found.result for found in evaluations])
    table, others = _table(evaluations)
    listed = [
        {"place": place, "name": names[place], "frame": found, "pictures": footage.thumbnails[found.frame, place]}
        for place, found in worst
        if (found.frame, place) in footage.thumbnails
    ]
    text = render(
        "report.html",
        "report.js",
        evaluations=evaluations,
        one=one,
        names=names,
        table=table,
        others=others,
        written=written,
        means=mean_ranks(table, len(names)),
        plot=parallel_plot([(row.name, row.better, row.values) for row in table]) if len(names) > 1 else None,
        worst=listed,
        notes=list(dict.fromkeys(note for found in evaluations for note in found.notes)),
        whole=len(footage.frames) == one.frames,
        shown_frames=len(footage.frames),
        film="data:video/mp4;base64," + base64.b64encode(footage.film).decode(),
        data=_data(evaluations, names, footage),
    )
    write_page(path, text, overwrite=overwrite)


def display_names(paths: Sequence[Path]) -> list[str]:
    """File names; where two are the same, with as many folders as tell them apart."""
    parts = 1
    while True:
        names = [shown(Path(*path.absolute().parts[-parts:])) for path in paths]
        if len(set(names)) == len({path.absolute() for path in paths}) or parts > 64:
            return names
        parts += 1


def _table(evaluations: Sequence[Evaluation]) -> tuple[list[Row], list[str]]:
    """The rows, and the names of the columns beside the results: the source and what games metrics."""
    one = evaluations[0]
    others = {"source": one.source_metrics} | one.references
    table = rows([found.metrics for found in evaluations], list(others.values()), [f.undefined for f in evaluations])
    return table, list(others)


def _data(evaluations: Sequence[Evaluation], names: Sequence[str], footage: Footage) -> dict[str, Any]:
    """What the page's code needs."""
    one, tiles = evaluations[0], footage.tiles
    return {
        "names": list(names),
        "count": one.frames,
        "frames": footage.frames,
        "times": footage.times,
        "at": footage.at,
        "tiles": {
            "width": tiles.width,
            "height": tiles.height,
            "cell": list(tiles.cell),
            "columns": tiles.columns,
        },
        "curves": curves([found.per_frame for found in evaluations], one.source_per_frame),
    }
