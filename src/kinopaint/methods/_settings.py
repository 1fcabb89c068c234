"""Fields of a method: what they mean, what they may be; the shells make options of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from kinopaint.errors import SettingsError, did_you_mean


def setting(
    default: Any,
    meaning: str,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    unit: str = "",
) -> Any:
    """A dataclass field with its `help`, `choices`, `minimum`, `maximum` and `unit` as metadata."""
    return dataclasses.field(
        default=default,
        metadata={"help": meaning, "choices": tuple(choices), "minimum": minimum, "maximum": maximum, "unit": unit},
    )


def share(default: float, meaning: str) -> Any:
    """A field that is a share: from 0 to 1."""
    return setting(default, meaning, minimum=0, maximum=1)


def check_settings(method: Any) -> None:
    """Compare the fields of `method` with what they may be; for its `__post_init__`.

    Raises SettingsError: KP-SETTING-TYPE, KP-SETTING-RANGE (also for NaN and infinity) or KP-SETTING-CHOICE.
    """
    for field in dataclasses.fields(method):
        value, allowed = getattr(method, field.name), field.metadata
        default = field.default
        if isinstance(default, int | float) and not isinstance(default, bool):
            whole = isinstance(default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                _refuse("KP-SETTING-TYPE", field.name, f"{value!r} is not a {'whole ' if whole else ''}number")
            if not _is_finite(value):
                _refuse("KP-SETTING-RANGE", field.name, f"{value} is not a finite number")
            low, high = allowed.get("minimum"), allowed.get("maximum")
            if (low is not None and value < low) or (high is not None and value > high):
                bounds = f"at most {high}" if low is None else f"at least {low}"
                bounds = bounds if None in (low, high) else f"from {low} to {high}"
                _refuse("KP-SETTING-RANGE", field.name, f"{value} is out of range", f"give a number {bounds}")
        elif allowed.get("choices") and not (isinstance(value, str) and value in allowed["choices"]):
            _refuse(
                "KP-SETTING-CHOICE",
                field.name,
                f"{value!r} is not a choice",
                did_you_mean(str(value), allowed["choices"]),
            )
        elif not isinstance(value, type(default)):
            _refuse("KP-SETTING-TYPE", field.name, f"{value!r} is not a {type(default).__name__}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _refuse(code: str, name: str, what: str, fix: str = "") -> None:
    raise SettingsError(code, f"{name}: {what}", where=name, fix=fix)
