"""How much a file may make us do, whatever it claims to be."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass

from kinopaint.errors import InputError, SettingsError, did_you_mean
from kinopaint.settings import parse_memory, real, whole

VARIABLE = "KINOPAINT_LIMITS"


@dataclass(frozen=True)
class Limits:
    """`pixels` of one picture, `frames` of a stream, `packets` of all streams in one pass over the file, `memory` in
    bytes of the decoding process (enforced where the system can: Linux), and `seconds` without any progress, of
    decoding and of `writing`.
    """

    pixels: int = 2**26  # 8192 x 8192
    frames: int = 2**22  # 19 hours at 60 per second
    packets: int = 2**25
    memory: int = 8 * 2**30
    seconds: float = 60.0
    writing: float = 300.0

    @classmethod
    def chosen(cls) -> Limits:
        """The defaults, with what the environment says: KINOPAINT_LIMITS="pixels=134217728,memory=16GB,seconds=300".

        Raises SettingsError (KP-SETTING-LIMITS) for anything that cannot be read.
        """
        given: dict[str, int | float] = {}
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        for pair in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
            name, _, text = pair.partition("=")
            try:
                if name not in known:
                    raise SettingsError("", f"{name!r} is no limit", fix=did_you_mean(name, known))
                if name == "memory":
                    given[name] = parse_memory(text) or 0
                elif isinstance(known[name], int):
                    given[name] = whole(name, text, at_least=1)
                else:
                    given[name] = real(name, text)
                    if given[name] <= 0:
                        raise SettingsError("", f"{text!r} seconds", fix="give more than 0")
            except SettingsError as error:
                raise SettingsError("KP-SETTING-LIMITS", error.what, where=VARIABLE, fix=error.fix) from None
        return cls(**given)  # type: ignore[arg-type]

    def more(self, name: str) -> str:
        """How a user allows more; the end of a sentence about what to do."""
        value = getattr(self, name)
        return f"if you trust the file, allow more: set the environment variable {VARIABLE} to {name}={2 * value:.15g}"


class Guard:
    """Counts one pass over a file. `beat` is called for each packet: a sign of progress for a watchdog."""

    def __init__(self, limits: Limits | None = None, beat: Callable[[], None] = lambda: None) -> None:
        self.limits = limits or Limits.chosen()
        self._beat = beat

    def start(self, where: str) -> None:
        """A new pass begins, over the file `where`."""
        self._where = where
        self._packets = self._frames = 0

    def packet(self) -> None:
        """Raises InputError (KP-INPUT-LIMIT)."""
        self._beat()
        self._packets += 1
        if self._packets > self.limits.packets:
            raise self._too_much("packets")

    def frame(self) -> None:
        """Raises InputError (KP-INPUT-LIMIT)."""
        self._frames += 1
        if self._frames > self.limits.frames:
            raise self._too_much("frames")

    def _too_much(self, what: str) -> InputError:
        found = f"the file is beyond what is read: it has more than {getattr(self.limits, what)} {what}"
        fix = f"cut it into shorter parts, or {self.limits.more(what)}"
        return InputError("KP-INPUT-LIMIT", found, where=self._where, fix=fix)
