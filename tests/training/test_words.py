"""Captions: names as the contract spells them, and wordings that are kept for judging."""

import numpy as np
import pytest
from training.words import MEDIA, MOODS, TRAINED, caption, held_out_phrases, train_phrases


def test_there_are_36_media_and_12_moods():
    assert (len(MEDIA), len(MOODS)) == (36, 12)
    assert set(TRAINED) <= set(MEDIA)


@pytest.mark.parametrize("medium", MEDIA)
def test_held_out_wordings_are_never_trained(medium):
    assert len(MEDIA[medium]) >= 12
    assert held_out_phrases(medium)
    assert not set(held_out_phrases(medium)) & set(train_phrases(medium))


def test_captions_carry_the_phrase_and_repeat_with_the_seed():
    texts = [caption("gouache", np.random.default_rng(seed), typos=0) for seed in range(50)]
    assert all("gouache" in text.lower() for text in texts)
    assert texts == [caption("gouache", np.random.default_rng(seed), typos=0) for seed in range(50)]
    assert len(set(texts)) > 10
