import pytest
import torch
import torch.nn.functional as F

from kinopaint.engine import fused_attention as module
from kinopaint.engine.fused_attention import fused_attention


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 4, count, 8, generator=generator) for count in (7, 5, 5)]


@pytest.mark.parametrize("scores", [1, 8, 40, 2**20, None])
def test_half_precision_in_blocks_is_attention(tensors, scores, monkeypatch):
    """Blocks of some rows, of one head, of several heads, everything at once, and torch's own kernel."""
    monkeypatch.setattr(module, "_EXPLICIT", scores is not None)
    monkeypatch.setattr(module, "_SCORES", scores)
    query, key, value = (tensor.bfloat16() for tensor in tensors)
    with torch.no_grad():
        found = fused_attention(query, key, value)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    assert torch.allclose(found.float(), expected, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keys_expanded_over_frames_stay_one_copy(tensors, dtype, monkeypatch):
    query, key, value = (tensor.to(dtype) for tensor in tensors)
    one = [tensor[:, :1].expand(-1, 3, -1, -1, -1) for tensor in (key, value)]
    lengths = []
    inner = module._attention
    monkeypatch.setattr(module, "_attention", lambda q, k, v: lengths.append(q.shape[2]) or inner(q, k, v))
    with torch.no_grad():
        together = fused_attention(query, *one)
        apart = fused_attention(query, *(tensor.contiguous() for tensor in one))
    assert lengths == [21, 7]
    assert torch.allclose(together.float(), apart.float(), atol=1e-5 if dtype == torch.float32 else 0.03)
