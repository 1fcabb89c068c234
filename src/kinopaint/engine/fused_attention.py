"""Attention itself, softmax(query · keyᵀ / √channel) · value, by the quickest way that this machine has."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_SCORES = 2**20  # numbers of one block of explicit scores: 2 MB in half precision, what a core's cache can hold


def _has_matrix_tiles() -> bool:
    """Whether the processor multiplies bfloat16 in tiles (AMX), which torch's fused kernel makes use of."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


_EXPLICIT = not _has_matrix_tiles()


def fused_attention(
    query: Float[Tensor, "branch frame head query channel"],
    key: Float[Tensor, "branch frame head token channel"],
    value: Float[Tensor, "branch frame head token channel"],
) -> Float[Tensor, "branch frame head query channel"]:
    """Attention of every branch and frame to its own keys.

    Keys that are expanded along the frames, such as those of a text, stay one copy: the queries of all frames are
    read as one long row. In bfloat16 on a CPU without AMX the products are taken explicitly, block by block: torch's
    fused kernel converts to fp32 there and takes twice as long (2.13, AVX-512); with AMX it is 1.5 times as quick.
    """
    frames = query.shape[1]
    if frames > 1 and key.stride(1) == 0 and value.stride(1) == 0:
        together = query.transpose(1, 2).flatten(2, 3)  # branch head (frame query) channel
        result = _attention(together, key[:, 0], value[:, 0])
        return result.view(*result.shape[:2], frames, -1, result.shape[-1]).transpose(1, 2)
    flat = _attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))  # kernels want 4 axes
    return flat.view(*query.shape[:2], *flat.shape[1:])


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    explicit = _EXPLICIT and query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not explicit or torch.is_grad_enabled():
        result: Tensor = F.scaled_dot_product_attention(query, key, value)
        return result
    rows, tokens = query.shape[-2], key.shape[-2]
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (query, key, value))  # (sample head) token channel
    scale, unused = query.shape[-1] ** -0.5, query.new_empty(1)
    output = queries.new_empty(len(queries), rows, value.shape[-1])
    heads = max(1, _SCORES // (rows * tokens))
    share = rows if heads > 1 else max(1, _SCORES // tokens)
    for first in range(0, len(queries), heads):
        some = slice(first, first + heads)
        for begin in range(0, rows, share):
            part = slice(begin, begin + share)
            scores = torch.baddbmm(unused, queries[some, part], keys[some].transpose(1, 2), beta=0, alpha=scale)
            torch.bmm(scores.softmax(-1), values[some], out=output[some, part])
    return output.view(*query.shape[:-1], -1)
