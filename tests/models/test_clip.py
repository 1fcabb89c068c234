"""Pairs of encoders: tiny CLIPs made here, compared with transformers used directly."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.conftest import write_tokenizer

from kinopaint.errors import ModelError
from kinopaint.metrics.encoder import PairEncoder
from kinopaint.models.clip import has_pair, load_clip

TEXTS = ["an oil painting", "a watercolor", "a"]


def vision_config(projection_dim):
    from transformers import CLIPVisionConfig

    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=projection_dim,
    )


def write_processor(folder):
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 32},
                "crop_size": {"height": 32, "width": 32},
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.2, 0.25, 0.3],
            }
        )
    )


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A CLIP in transformers layout."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

    folder = tmp_path_factory.mktemp("clips") / "clip"
    size = write_tokenizer(folder, 16)
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    parts = {"text_config": text.to_dict(), "vision_config": vision_config(24).to_dict()}
    CLIPModel(CLIPConfig(**parts, projection_dim=24)).save_pretrained(folder)
    write_processor(folder)
    return folder


@pytest.fixture(scope="session")
def towers(model_folder, tmp_path_factory):
    """A model folder in diffusers layout with an image encoder that meets the pooled text."""
    from transformers import CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("towers") / "model"
    shutil.copytree(model_folder, folder)
    torch.manual_seed(1)
    CLIPVisionModelWithProjection(vision_config(32)).save_pretrained(folder / "image_encoder")
    write_processor(folder / "image_encoder")
    return folder


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, np.uint8) for size in ((40, 64, 3), (64, 40, 3), (32, 32, 3))]


def processed(folder, pictures):
    import transformers

    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    return kind.from_pretrained(folder)(images=pictures, return_tensors="pt").pixel_values


def test_a_clip_folder_agrees_with_transformers(clip_folder, pictures):
    from transformers import CLIPModel, CLIPTokenizer

    pair = load_clip(clip_folder)
    assert isinstance(pair, PairEncoder)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    tokens = CLIPTokenizer.from_pretrained(clip_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        whole = model(pixel_values=processed(clip_folder, pictures), **tokens)
    embedded = pair.embed_pictures(pictures)
    ours = embedded.pooled @ pair.embed_texts(TEXTS).T
    theirs = whole.logits_per_image / model.logit_scale.exp()
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert embedded.tokens.shape == (3, 16, 32)
    states = whole.vision_model_output.last_hidden_state[:, 1:]
    assert torch.allclose(embedded.tokens, states, atol=1e-5)


def test_the_towers_of_a_model_folder_agree_with_transformers(towers, pictures):
    from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

    pair = load_clip(towers)
    vision = CLIPVisionModelWithProjection.from_pretrained(towers / "image_encoder").eval()
    text = CLIPTextModel.from_pretrained(towers / "text_encoder").eval()
    tokens = CLIPTokenizer.from_pretrained(towers / "tokenizer")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        v = vision(processed(towers / "image_encoder", pictures)).image_embeds
        e = text(**tokens).pooler_output
    cosines = torch.nn.functional.cosine_similarity(v[:, None], e[None], dim=-1)
    assert torch.allclose(pair.embed_pictures(pictures).pooled @ pair.embed_texts(TEXTS).T, cosines, atol=1e-5)


def test_the_embedded_pair_says_that_it_is_our_own(towers, clip_folder, monkeypatch):
    monkeypatch.setattr("kinopaint.models.mini_path", lambda: towers)
    assert load_clip("mini").own
    assert not load_clip(towers).own
    assert not load_clip(clip_folder).own


def test_towers_that_do_not_meet_are_refused(towers, tmp_path):
    from transformers import CLIPVisionModelWithProjection

    folder = shutil.copytree(towers, tmp_path / "model")
    CLIPVisionModelWithProjection(vision_config(24)).save_pretrained(folder / "image_encoder")
    with pytest.raises(ModelError, match="32 numbers, the image encoder 24"):
        load_clip(folder)


def test_a_model_without_image_encoder_is_refused_with_the_way_out(model_folder):
    assert not has_pair(model_folder)
    with pytest.raises(ModelError, match="no image_encoder") as raised:
        load_clip(model_folder)
    assert raised.value.code == "KP-MODEL-NO-IMAGE-ENCODER"
    assert "--clip" in raised.value.fix


def test_other_kinds_and_pickles_are_refused(clip_folder, tmp_path):
    other = shutil.copytree(clip_folder, tmp_path / "siglip")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    with pytest.raises(ModelError, match="siglip"):
        load_clip(other)
    pickled = shutil.copytree(clip_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        load_clip(pickled)


def test_a_hub_id_that_is_not_cached_does_not_reach_for_the_network():
    with pytest.raises(ModelError, match="local cache") as raised:
        load_clip("nobody/no-such-clip")
    assert raised.value.code == "KP-MODEL-NOT-CACHED"


def test_a_long_text_is_cut_with_a_warning(clip_folder):
    with pytest.warns(UserWarning, match="first 16 tokens"):
        assert load_clip(clip_folder).embed_texts(["many words " * 20]).shape == (1, 24)
