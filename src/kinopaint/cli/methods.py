"""kinopaint methods [NAME]"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
from collections.abc import Sequence

from kinopaint.cli.options import Parser, default_of, describe_field
from kinopaint.settings import option


def parser(words: Sequence[str]) -> Parser:
    made = Parser("methods", description="List the methods; with NAME its parameters, defaults, paper and cost.")
    made.add_argument("name", nargs="?", metavar="NAME", help="a method (default: one line for each)")
    made.add_argument("--json", action="store_true", help="as JSON (default: as text)")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def about(cls: type) -> str:
    """What the method's file says of itself: paper, cost, differences from the paper."""
    return inspect.cleandoc(sys.modules[cls.__module__].__doc__ or cls.__doc__ or "")


def run(given: argparse.Namespace) -> int:
    from kinopaint.methods import available_methods, get_method

    names = [given.name] if given.name else available_methods()
    classes = {name: get_method(name) for name in names}
    if given.json:
        found = {
            name: {
                "about": about(cls),
                "cost": getattr(cls(), "cost", ""),
                "presets": {preset: dict(values) for preset, values in getattr(cls, "presets", {}).items()},
                "fields": {
                    field.name: {"option": option(field.name), "default": _plain(default_of(field)), **_metadata(field)}
                    for field in dataclasses.fields(cls)
                },
            }
            for name, cls in classes.items()
        }
        print(json.dumps(found, indent=2))
    elif not given.name:
        for name, cls in classes.items():
            print(f"{name:<20} {about(cls).splitlines()[0]}")
    else:
        cls = classes[given.name]
        print(f"{given.name}\n\n{about(cls)}\n")
        if cost := getattr(cls(), "cost", ""):  # methods of other packages need not tell
            print(f"cost\n  {cost}\n")
        print("settings (also as keyword arguments in Python)")
        for field in dataclasses.fields(cls):
            print(f"  {option(field.name):<18} {describe_field(field)}")
        for preset, values in getattr(cls, "presets", {}).items():
            print(f"  --preset {preset:<9} {', '.join(f'{key}={value}' for key, value in values.items())}")
    return 0


def _plain(value: object) -> object:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _metadata(field: dataclasses.Field[object]) -> dict[str, object]:
    return {key: value for key, value in field.metadata.items() if value not in (None, "", ())}
