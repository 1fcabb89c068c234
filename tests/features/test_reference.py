"""What one prediction leaves behind."""

import torch
from tests.checkpoints import with_channels, write_controlnet

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.features.reference import recorded
from kinopaint.models import load_model
from kinopaint.types import Prompt


def test_the_decoder_is_recorded_branch_by_branch(parts, step):
    nothing, words = encode_prompt(Prompt("oil"), parts)
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = recorded(parts.backbone, latents, step, [Condition("nothing", nothing), Condition("words", words)])
        alone = recorded(parts.backbone, latents, step, [Condition("words", words)])
    projections, maps = both
    assert set(maps.maps) == {f"up_blocks.{block}" for block in range(4)}
    assert all(path.startswith("up_blocks") and path.endswith("attn1") for path in projections.queries)
    assert projections.queries.keys() == projections.keys.keys()
    assert len(projections.queries) == 6  # three blocks with attention, of two layers
    for path, seen in alone[1].maps.items():
        assert torch.allclose(maps.maps[path][1:], seen, atol=1e-5)
    for path, seen in alone[0].queries.items():
        assert torch.allclose(projections.queries[path][1:], seen, atol=1e-5)


def test_controlnets_are_left_out(model_folders, tmp_path, frames, step):
    plain = with_channels(model_folders["epsilon"], tmp_path / "model", 4)
    folder = write_controlnet(plain, tmp_path / "tile", 0)
    parts = load_model(plain, device="cpu", dtype="float32", controlnet=f"{folder}")
    calls = []
    parts.backbone.controls[0].network.register_forward_hook(lambda module, given, output: calls.append(1))
    nothing, _ = encode_prompt(Prompt("oil"), parts)
    with torch.no_grad():
        recorded(tied_to(frames, parts).backbone, torch.randn(3, 4, 4, 6), step, [Condition("nothing", nothing)])
    assert not calls
