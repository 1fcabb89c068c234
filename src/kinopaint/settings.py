"""Values as people give them, on the command line or from Python, checked and turned into what the code needs.

Every function raises SettingsError that names the setting, what came, and what would do.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kinopaint.errors import SettingsError, did_you_mean

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def option(name: str) -> str:
    """A setting's name as an option: `s_image` is `--s-image`."""
    return "--steps" if name == "num_inference_steps" else f"--{name.replace('_', '-')}"


def refuse(name: str, value: object, wanted: str, *, fix: str = "") -> SettingsError:
    return SettingsError("KP-SETTING-VALUE", f"{value!r} is not {wanted}", where=option(name), fix=fix)


def whole(name: str, value: object, *, at_least: int | None = None) -> int:
    """A whole number."""
    try:
        number = int(value)  # type: ignore[call-overload]
        if isinstance(value, bool) or (not isinstance(value, str) and number != value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise refuse(name, value, "a whole number") from None
    if at_least is not None and number < at_least:
        raise refuse(name, value, f"a whole number of at least {at_least}")
    return int(number)


def seed_number(value: object) -> int:
    """A whole number that generators of noise take."""
    seed = whole("seed", value, at_least=0)
    if seed >= 2**63:
        raise refuse("seed", seed, "a whole number below 2**63")
    return seed


def parse_memory(value: str | int | float | None) -> int | None:
    """Bytes of "8GB", "500 MB", "2GiB" or a number; None for None."""
    if value is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(value).upper())
    amount = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= amount < math.inf:
        raise refuse("memory", value, "an amount of memory", fix="write 8GB, 500MB or 2GiB")
    return int(amount)


def real(name: str, value: object) -> float:
    """A finite number; the decimal sign is a point whatever the locale."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # the last: a whole number beyond any float
        raise refuse(name, value, "a number") from None
    if not math.isfinite(number):
        raise refuse(name, value, "a finite number")
    return number


def switch(name: str, value: object) -> bool:
    """Yes or no; a text says which, so that "no" does not mean yes."""
    return bool(coerce(name, bool, value))


def path_text(name: str, value: object, *, wanted: str = "a path") -> str:
    """The text of a path, or of a name that may be one; `name` says what it is of."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise SettingsError(
            "KP-SETTING-VALUE", f"{value!r} is not {wanted}", where=name, fix="give it as text, or as a pathlib.Path"
        )
    return text


def listener(value: Callable[..., None] | None) -> None:
    """Raises SettingsError unless `value` can be told of progress."""
    if value is not None and not callable(value):
        raise SettingsError(
            "KP-SETTING-VALUE",
            f"{value!r} cannot be called",
            where="progress",
            fix="give a function that takes one dictionary, or leave it out",
        )


def one_of(name: str, value: object, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise SettingsError(
            "KP-SETTING-UNKNOWN", f"unknown value {value!r}", where=option(name), fix=did_you_mean(str(value), known)
        )
    return str(value)


def coerce(name: str, hint: Any, value: Any) -> Any:
    """`value` as the type that a method's field has; texts come from the command line.

    Known types: int, float, bool, str, Literal, `X | None` (`none`), and classes with a `parse` method.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return one_of(name, value, parts)
    if kind in (Union, types.UnionType):
        if value is None or (type(None) in parts and str(value).lower() == "none"):
            return None
        rest = [part for part in parts if part is not type(None)]
        failure: SettingsError | None = None
        for part in rest:
            try:
                return coerce(name, part, value)
            except SettingsError as error:
                failure = error
        raise failure or refuse(name, value, "a known value")
    if hint is bool:
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if str(value).lower() not in words:
            raise refuse(name, value, "yes or no")
        return words[str(value).lower()]
    if hint is int:
        return whole(name, value)
    if hint is float:
        return real(name, value)
    if isinstance(value, (str, int)) and hasattr(hint, "parse"):
        return hint.parse(str(value))
    return value


def plain(value: Any) -> Any:
    """A setting as JSON holds it; given as a setting again, it means the same."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else str(value)


def coerce_fields(cls: type, given: Mapping[str, Any], others: Collection[str] = ()) -> dict[str, Any]:
    """The given fields of a method's dataclass, coerced. An unknown one raises SettingsError: did you mean …

    `others` are names that could have been meant, too.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    for name in given:
        if name not in known:
            raise SettingsError(
                "KP-SETTING-UNKNOWN",
                f"{cls.__name__} has no setting {name!r}",
                where=option(name),
                fix=did_you_mean(name, [*known, *others]),
            )
    return {name: coerce(name, hints[name], value) for name, value in given.items()}
