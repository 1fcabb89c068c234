"""`compile`: the same results up to rounding, and a clear error where nothing compiles."""

import pytest
import torch

import kinopaint
from kinopaint.engine.denoiser import Condition
from kinopaint.errors import SettingsError
from kinopaint.models import compiling
from kinopaint.models.layers import TransformerBlock


def compiler_found() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


@pytest.mark.skipif(not compiler_found(), reason="no C++ compiler on this machine")
@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_blocks_give_the_same_and_stay_open_to_interventions(model_folder):
    plain, compiled = (kinopaint.load_model(model_folder, dtype="float32", compile=each) for each in (False, True))
    blocks = [module for module in compiled.backbone.unet.modules() if type(module) is TransformerBlock]
    assert blocks
    assert all(block._compiled_call_impl is not None for block in blocks)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sites: list[str] = []

    def watch(call, proceed):
        sites.append(call.site.path)
        return proceed(call) * 0.5

    with torch.no_grad():
        step = plain.schedule.steps(2)[0]
        condition = Condition("text", plain.text_encoder.encode(["oil"])[0], image=latents)
        expected, watched, found = (
            parts.backbone.predict(latents, step, [condition], interventions=interventions)
            for parts, interventions in ((plain, []), (plain, [watch]), (compiled, [watch]))
        )
    assert (watched - found).abs().max() <= 1e-5 * watched.abs().max()
    assert (watched - expected).abs().max() > 1e-3 * expected.abs().max()
    assert sites[: len(sites) // 2] == sites[len(sites) // 2 :]


def test_without_a_compiler_the_error_says_what_to_do(model_folder, monkeypatch):
    def none_here(function):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(compiling.torch, "compile", none_here)
    with pytest.raises(SettingsError, match="No working C\\+\\+ compiler found") as caught:
        kinopaint.load_model(model_folder, compile=True)
    assert caught.value.code == "KP-SETTING-COMPILE"
    assert "g++" in caught.value.fix
