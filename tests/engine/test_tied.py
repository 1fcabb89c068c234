"""A model tied to frames and a prompt."""

from dataclasses import replace

import torch

from kinopaint.engine.components import PicturePrompt
from kinopaint.engine.denoiser import Condition, Text
from kinopaint.engine.tied import both_seeing, encode_prompt, tied_to
from kinopaint.types import Prompt


class Seen:
    latent_channels, image_channels = 4, 0

    def predict(self, latents, step, conditions, **more):
        self.conditions = conditions
        return torch.stack([latents for _ in conditions])


class Edges:
    def channels(self, frames, autoencoder):
        return frames[:, :1, ::8, ::8]

    def hints(self, frames):
        return (frames / 2 + 0.5,)


def test_every_branch_sees_the_structure_of_the_frames(parts, frames, step):
    backbone = Seen()
    tied = tied_to(frames, replace(parts, backbone=backbone, structure=Edges()))
    text = Text(torch.zeros(2, 3))
    tied.backbone.predict(torch.zeros(3, 4, 4, 6), step, [Condition("nothing", text), Condition("style", text)])
    for condition in backbone.conditions:
        assert torch.equal(condition.structure, frames[:, :1, ::8, ::8])
        assert torch.equal(condition.hints[0], frames / 2 + 0.5)


def test_a_model_without_structure_stays_itself(parts, frames):
    assert tied_to(frames, parts) is parts


def test_picture_prompts_go_with_the_words(parts):
    picture = PicturePrompt(torch.ones(4, 32), torch.zeros(4, 32))
    nothing, words = encode_prompt(Prompt("oil"), replace(parts, picture_prompts=(picture,)))
    assert torch.equal(nothing.pictures[0], picture.nothing)
    assert torch.equal(words.pictures[0], picture.tokens)
    assert not torch.equal(nothing.states, words.states)


def test_both_branches_see_the_frame_if_there_is_a_slot_for_it(parts, frames):
    source, text = torch.zeros(3, 4, 4, 6), Text(torch.zeros(2, 3))
    assert [told.image is source for told in both_seeing(source, text, text, parts)] == [True, True]
    blind = replace(parts, backbone=Seen())
    assert [told.image for told in both_seeing(source, text, text, blind)] == [None, None]
