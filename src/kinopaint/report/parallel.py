"""The parallel plot of several rows: an axis for each metric, the best value at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kinopaint.metrics.catalogue import Better
from kinopaint.report.scores import badness, written

TOP, HEIGHT, GAP = 34, 190, 96  # in units of the drawing: space for names, length of the axes, from axis to axis


@dataclass(frozen=True)
class Axis:
    name: str
    x: float
    best: str
    worst: str


@dataclass(frozen=True)
class Plot:
    """`lines` has the points of each row as text for SVG, one for every unbroken piece."""

    axes: list[Axis]
    lines: list[list[str]]
    width: float
    height: float = TOP + HEIGHT + 24
    top: float = TOP
    bottom: float = TOP + HEIGHT


def parallel_plot(metrics: Sequence[tuple[str, Better, Sequence[float | None]]]) -> Plot:
    """Draw metrics given as (name, direction, one value for each row); a metric without two different values is left
    out, because it tells nothing apart.
    """
    axes: list[Axis] = []
    lines: list[list[list[tuple[float, float]]]] = [[[]] for _ in (metrics[0][2] if metrics else ())]
    for name, better, values in metrics:
        bad = [None if value is None else badness(value, better) for value in values]
        defined = sorted({one for one in bad if one is not None})
        if len(defined) < 2:
            continue
        x = GAP / 2 + GAP * len(axes)
        low, high = defined[0], defined[-1]
        ends = [written(values[bad.index(end)]) for end in (low, high)]
        axes.append(Axis(name, x, *ends))
        for pieces, one in zip(lines, bad, strict=True):
            if one is None:
                pieces.append([])
            else:
                pieces[-1].append((x, TOP + HEIGHT * (one - low) / (high - low)))
    drawn = [[" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in pieces if piece] for pieces in lines]
    return Plot(axes, drawn, GAP * max(1, len(axes)))
