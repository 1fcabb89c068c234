"""One cell in a process of its own: restyle, look at the clock and the memory, measure.

A task and its answer are JSON files. A cell that crashes or takes all memory ends this process and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from kinopaint.errors import KinopaintError


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """Do a task: `source`, `result`, `prompt`, `method`, `preset`, `model`, `settings`, `references`, and `painted`
    (the result is there already). Raises what `stylize` and `evaluate` raise.
    """
    import torch

    from kinopaint.bench.suite import RENDERING
    from kinopaint.evaluation import evaluate
    from kinopaint.memory import peak_memory
    from kinopaint.recipe import versions

    source, result, settings = Path(task["source"]), Path(task["result"]), dict(task["settings"])
    found: dict[str, Any] = {"seconds": None, "peak_memory": None, "model_calls": None}
    if not task["painted"]:
        begin = time.perf_counter()
        if task["method"] == RENDERING:
            from kinopaint.bench.rendering import write_rendering

            write_rendering(source, result, task["prompt"], settings)
        else:
            import kinopaint

            words = {name: task[name] for name in ("method", "preset", "model")}
            done = kinopaint.stylize(
                source, task["prompt"], result, **words, **settings, overwrite=True, restart=True, progress=_quiet
            )
            device = torch.device(done.recipe["device"])
            found |= {"model_calls": done.model_calls, "peak_memory": peak_memory(device), "device": str(device)}
        found["seconds"] = time.perf_counter() - begin
    part = {name: settings[name] for name in ("start", "end", "every") if name in settings}
    measured = evaluate(source, result, prompt=task["prompt"], references=task["references"], progress=_quiet, **part)
    return found | {
        "frames": measured.frames,
        "pictures": _thumbnails(source, result, part, measured.frames // 2),
        "metrics": measured.metrics,
        "undefined": measured.undefined,
        "references": measured.references,
        "notes": list(measured.notes),
        "encoder": measured.encoder,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _quiet(event: dict[str, Any]) -> None:
    """Nobody watches a cell."""


def main() -> None:
    """`task.json answer.json` as arguments."""
    task, answer = Path(sys.argv[-2]), Path(sys.argv[-1])
    try:
        made = run_task(json.loads(task.read_text(encoding="utf-8")))
    except KinopaintError as error:
        made = {"error": error.as_dict()}
    except Exception as error:
        made = {"error": {"code": "KP-INTERNAL", "what": f"{type(error).__name__}: {error}", "where": "", "fix": ""}}
    answer.write_text(json.dumps(made), encoding="utf-8")


def _thumbnails(source: Path, result: Path, part: dict[str, Any], frame: int) -> list[str]:
    """That frame of both clips, as small pictures for the page."""
    from kinopaint.report.footage import thumbnail
    from kinopaint.video import open_clip

    pictures = []
    for path, chosen in ((source, part), (result, {})):
        with open_clip(path, **chosen) as clip:
            pictures.append(next(thumbnail(one.image, 240) for one in clip if one.index == frame))
    return pictures
