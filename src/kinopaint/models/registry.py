"""Models under names of the user's own: `models.json` in the configuration folder; the files stay where they are."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kinopaint.errors import ModelError, SettingsError


@dataclass(frozen=True)
class Entry:
    """A registered model: its absolute path, the hash it had when it was added, and what its files do not tell."""

    path: str
    hash: str
    prediction: str | None = None  # "epsilon" or "v_prediction", for a single file that does not say


def registry_file() -> Path:
    """`models.json` in $XDG_CONFIG_HOME/kinopaint, else where the system keeps configurations."""
    if home := os.environ.get("XDG_CONFIG_HOME"):
        folder = Path(home)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("APPDATA", Path.home() / "AppData/Roaming"))
    elif sys.platform == "darwin":
        folder = Path.home() / "Library/Application Support"
    else:
        folder = Path.home() / ".config"
    return folder / "kinopaint" / "models.json"


def registered() -> Mapping[str, Entry]:
    """All entries by name. Raises ModelError (KP-MODEL-REGISTRY) if the file cannot be understood."""
    file = registry_file()
    if not file.exists():
        return {}
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): Entry(**entry) for name, entry in sorted(listed.items())}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            "KP-MODEL-REGISTRY",
            f"the list of added models cannot be read: {error}",
            where=str(file),
            fix="repair or remove the file, and add the models again",
        ) from error


def register(name: str, entry: Entry) -> None:
    """Add or replace an entry. Raises SettingsError (KP-MODEL-NAME) for a name that could be mistaken."""
    if name == "mini" or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise SettingsError(
            "KP-MODEL-NAME",
            f"{name!r} cannot be a model's name",
            where="--name",
            fix='use letters, digits, ".", "_" and "-"; mini is the embedded model',
        )
    file, entries = registry_file(), {**registered(), name: entry}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps({key: asdict(value) for key, value in entries.items()}, indent=2) + "\n")
    part.replace(file)
