"""Every exception that Kinopaint raises.

    KinopaintError                     code, what, where, fix, exit_code
    ├── InternalError                  1  a promise of our own was broken
    │   └── ShapeError (ValueError)    1  tensors that do not fit each other
    ├── SettingsError (ValueError)     2  wrong usage, a value out of range, an unknown name
    ├── InputError (ValueError)        3  the clip cannot be used
    ├── OutputError (OSError)          4  the result cannot be written
    ├── ModelError (ValueError)        5  the model cannot be used
    ├── Stopped                        6  stopped by a signal
    └── QualityGateError               7  a measured number misses its limit

`code` is stable ("KP-INPUT-TRUNCATED"), `what` says what was found and what was expected, `where` names
the file, frame or setting, `fix` says what to do next. What they quote from files is escaped when it is shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from kinopaint.text import shown

LONGEST = 2000  # characters of one entry


class KinopaintError(Exception):
    """Base of every error raised on purpose; carries a stable code and what to do about it."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.where, self.fix = code, what, where, fix

    def __str__(self) -> str:
        told = self.as_dict()
        lines = [f"{told['code']}: {told['what']}"]
        if told["where"]:
            lines.append(f"  where: {told['where']}")
        if told["fix"]:
            lines.append(f"  do:    {told['fix']}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """Fit to be shown, each entry one line."""
        return {name: shown(getattr(self, name), LONGEST) for name in ("code", "what", "where", "fix")}


class InternalError(KinopaintError):
    exit_code = 1


class ShapeError(InternalError, ValueError):
    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__("KP-SHAPE", what, where=where, fix=fix)


class SettingsError(KinopaintError, ValueError):
    exit_code = 2


class InputError(KinopaintError, ValueError):
    exit_code = 3


class OutputError(KinopaintError, OSError):
    exit_code = 4


class ModelError(KinopaintError, ValueError):
    exit_code = 5


class Stopped(KinopaintError):
    exit_code = 6


class QualityGateError(KinopaintError):
    exit_code = 7


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A sentence part that names the nearest known names, or all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
