"""Run a suite cell by cell, each in a process of its own, and keep what is done: the folder can be run again.

suite.toml        the suite as it was run last
clips/            generated clips
results/          the videos
cells/KEY.json    finished cells; the key covers clip, prompt, method, preset, settings, weights and version
bench.html, bench.csv
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kinopaint import __version__
from kinopaint.bench.suite import Cell, ClipEntry, Suite
from kinopaint.errors import OutputError
from kinopaint.text import shown
from kinopaint.video.place import write_whole

Task = dict[str, Any]
Answer = dict[str, Any]
Say = Callable[[str], None]

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kinopaint.bench.worker import main; main()"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: the worker's `answer`, which has an `error` if it failed."""

    cell: Cell
    result: Path
    answer: Answer

    @property
    def failed(self) -> bool:
        return "error" in self.answer


def run_in_process(task: Task) -> Answer:
    """Do a task in a fresh interpreter; one that dies without an answer has failed."""
    with tempfile.TemporaryDirectory(prefix="kinopaint-bench-") as folder:
        question, answer = Path(folder) / "task.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(task), encoding="utf-8")
        here = json.dumps([os.path.abspath(path) for path in sys.path])
        done = subprocess.run(
            [sys.executable, "-c", _START, here, str(question), str(answer)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        if answer.exists():
            return dict(json.loads(answer.read_text(encoding="utf-8")))
    code = done.returncode
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = shown(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else "no message"
    what = f"its process ended without an answer ({how}; {last})"
    return {"error": {"code": "KP-BENCH-CRASH", "what": what, "where": "", "fix": "is there enough memory?"}}


def run_suite(suite: Suite, folder: Path, *, say: Say, run: Callable[[Task], Answer] = run_in_process) -> list[Outcome]:
    """Run what is not done yet and return all cells of the suite, in its order. A cell that fails ends nothing.

    `say` hears what happens. Raises OutputError (KP-OUTPUT-EXISTS: the folder is something else, KP-OUTPUT-BUSY).
    """
    for name in ("", "clips", "results", "cells"):
        place = folder / name
        if not name and place.exists() and any(place.iterdir()) and not (place / "suite.toml").exists():
            raise OutputError(
                "KP-OUTPUT-EXISTS", "the folder holds something else", where=shown(place), fix="choose another folder"
            )
        place.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        with lock:
            return _run(suite, folder, say, run)
    except Timeout:
        raise OutputError(
            "KP-OUTPUT-BUSY", "another process is working in this folder", where=shown(folder), fix="wait for it"
        ) from None


def _run(suite: Suite, folder: Path, say: Say, run: Callable[[Task], Answer]) -> list[Outcome]:
    model = _model_identity(suite.model)
    sources = {clip.name: _source(clip, folder) for clip in suite.clips}
    prints = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}
    cells = [(cell, _key(cell, prints[cell.clip.name], model)) for cell in suite.cells()]
    _notice(suite, folder, {key for _, key in cells}, say)
    outcomes: list[Outcome] = []
    for _, group in groupby(cells, key=lambda pair: (pair[0].clip.name, pair[0].prompt)):
        asked = suite.references
        made: list[tuple[Outcome, Task, str]] = []
        for cell, key in group:
            number = len(outcomes) + len(made) + 1
            task = _task(cell, key, sources[cell.clip.name], folder, references=asked)
            answer = _kept(folder, key, Path(task["result"]))
            if answer is None:
                say(f"{number} of {len(cells)}: {cell.title}")
                answer = run(task)
                _keep(folder, key, cell, answer)
                if error := answer.get("error"):
                    say(f"failed: {error['code']}: {error['what']}")
            else:
                say(f"{number} of {len(cells)}: {cell.title}: done before")
            asked = asked and not answer.get("references")
            made.append((Outcome(cell, Path(task["result"]), answer), task, key))
        # Finished cells of an earlier suite may be without the references that this one wants.
        whole = [entry for entry in made if not entry[0].failed]
        if asked and whole:
            outcome, task, key = whole[0]
            again = run({**task, "painted": True, "references": True})
            outcome.answer["references"] = again.get("references", {})
            _keep(folder, key, outcome.cell, outcome.answer)
        outcomes += [outcome for outcome, _, _ in made]
    return outcomes


def _task(cell: Cell, key: str, source: Path, folder: Path, *, references: bool) -> Task:
    words = (cell.clip.name, cell.prompt, cell.label, cell.preset)
    name = re.sub(r"[^\w.]+", "-", "-".join(word for word in words if word)).strip("-.")[:100]
    return {
        "source": str(source),
        "result": str(folder / "results" / f"{name}-{key[:8]}.mp4"),
        "prompt": cell.prompt,
        "method": cell.method,
        "preset": cell.preset,
        "model": _model_place(cell.model),
        "settings": cell.settings,
        "references": references,
        "painted": False,
    }


def _key(cell: Cell, clip: str, model: dict[str, str]) -> str:
    about = {"clip": clip, "part": cell.clip.part, "prompt": cell.prompt, "method": cell.method, "preset": cell.preset}
    whole = {**about, "settings": cell.settings, "model": model, "version": __version__}
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _model_place(name: str) -> str:
    return os.path.abspath(name) if os.path.exists(name) else name


def _model_identity(name: str) -> dict[str, str]:
    """The hashes of the weights. Raises ModelError if there is no such model."""
    from kinopaint.models.finding import find_model
    from kinopaint.models.hashes import weight_hashes

    return weight_hashes(find_model(name).path)


def _source(clip: ClipEntry, folder: Path) -> Path:
    if clip.file is not None:
        return clip.file
    from kinopaint.demo import write_clip

    path = folder / "clips" / f"{clip.demo}-{clip.frames}.mp4"
    return path if path.exists() else write_clip(path, str(clip.demo), frames=clip.frames)


def _kept(folder: Path, key: str, result: Path) -> Answer | None:
    """The answer of a finished cell; None if there is none, or its video is gone."""
    try:
        found: Answer = json.loads((folder / "cells" / f"{key}.json").read_text(encoding="utf-8"))["answer"]
    except (OSError, ValueError, KeyError):
        return None
    return found if result.exists() else None


def _keep(folder: Path, key: str, cell: Cell, answer: Answer) -> None:
    if "error" not in answer:
        text = json.dumps({"cell": asdict(cell), "answer": answer}, default=str)
        write_whole(folder / "cells" / f"{key}.json", text.encode(), overwrite=True)


def _notice(suite: Suite, folder: Path, keys: set[str], say: Say) -> None:
    """Say what an earlier run left, and how the suite has changed since."""
    copy, text = folder / "suite.toml", suite.path.read_text(encoding="utf-8")
    there = {path.stem for path in (folder / "cells").glob("*.json")}
    if copy.exists():
        changed = copy.read_text(encoding="utf-8") != text
        gone = len(there - keys)
        if changed or gone:
            new = len(keys - there)
            say(
                f"{'the suite has changed since the last run' if changed else 'a clip or the model has changed'}: "
                f"{new} cells are new, {gone} finished ones no longer belong to it and are left out"
            )
    write_whole(copy, text.encode(), overwrite=True)


def groups(outcomes: list[Outcome]) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Clip, prompt, and their outcomes."""
    for (clip, prompt), group in groupby(outcomes, key=lambda one: (one.cell.clip.name, one.cell.prompt)):
        yield clip, prompt, list(group)
