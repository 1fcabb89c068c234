"""Kill runs at random moments, run the same command again, and compare with a run that nobody disturbed.

    python benchmarks/kills.py [--kills 100] [--points 60] [--seed 0] [--isolated]

Each trial is a process of its own that runs the whole command line: model, decoding, painting by a method without a
network (`tests.fakes`), segments, journal, encoding, delivery, clean-up. `--kills` of them get SIGKILL after a random
time; `--points` of them at each of as many different places where something is brought to the disk or gets or loses its
name, one after the other, first right before it and then right after. Then the same command runs until it ends.

Lost is a trial whose command does not bring the result, different one whose decoded frames, times or sound are not
those of the undisturbed run. A run that was killed when all was done may find its own result there (exit code 4); that
counts as done if the result is right and nothing else is left. Ends with 1 if anything was lost or different.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import torch

from kinopaint import api  # before tests.conftest, which would have every shape checked

# isort: split
from tests import fakes
from tests.clips import write_clip
from tests.conftest import write_model

from kinopaint.cli import main as command
from kinopaint.video.reader import open_here
from kinopaint.work import work_folder

FRAMES = 16
OPERATIONS = ("fsync", "link", "replace", "rename", "unlink", "rmdir", "truncate")


def words(clip: Path, model: Path, output: Path) -> list[str]:
    fixed = ["--method", "trail", "--windows", "2", "--codec", "ffv1", "--dtype", "float32", "--progress", "none"]
    return ["stylize", str(clip), "oil", "-o", str(output), "--model", str(model), *fixed]


@dataclass(frozen=True)
class Trial:
    """One disturbed run: what its process does first, or when it is killed, in seconds from the moment of `begun`."""

    name: str
    prepare: Callable[[], None] = lambda: None
    moment: float | None = None
    begun: Callable[[], bool] = lambda: True


def in_a_process(run: Callable[[], int], trial: Trial = Trial("undisturbed")) -> int:
    """Its exit code, below 0 for a signal."""
    child = os.fork()
    if not child:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        code = 99
        try:
            trial.prepare()
            code = run()
        finally:
            os._exit(code)
    if trial.moment is not None:
        ended = lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # noqa: E731
        while not trial.begun() and not ended():
            time.sleep(0.0005)
        due = time.monotonic() + trial.moment
        while time.monotonic() < due and not ended():
            time.sleep(0.0005)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    with contextlib.suppress(ProcessLookupError):  # the decoding process ends by itself; a trial must not wait for it
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def killing_itself(point: int, after: bool) -> None:
    """From now on this process ends by SIGKILL at the operation with this number, before or after it is done."""
    count = 0

    def counted(operation: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            nonlocal count
            here, count = count == point, count + 1
            if here and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = operation(*given, **named)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))


def stage(output: Path) -> str:
    """How far the killed run had come, by what it left."""
    work = work_folder(output)
    if not work.exists():
        return "all done" if output.exists() else "before the work folder"
    try:
        lines = (work / "journal.jsonl").read_bytes().splitlines()
        kinds = [json.loads(line)["entry"]["kind"] for line in lines]
    except (OSError, ValueError):
        return "cleaning up" if output.exists() else "opening clip and model"
    if "delivery" in kinds:
        return "cleaning up" if output.exists() else "naming"
    if "painted" in kinds:
        return "encoding"
    return "painting" if "window" in kinds else "first window"


def content(path: Path) -> list[tuple[object, ...]]:
    """Everything in the file that is played: per stream the times and the decoded data."""
    with av.open(str(path)) as container:
        video = [(frame.pts, frame.to_ndarray(format="rgb24").tobytes()) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size]
    return [*video, *sound]


def trials(given: argparse.Namespace, journal: Path, before: float, after: float) -> Iterator[Trial]:
    """Every fourth kill falls before the journal begins, while model and clip are opened, the others after it."""
    chance = random.Random(given.seed)
    for number in range(given.kills):
        if number % 4:
            yield Trial(f"kill {number}", moment=chance.uniform(0, after), begun=journal.exists)
        else:
            yield Trial(f"kill {number}", moment=chance.uniform(0, before))
    for number in range(given.points):
        yield Trial(f"before operation {number}", partial(killing_itself, number, after=False))
        yield Trial(f"after operation {number}", partial(killing_itself, number, after=True))


def spans(run: Callable[[], int], journal: Path) -> tuple[float, float]:
    """Seconds of an undisturbed run before its journal begins, and after that."""
    begin, seen = time.monotonic(), [0.0]

    def watch() -> None:
        while not journal.exists():
            time.sleep(0.0005)
        seen[0] = time.monotonic() - begin

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = in_a_process(run)
    whole = time.monotonic() - begin
    watcher.join()
    assert code == 0, f"the undisturbed run ends with {code}"
    return seen[0], whole - seen[0]


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill runs at random moments and run them again.")
    parser.add_argument("--kills", type=int, default=100, help="at random moments (default: 100)")
    parser.add_argument("--points", type=int, default=60, help="operations to die before and after (default: 60)")
    parser.add_argument("--isolated", action="store_true", help="decode in processes of their own, as users do: slower")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of the clip (default: {FRAMES})")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fakes.register()
    if not given.isolated:
        api.open_clip = open_here  # type: ignore[assignment]
    stages: collections.Counter[str] = collections.Counter()
    lost, different, killed = [], [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "model")
        clip = write_clip(folder / "clip.mp4", given.frames, (64, 64))
        place = folder / "out"
        place.mkdir()
        output = place / "out.mkv"
        run = lambda: command(words(clip, model, output))  # noqa: E731
        in_a_process(run)  # whatever is slow the first time only
        output.unlink()
        journal = work_folder(output) / "journal.jsonl"
        before, after = spans(run, journal)
        expected = content(output)
        for trial in trials(given, journal, before, after):
            shutil.rmtree(place)
            place.mkdir()
            code = in_a_process(run, trial)
            if code == 0 and trial.moment is None:  # there are not so many operations
                continue
            killed += code == -signal.SIGKILL
            stages[stage(output)] += 1
            code = in_a_process(run)
            if code != 0 and not (code == 4 and output.exists()):
                lost.append(f"{trial.name}: the same command ends with {code}")
            elif work_folder(output).exists():
                lost.append(f"{trial.name}: work is left beside the result")
            elif content(output) != expected:
                different.append(trial.name)
    print(f"{sum(stages.values())} trials, {killed} killed; undisturbed {before:.2f} s of opening and {after:.2f} s")
    for what, count in stages.most_common():
        print(f"  {count:>4}  {what}")
    print(f"lost: {len(lost)}, different: {len(different)}", *lost, *different, sep="\n  ")
    return int(bool(lost or different))


if __name__ == "__main__":
    sys.exit(main())
