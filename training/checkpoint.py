"""Where a training run stands, on disk: what it was stopped in the midst of is still whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write(file: Path, parts: Mapping[str, Any], **numbers: float) -> None:
    """Write the state of `parts` (networks, averages, optimisers) and `numbers`, as a whole or not at all."""
    part = file.with_suffix(".part")
    torch.save({name: each.state_dict() for name, each in parts.items()} | numbers, part)
    part.replace(file)


def resumed(file: Path, parts: Mapping[str, Any], **numbers: Any) -> tuple[Any, ...]:
    """Put `parts` back into the state of `file`. Returns the numbers it has, in the order of `numbers`; these
    themselves where there is no such file.
    """
    if not file.exists():
        return tuple(numbers.values())
    state = torch.load(file, map_location="cpu", weights_only=True)
    for name, each in parts.items():
        each.load_state_dict(state[name])
    return tuple(state[name] for name in numbers)
