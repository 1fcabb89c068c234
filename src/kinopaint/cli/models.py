"""kinopaint models [show|verify|add]"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinopaint.cli.options import Parser
from kinopaint.errors import SettingsError

if TYPE_CHECKING:
    from kinopaint.models.catalogue import Listed

ABOUT = """Models that can be used: where they are, what they are, revision, licence, hash.

  kinopaint models                 all: the embedded one, those added, those in the hub's cache
  kinopaint models show NAME       one; NAME is what --model takes
  kinopaint models verify NAME     read all of it: files, shapes, NaN, hashes, kind of prediction
  kinopaint models add PATH        let a folder or a single .safetensors file be used by name; nothing is copied
"""


def parser(words: Sequence[str]) -> Parser:
    made = Parser("models", description=ABOUT)
    made.add_argument("do", nargs="?", default="show", choices=("show", "verify", "add"), help="(default: show)")
    made.add_argument("model", nargs="?", metavar="NAME", help="a model; for add its folder or file (default: all)")
    made.add_argument("--name", metavar="NAME", help="add: the name to use it by (default: that of the folder or file)")
    made.add_argument(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="add: what the network predicts (default: what the model says)",
    )
    made.add_argument("--json", action="store_true", help="as JSON (default: as text)")
    made.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return made


def run(given: argparse.Namespace) -> int:
    from kinopaint.models import catalogue

    if given.do != "add" and (given.name or given.prediction):
        raise SettingsError("KP-USAGE", "--name and --prediction belong to add", fix="kinopaint models --help")
    if given.do != "show" and given.model is None:
        raise SettingsError(
            "KP-USAGE", f"{given.do} needs a model", where="kinopaint models", fix=f"kinopaint models {given.do} NAME"
        )
    if given.do == "add":
        listed = [catalogue.add_model(Path(given.model), given.name, given.prediction)]
    elif given.do == "verify":
        listed = [catalogue.verify(given.model)]
    else:
        listed = [catalogue.describe(given.model)] if given.model else list(catalogue.all_models())
    if given.json:
        print(json.dumps([dataclasses.asdict(each) for each in listed], indent=2))
    else:
        print("\n\n".join(_told(each) for each in listed))
        if given.do == "verify":
            print("whole: every weight is read, finite and of the right shape")
    return 0


def _told(model: Listed) -> str:
    lines = {
        "where": model.where,
        "kind": model.kind,
        "revision": model.revision,
        "licence": model.licence or ("not stated" if not model.fault else None),
        "hash": model.hash and f"sha256:{model.hash}",
        "cannot be used": model.fault and f"{model.fault}; kinopaint models show {model.name} says why",
    }
    return "\n".join([model.name, *(f"  {name:<9} {value}" for name, value in lines.items() if value)])
