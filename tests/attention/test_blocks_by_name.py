"""Layers by the names of their blocks."""

import pytest
import torch

from kinopaint.attention.layers import in_blocks
from kinopaint.engine.interventions import AttentionCall, Site
from kinopaint.errors import SettingsError

KNOWN = [f"up_blocks.{block}.attentions.{layer}.attn1" for block in (1, 2, 3) for layer in (0, 1)]


@pytest.fixture
def chosen(step):
    """A function: the known layers that are chosen."""
    query = torch.zeros(1, 1, 1, 6, 2)
    calls = {path: AttentionCall(query, query, query, Site(path, False, 2, 3), step, ("words",)) for path in KNOWN}

    def choose(layers, **more):
        acts = in_blocks(layers, KNOWN, **more)
        return [path for path, call in calls.items() if acts(call)]

    return choose


def test_named_blocks_are_chosen_with_all_their_layers(chosen):
    assert chosen("up_blocks.1, up_blocks.3") == [*KNOWN[:2], *KNOWN[4:]]


def test_auto_takes_the_last_ones(chosen):
    assert chosen("auto") == KNOWN[2:]
    assert chosen("auto", last=1) == KNOWN[4:]


@pytest.mark.parametrize("layers", ["up_blocks.0", "up_blocks.1,mid_block", ""])
def test_blocks_that_are_not_known_are_refused(layers):
    with pytest.raises(SettingsError, match=r"it has some at up_blocks\.1, up_blocks\.2, up_blocks\.3") as caught:
        in_blocks(layers, KNOWN)
    assert caught.value.code == "KP-SETTING-LAYER"
