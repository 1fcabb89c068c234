"""What the commands share in reading their arguments.

Values stay texts here: the checks are those of the Python API, so both ways in give the same errors.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

from kinopaint.errors import SettingsError, did_you_mean
from kinopaint.settings import option


class Parser(argparse.ArgumentParser):
    """Raises SettingsError instead of leaving the program; an unknown option names its nearest relatives."""

    def __init__(self, command: str, **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=f"kinopaint {command}", allow_abbrev=False, **more)
        self._dashed: list[str] = []  # words that only look like options

    def error(self, message: str) -> NoReturn:
        fix = f"{self.prog} --help lists what can be said"
        positionals = {each.dest for each in self._actions if not each.option_strings}
        if self._dashed:
            fix = f'words that begin with "-" go to the end, after --, or behind "=": {self._dashed[0]!r}; {fix}'
        elif message.startswith("unrecognized arguments") and "prompt" in positionals:
            fix = f"a prompt of several words goes in quotes; {fix}"
        raise SettingsError("KP-USAGE", message, fix=fix)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        # The options are looked through first: an unknown one would leave its value behind as a positional.
        known = self._option_string_actions
        for word in args or ():
            if word == "--":
                break
            name = word.split("=", 1)[0]
            if " " in name:  # words, whatever they begin with, as argparse sees it, too
                continue
            if re.match(r"-[^-\d.]", word) and word[:2] not in known:
                self._dashed.append(word)
            if name.startswith("--") and name not in known:
                raise SettingsError(
                    "KP-USAGE",
                    f"unknown option {name}",
                    where=self.prog,
                    fix=did_you_mean(name, [known_name for known_name in known if known_name.startswith("--")]),
                )
        return super().parse_args(args, namespace)


def named(words: Sequence[str], name: str, default: str) -> str:
    """The value of an option before the parser that needs it exists: the last `--name VALUE` or `--name=VALUE`."""
    value = default
    for word, following in pairwise([*words, None]):
        if word is None or word == "--":
            break
        if word == name and following is not None:
            value = following
        elif word.startswith(f"{name}="):
            value = word.split("=", 1)[1]
    return value


def add_method_fields(parser: argparse.ArgumentParser, name: str, cls: type) -> None:
    """One option for each field of the method, with help, unit and default from the field."""
    group = parser.add_argument_group(
        f"settings of {name}", "not given: what the model recommends, else the default here"
    )
    for field in dataclasses.fields(cls):
        names = dict.fromkeys((option(field.name), f"--{field.name.replace('_', '-')}"))
        group.add_argument(
            *names, dest=f"field:{field.name}", metavar="X", help=describe_field(field).replace("%", "%%")
        )


def describe_field(field: dataclasses.Field[Any]) -> str:
    """Meaning, what may be given, default and unit in one line."""
    about = field.metadata
    words = [about.get("help", "")]
    low, high = about.get("minimum"), about.get("maximum")
    if about.get("choices"):
        words.append(f"one of {', '.join(about['choices'])}")
    elif low is not None:
        words.append(f"at least {low:g}" if high is None else f"{low:g} to {high:g}")
    elif high is not None:
        words.append(f"at most {high:g}")
    unit = f" {about['unit']}" if about.get("unit") else ""
    return f"{'; '.join(word for word in words if word)} (default: {default_of(field)}{unit})"


def default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def assignments(pairs: Sequence[str]) -> dict[str, str]:
    """`--set name=value` pairs as a dictionary; `s-image` and `s_image` are the same name."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingsError("KP-USAGE", f"{pair!r} is not name=value", where="--set", fix="write --set s_image=1.5")
        found[name.strip().replace("-", "_")] = value.strip()
    return found
