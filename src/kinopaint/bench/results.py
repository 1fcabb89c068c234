"""What a suite gave: rows for the CSV, and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kinopaint.bench.machine import machine
from kinopaint.bench.runner import Outcome, groups
from kinopaint.bench.suite import RENDERING, Suite
from kinopaint.metrics.catalogue import CATALOGUE
from kinopaint.metrics.series import mean_of_defined
from kinopaint.report.page import render, write_page
from kinopaint.report.parallel import parallel_plot
from kinopaint.report.scores import ARROWS, rows
from kinopaint.video.place import write_whole

Row = dict[str, Any]
COSTS = ("frames", "seconds", "seconds_per_frame", "peak_memory_mb", "model_calls")
# The metrics that the page's tables have room for; the CSV has all.
HEADLINE = (
    "pro_con", "content", "ssim", "sharpness_ratio", "fra_con", "e_warp", "e_warp_excess", "l_temporal", "flicker",
)  # fmt: skip


def table(outcomes: list[Outcome]) -> Iterator[Row]:
    """A row for each cell, and after those of a clip and prompt one for each reference video. `kind` is cell, rendering
    (the generator's own) or reference.
    """
    for clip, prompt, group in groups(outcomes):
        for outcome in group:
            cell, answer = outcome.cell, outcome.answer
            kind = "rendering" if cell.method == RENDERING else "cell"
            row: Row = {"clip": clip, "prompt": prompt, "method": cell.label, "preset": cell.preset, "kind": kind}
            if outcome.failed:
                yield {**row, "error": f"{answer['error']['code']}: {answer['error']['what']}"}
                continue
            seconds, memory = answer["seconds"], answer["peak_memory"]
            yield {
                **row,
                "frames": answer["frames"],
                "seconds": None if seconds is None else round(seconds, 2),
                "seconds_per_frame": None if seconds is None else round(seconds / answer["frames"], 3),
                "peak_memory_mb": None if memory is None else round(memory / 1e6),
                "model_calls": answer["model_calls"],
                **{name: answer["metrics"].get(name) for name in CATALOGUE},
                "error": "",
            }
        references: dict[str, Row] = next(
            (one.answer["references"] for one in group if one.answer.get("references")), {}
        )
        for name, metrics in references.items():
            yield {
                "clip": clip,
                "prompt": prompt,
                "method": name,
                "preset": "",
                "kind": "reference",
                **{key: metrics.get(key) for key in CATALOGUE},
                "error": "",
            }


def write_csv(path: Path, suite: Suite, outcomes: list[Outcome]) -> None:
    """All rows with all metrics, and at the end of each what it was measured on."""
    about = {"suite": suite.name, "machine": machine(), **conditions(outcomes)}
    first = ("clip", "prompt", "method", "preset", "kind")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*first, *COSTS, *CATALOGUE, "error", *about], restval="", lineterminator="\n")
    writer.writeheader()
    for row in table(outcomes):
        plain = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        writer.writerow(plain | about)
    write_whole(path, text.getvalue().encode(), overwrite=True)


def conditions(outcomes: list[Outcome]) -> dict[str, str]:
    """Versions, threads, device and encoder of the finished cells; several of a kind are listed."""
    found: dict[str, list[str]] = {"threads": [], "device": [], "encoder": []}
    for outcome in outcomes:
        if not outcome.failed:
            answer = outcome.answer
            for name in ("threads", "device", "encoder"):
                found[name].append(str(answer.get(name) or ""))
            for name, version in answer["versions"].items():
                found.setdefault(name, []).append(version)
    return {name: ", ".join(dict.fromkeys(one for one in values if one)) for name, values in found.items()}


def write_bench_page(path: Path, suite: Suite, outcomes: list[Outcome]) -> None:
    """One page: the means of each method and preset, then every clip and prompt with pictures."""
    made = list(table(outcomes))
    shown_metrics = [name for name in HEADLINE if any(row.get(name) is not None for row in made)]
    means = _means(made)
    real = [row for row in means if row["kind"] == "cell"]
    sections = []
    for clip, prompt, group in groups(outcomes):
        own = [row for row in made if (row["clip"], row["prompt"]) == (clip, prompt)]
        cells = [row for row in own if row["kind"] != "reference"]
        for row, outcome in zip(cells, group, strict=True):
            row["pictures"] = outcome.answer.get("pictures", [])
            row["file"] = quote(f"results/{outcome.result.name}") if not outcome.failed else ""
        sections.append({"clip": clip, "prompt": prompt, "rows": _marked(own)})
    text = render(
        "bench.html",
        "bench.js",
        suite=suite,
        metrics=[(name, ARROWS[CATALOGUE[name].better], CATALOGUE[name].what) for name in shown_metrics],
        means=_marked(means),
        sections=sections,
        names=[_label(row) for row in real],
        plot=parallel_plot([(name, CATALOGUE[name].better, [row.get(name) for row in real]) for name in CATALOGUE]),
        failed=[outcome for outcome in outcomes if outcome.failed],
        count=len(outcomes),
        machine=machine(),
        conditions=conditions(outcomes),
        data={},
    )
    write_page(path, text, overwrite=True)


def _label(row: Row) -> str:
    return " · ".join(part for part in (row["method"], row["preset"]) if part)


def _means(made: Sequence[Row]) -> list[Row]:
    """The mean of each method and preset, and of each reference, over all clips and prompts that it finished."""
    together: dict[tuple[str, str, str], list[Row]] = {}
    for row in made:
        together.setdefault((row["kind"], row["method"], row["preset"]), []).append(row)
    means = []
    for (kind, method, preset), same in together.items():
        good = [row for row in same if not row["error"]]
        numbers = {key: mean_of_defined([row.get(key) for row in good]) for key in (*COSTS, *CATALOGUE)}
        means.append({"kind": kind, "method": method, "preset": preset, "done": len(good), "of": len(same), **numbers})
    return sorted(means, key=lambda row: row["kind"] != "cell")


def _marked(made: Sequence[Row]) -> list[Row]:
    """The same rows with a `label`, `cells` (written metrics) and the names of the metrics in which each is best."""
    cells = [row for row in made if row["kind"] == "cell" and not row.get("error")]
    best: dict[int, set[str]] = {id(row): set() for row in made}
    for line in rows([{name: row.get(name) for name in CATALOGUE} for row in cells], [], []):
        for place, row in enumerate(cells):
            if line.best(place):
                best[id(row)].add(line.name)
    return [{**row, "label": _label(row), "best": best[id(row)]} for row in made]
