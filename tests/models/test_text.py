import gc
import warnings
import weakref

import pytest
import torch

from kinopaint.engine.run import stylize_windows
from kinopaint.methods import StyleAVideo
from kinopaint.models import load_model
from kinopaint.types import Clip, Prompt


def test_states_equal_those_of_the_text_model(parts):
    encoder = parts.text_encoder
    tokens = encoder.tokenizer(["oil", ""], padding="max_length", max_length=16, return_tensors="pt").input_ids
    states = torch.stack([text.states for text in encoder.encode(["oil", ""])])
    assert torch.equal(states, encoder.model(tokens).last_hidden_state)


def test_what_is_cut_off_is_said(parts):
    encoder = parts.text_encoder
    words = "oil " * 5000 + "sky"
    assert encoder.beyond_limit("oil") == ""
    assert encoder.beyond_limit(words).endswith("sky")
    with pytest.warns(UserWarning, match=r"reads 16 tokens; it will not see: oil oil .* \(\d+ characters\)"):
        assert encoder.encode([words])[0].states.shape == (16, 32)


def test_a_text_that_fits_warns_of_nothing(parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts.text_encoder.encode(["a " * 14])


def test_a_resting_text_encoder_is_freed_and_read_again(broken):
    """As long as it is what was read: with a LoRA in it, it stays."""
    encoder = load_model(broken, device="cpu").text_encoder
    said, network = encoder.encode(["oil"])[0].states, weakref.ref(encoder.model)
    weight = weakref.ref(next(encoder.model.parameters()))
    encoder.rest()
    gc.collect()
    assert network() is None
    assert weight() is None
    assert encoder.beyond_limit("oil") == ""
    assert torch.equal(encoder.encode(["oil"])[0].states, said)
    encoder.stay()
    kept = encoder.model
    encoder.rest()
    assert encoder.model is kept


def test_a_frugal_run_lets_the_text_encoder_go(broken):
    parts = load_model(broken, device="cpu")
    network = weakref.ref(parts.text_encoder.model)
    method, alive = StyleAVideo(num_inference_steps=1), []
    for frugal in (False, True):
        with torch.no_grad():
            for _ in stylize_windows(
                method, [torch.rand(3, 32, 48)], Clip(32, 48, 1), Prompt("a"), parts, frugal=frugal
            ):
                gc.collect()
                alive.append(network() is not None)
    assert alive == [True, False]
