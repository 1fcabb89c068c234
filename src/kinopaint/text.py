"""Text from files and people, made fit to be shown: one place, used wherever something foreign is printed."""

from __future__ import annotations

import json
import os
import re
from os import PathLike
from typing import Any

LONGEST = 500  # characters


def shown(text: str | PathLike[str], longest: int = LONGEST) -> str:
    """One line that cannot act on a terminal or pretend to be something else.

    Line breaks, control characters (terminal sequences), marks that turn the direction of writing, and whatever else
    does not print are written as escapes; what is longer than `longest` is cut, and that is said. Doing it twice
    changes nothing. It does not make HTML: templates escape that.
    """
    whole = os.fspath(text)
    part = whole[:longest]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in part)
    return safe if len(whole) <= longest else f"{safe}… ({len(whole)} characters)"


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that keeps letters of all languages readable and escapes what does not print."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return re.sub(
        r"[^\n\x20-\x7e]", lambda match: match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1], text
    )
