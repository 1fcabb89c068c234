"""The encoding process: writes one clip for the process that started it. Imports no torch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from kinopaint.video.encoder import VideoSink
from kinopaint.video.frame import Frame
from kinopaint.video.limits import Limits
from kinopaint.video.place import write_errors
from kinopaint.video.serving import Answers, serve
from kinopaint.video.target import Target


def main() -> None:
    serve(_Session)


class _Session:
    def __init__(self, answers: Answers, limits: Limits) -> None:
        self._answers, self._limits = answers, limits
        self._frames = 0

    def open(self, target: Target, final: Path) -> None:
        self._target, self._final = target, final
        self._told = len(target.warnings)
        with self._mapped():
            self._sink = VideoSink(target)
        self._answers.say("result", value={"color": self._sink.color, "warnings": self._new_warnings()})

    def write(self, frame: Frame) -> None:
        with self._mapped():
            self._sink.write(frame.image, frame)
        self._frames += 1
        self._answers.say("taken")

    def finish(self) -> None:
        with self._mapped():
            others = self._sink.finish()
        finished = {"others": others, "tick": self._sink.tick, "warnings": self._new_warnings()}
        self._answers.say("result", value=finished)

    def _mapped(self) -> AbstractContextManager[None]:
        return write_errors(self._final, self._target.codec, self._target.stored, lambda: self._frames)

    def _new_warnings(self) -> list[str]:
        new = self._target.warnings[self._told :]
        self._told += len(new)
        return new


if __name__ == "__main__":
    main()
