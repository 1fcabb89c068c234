"""One number per frame, None where it is not defined (the first frame has no previous one)."""

from collections.abc import Sequence

Series = Sequence[float | None]


def mean_of_defined(values: Series) -> float | None:
    """The mean of what is defined; None if nothing is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
