"""Metrics as a page shows them: written out, the best marked, ranked, and as curves of bounded length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinopaint.metrics.catalogue import CATALOGUE, Better

Values = Mapping[str, float | None]

POINTS = 1500  # of a curve at most
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓", "near 1": "→1"}
FIRST = ("e_warp", "sharpness_ratio", "ssim", "content", "pro_con")  # the curves that are open at first


def written(value: float | None) -> str:
    """A number in four digits; undefined is a dash, rounding noise is zero."""
    if value is None:
        return "–"
    return f"{value:.4g}" if abs(value) >= 1e-7 else "0"


def badness(value: float, better: Better) -> float:
    """What is smaller for better values."""
    return {"higher": -value, "lower": value, "near 1": abs(value - 1)}[better]


def ranks(values: Sequence[float | None], better: Better) -> list[int | None]:
    """1 for the best, equal ranks for equal values, None for undefined ones."""
    bad = [None if value is None else badness(value, better) for value in values]
    return [None if one is None else 1 + sum(other is not None and other < one for other in bad) for one in bad]


@dataclass(frozen=True)
class Row:
    """One metric: `cells` of the results, `others` of source and reference videos (None: does not apply)."""

    name: str
    better: Better
    what: str
    group: str
    values: list[float | None]
    cells: list[str]
    ranks: list[int | None]
    others: list[str]
    why: str  # why there is no value, if one is missing

    @property
    def arrow(self) -> str:
        return ARROWS[self.better]

    def best(self, place: int) -> bool:
        """Whether this result is the best of several."""
        return len(self.cells) > 1 and self.ranks[place] == 1 and len(set(self.cells)) > 1


def rows(results: Sequence[Values], others: Sequence[Values], undefined: Sequence[Mapping[str, str]]) -> list[Row]:
    """A row for every metric that one of the results has, or ought to have."""
    made = []
    for name, about in CATALOGUE.items():
        if all(name not in values for values in results):
            continue
        values = [values.get(name) for values in results]
        why = next((reasons[name] for reasons in undefined if name in reasons), "")
        made.append(
            Row(
                name,
                about.better,
                about.what,
                about.group,
                values,
                [written(value) for value in values],
                ranks(values, about.better),
                [written(other[name]) if name in other else "" for other in others],
                why,
            )
        )
    return made


def mean_ranks(table: Sequence[Row], count: int) -> list[float | None]:
    """For each result its mean rank over the metrics that it has."""
    means: list[float | None] = []
    for place in range(count):
        own = [rank for row in table if (rank := row.ranks[place]) is not None]
        means.append(sum(own) / len(own) if own else None)
    return means


def curves(
    results: Sequence[Mapping[str, Sequence[float | None]]], source: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    """The series per frame as data for the page: of a long clip the worst value of each few frames."""
    made = []
    for name in sorted(results[0], key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        about = CATALOGUE.get(name)
        if about is None or all(value is None for series in results for value in series[name]):
            continue
        own = source.get(name) if about.of_source else None
        made.append(
            {
                "name": name,
                "better": about.better,
                "arrow": ARROWS[about.better],
                "what": about.what,
                "open": name in FIRST,
                "series": [_thinned(series[name], about.better) for series in results],
                "source": None if own is None else _thinned(own, about.better),
                "every": _every(len(results[0][name])),
            }
        )
    return made


def _every(count: int) -> int:
    return max(1, -(-count // POINTS))


def _thinned(series: Sequence[float | None], better: Better) -> list[float | None]:
    every = _every(len(series))
    thin: list[float | None] = []
    for first in range(0, len(series), every):
        defined = [value for value in series[first : first + every] if value is not None]
        worst = max(defined, key=lambda value: badness(value, better), default=None)
        thin.append(None if worst is None else float(f"{worst:.4g}"))
    return thin
