"""Which layers an intervention acts in, by the names of their blocks."""

from collections.abc import Iterable

from kinopaint.engine.interventions import Predicate, under
from kinopaint.errors import SettingsError


def in_blocks(layers: str, known: Iterable[str], *, last: int = 2) -> Predicate:
    """In the blocks that `layers` names, such as "up_blocks.2,up_blocks.3"; "auto": in the `last` of those with any
    of the `known` sites (paths).

    Raises SettingsError (KP-SETTING-LAYER) for a block that has none.
    """
    blocks = sorted({".".join(path.split(".")[:2]) for path in known})
    chosen = blocks[-last:] if layers == "auto" else [name.strip() for name in layers.split(",")]
    if unknown := set(chosen) - set(blocks):
        raise SettingsError(
            "KP-SETTING-LAYER",
            f"the network has no self-attention at {', '.join(sorted(unknown))}",
            where="layers",
            fix=f"it has some at {', '.join(blocks)}; or use auto",
        )
    return Predicate(lambda call: any(under(block)(call) for block in chosen))
