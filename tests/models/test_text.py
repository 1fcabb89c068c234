import warnings

import pytest
import torch


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
