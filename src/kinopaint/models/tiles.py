"""A network's work on overlapping tiles of a picture, put together so that no border shows."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_OVERLAP = 0.5  # of a tile: so far may the network see
_MARGIN = 0.1875  # of a tile, on each side within the picture: there the tile's own border is felt, and it is left out


def in_tiles(
    work: Callable[[Tensor], Tensor], picture: Float[Tensor, "batch channel height width"], tile: int, every: int = 1
) -> Float[Tensor, "batch result result_height result_width"]:
    """What `work` makes of `picture`, one tile of `tile` cells a side at a time; tiles begin at multiples of `every`.

    `work` may scale sides by a fixed factor. Neighbours overlap by half; between the margins of two, one fades into the
    other. Tiles are as large as one another, and as the picture where that is smaller.
    """
    height, width = picture.shape[-2:]
    rows, columns = _starts(height, tile, every), _starts(width, tile, every)
    output: Tensor | None = None
    total = torch.empty(0)
    for top in rows:
        for left in columns:
            part = work(picture[..., top : top + tile, left : left + tile])
            scale = part.shape[-1] / min(tile, width)

            def scaled(cells: int, scale: float = scale) -> int:
                return round(cells * scale)

            if output is None:
                output = part.new_zeros(*part.shape[:2], scaled(height), scaled(width))
                total = output.new_zeros(output.shape[-2:])
            across = _weights(part.shape[-1], left == columns[0], left == columns[-1]).to(part)
            down = _weights(part.shape[-2], top == rows[0], top == rows[-1]).to(part)
            weight = down[:, None] * across
            lines = slice(scaled(top), scaled(top) + len(down))
            cells = slice(scaled(left), scaled(left) + len(across))
            output[..., lines, cells] += part * weight
            total[lines, cells] += weight
    assert output is not None
    return output / total


def _starts(length: int, tile: int, every: int) -> list[int]:
    """Where tiles begin: evenly spread, the last at the end."""
    if length <= tile:
        return [0]
    overlap = int(tile * _OVERLAP)
    count = -(-(length - overlap) // (tile - overlap))
    return [round(index * (length - tile) / (count - 1) / every) * every for index in range(count)]


def _weights(length: int, first: bool, last: bool) -> Float[Tensor, " cell"]:
    """Nothing in the margins, then rising to 1 and falling again; 1 up to the borders of the picture."""
    margin, overlap = length * _MARGIN, length * _OVERLAP
    rise = ((torch.arange(length) + 0.5 - margin) / (overlap - 2 * margin)).clamp(0, 1)
    return (torch.ones(length) if first else rise) * (torch.ones(length) if last else rise.flip(0))
