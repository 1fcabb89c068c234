"""Words to embeddings: a CLIP tokenizer and text model."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from kinopaint.engine.denoiser import Text


class ClipText:
    """A text encoder with its weights frozen."""

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel) -> None:
        module: Any = model
        self.tokenizer, self.model = tokenizer, module.eval().requires_grad_(False)
        self.dim: int = model.config.hidden_size
        self.max_tokens: int = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self.masks_padding = bool(getattr(model.config, "use_attention_mask", False))

    def encode(self, texts: Sequence[str]) -> list[Text]:
        """The last layer's states of each text, normalised, in fp32; texts are padded to `max_tokens`.

        Warns (UserWarning) with the words that were cut off if a text is longer than that.
        """
        for text in texts:
            if cut := self.beyond_limit(text):
                warnings.warn(f"the text encoder reads {self.max_tokens} tokens; it will not see: {cut}", stacklevel=2)
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        mask = tokens.attention_mask if self.masks_padding else None
        with torch.no_grad():
            states: Tensor = self.model(tokens.input_ids, attention_mask=mask)[0]
        return [Text(each) for each in states.float()]

    def beyond_limit(self, text: str) -> str:
        """The end of `text` that the encoder cannot see; empty if all of it fits."""
        tokens = self.tokenizer(text, verbose=False).input_ids
        if len(tokens) <= self.max_tokens:
            return ""
        return str(self.tokenizer.decode(tokens[self.max_tokens - 1 : -1])).strip()
