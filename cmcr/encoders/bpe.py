"""CLIP's byte-pair tokenizer, as open_clip carries it: SLIP, and with it ULIP, was trained on the same tokens."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from cmcr.errors import MissingExtraError


@functools.cache
def bpe_tokenizer(purpose: str) -> Callable[[str, int], np.ndarray]:
    """Return a function from a text and a length to (length,) int64 tokens: start, text, end, zeros.

    A text that is too long loses its last tokens, not its end token, at which CLIP reads the text's feature. (SLIP's
    own copy cuts the end token off as well, so that all long texts get one vector: that of the start token.)

    Args:
        purpose: What needs it, for the message.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", purpose) from error
    tokenizer = SimpleTokenizer()

    def tokens(text: str, length: int) -> np.ndarray:
        found: np.ndarray = tokenizer([text], context_length=length)[0].numpy()
        return found

    return tokens
