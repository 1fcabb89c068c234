"""Method names, and where each is found. Outside packages add theirs by the entry point group `kinopaint.methods`."""

import importlib
from importlib.metadata import entry_points
from typing import Any

from kinopaint.errors import SettingsError, did_you_mean

GROUP = "kinopaint.methods"
BUILT_IN = {
    "fresco": "kinopaint.methods.fresco:Fresco",
    "pix2video": "kinopaint.methods.pix2video:Pix2Video",
    "style-a-video": "kinopaint.methods.style_a_video:StyleAVideo",
}


def _targets() -> dict[str, str]:
    return {**{entry.name: entry.value for entry in entry_points(group=GROUP)}, **BUILT_IN}


def available_methods() -> list[str]:
    """The names that `get_method` knows, sorted."""
    return sorted(_targets())


def get_method(name: str) -> type[Any]:
    """The class of a method: a frozen dataclass whose fields are its settings.

    Raises SettingsError (KP-METHOD-UNKNOWN) for a name that nobody registered.
    """
    targets = _targets()
    if not isinstance(name, str) or name not in targets:
        raise SettingsError(
            "KP-METHOD-UNKNOWN", f"there is no method named {name!r}", where="--method", fix=did_you_mean(name, targets)
        )
    module, _, attribute = targets[name].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found
