"""How a run shows itself: a live line, plain lines, JSON objects, or nothing; always on standard error.

A run reports dictionaries with the key `event`: `shots` (frames_done, frames, eta_s) while it looks for scene cuts,
`start` (frames, windows, …), `progress` (frames_done, frames, eta_s), `warning` (message), `done` (output, frames,
seconds). `frames` is None where the length is not known before the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kinopaint.errors import LONGEST
from kinopaint.text import shown as safe
from kinopaint.text import to_json

Event = dict[str, Any]
Listener = Callable[[Event], None]
MODES = ("auto", "plain", "json", "none")
_REPEATED = ("shots", "progress")  # what comes again and again
PLAIN_INTERVAL = 5.0  # seconds between two plain lines


def clock(seconds: float | None) -> str:
    """Seconds as people read them: 8 s, 3:05, 2:10:00."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{last:02d}" if hours else f"{minutes}:{last:02d}"


def _line(event: Event) -> str:
    return safe(_told(event), LONGEST)


def _told(event: Event) -> str:
    kind = event["event"]
    if kind == "start":
        length = "an unknown number of" if event.get("frames") is None else event["frames"]
        kept = f", {event['frames_done']} of them done before" if event.get("frames_done") else ""
        return (
            f"{event['method']} on {event['model']}: {length} frames{kept}, {event['steps']} steps, {event['device']}"
        )
    if kind in _REPEATED:
        of = "" if event["frames"] is None else f" of {event['frames']}"
        what = "looking for scene cuts: " if kind == "shots" else ""
        return f"{what}{event['frames_done']}{of} frames, {clock(event['eta_s'])} left"
    if kind == "warning":
        return f"warning: {event['message']}"
    line = f"{event['output']}: {event['frames']} frames in {clock(event['seconds'])}"
    if event.get("expected_seconds") is not None:
        line += f" (the first window let expect {clock(event['expected_seconds'])})"
    if event.get("memory") and event.get("expected_memory"):
        line += f", peak {event['memory'] / 1e6:.0f} MB ({event['expected_memory'] / 1e6:.0f} planned)"
    return line


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _json(event: Event) -> None:
    _say(to_json(event))


def _plain() -> Listener:
    last = time.monotonic()

    def listen(event: Event) -> None:
        nonlocal last
        if event["event"] in _REPEATED:
            if time.monotonic() - last < PLAIN_INTERVAL and event["frames_done"] != event["frames"]:
                return
            last = time.monotonic()
        _say(_line(event))

    return listen


@contextmanager
def _live() -> Iterator[Listener]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, state="getting ready")

        def listen(event: Event) -> None:
            if event["event"] in _REPEATED:
                state = escape(_line(event))
                progress.update(task, completed=event["frames_done"], total=event["frames"], state=state)
            else:
                progress.console.print(escape(_line(event)), highlight=False, soft_wrap=True)
                if event["event"] == "start":
                    progress.update(task, completed=0, total=event["frames"], state="first window")

        yield listen


@contextmanager
def shown(mode: str) -> Iterator[Listener]:
    """A listener for a run; `auto` is live on a terminal and plain elsewhere."""
    if mode == "auto" and sys.stderr.isatty():
        with _live() as listener:
            yield listener
    elif mode in ("auto", "plain"):
        yield _plain()
    else:
        yield _json if mode == "json" else (lambda event: None)
