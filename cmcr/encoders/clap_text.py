"""The text side of CLAP: where roberta-base's tokenizer lies, and its tokens; what else the Hub is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.encoders.hub import patient_hub
from cmcr.encoders.weights import look_for, weights_folder
from cmcr.errors import InputError, MissingExtraError
from cmcr.reading import reading, why

TOKENS = 77
VOCABULARY = 50_265
RULES = "text 1: roberta-base, cut at 77 and padded to it"
"""Named in fingerprints: change it with anything below that changes a vector."""

_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": VOCABULARY - 1}


def find_tokenizer(places: Sequence[Path]) -> Path:
    """Return the folder of roberta-base's tokenizer, without asking the network.

    Args:
        places: Files and folders to look in, before the weights folder and Hugging Face's cache.

    Raises:
        InputError: it is nowhere; the message says how to get it.
    """
    cached = (cached_folder(name) for name in ("FacebookAI/roberta-base", "roberta-base"))
    for folder in (look_for("roberta-base", places), *cached):
        if folder is not None and has_tokenizer(folder):
            return folder
    target = weights_folder() / "roberta-base"
    looked = ", ".join(str(place) for place in (*places, weights_folder()))
    raise InputError(
        f"texts need the folder roberta-base with vocab.json and merges.txt (looked in {looked}, Hugging Face's cache);"
        f" get it with: hf download FacebookAI/roberta-base vocab.json merges.txt --local-dir {target}"
    )


def has_tokenizer(folder: Path) -> bool:
    """Return whether ``folder`` holds the files of a tokenizer."""
    return (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in _FILES[1:3])


def cached_folder(repository: str) -> Path | None:
    """Return the folder of a model in Hugging Face's cache, or None; the network is not asked."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except FileNotFoundError:
        return None


def download(repository: str, weights: Sequence[str]) -> Path:
    """Fetch a model's settings, tokenizer and the first of ``weights`` that it has into Hugging Face's cache.

    Raises:
        InputError: it has none of ``weights``, or cannot be reached: there is no such model, no network, no permission
            (HF_HUB_OFFLINE), no space.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        with patient_hub():
            listed = {file.rfilename for file in HfApi().model_info(repository, timeout=10).siblings or ()}
            chosen = [name for name in weights if name in listed][:1]
            wanted = [*chosen, "config.json", "preprocessor_config.json", *_FILES]
            folder = Path(snapshot_download(repository, allow_patterns=wanted)) if chosen else None
    except Exception as error:  # of the hub, its transport, or the disk
        reason = why(error)
        if isinstance(error, ConnectionError):
            reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        raise InputError(
            f"{repository}: no such folder, not in Hugging Face's cache, and cannot be fetched ({reason});"
            f" elsewhere run: hf download {repository} --local-dir FOLDER, and use hf_clap:FOLDER"
        ) from error
    if folder is None:
        raise InputError(f"{repository}: holds no {' or '.join(weights)} on the Hub; expected a CLAP model")
    return folder


class RobertaTokens:
    """RoBERTa's tokenizer, loaded with the first text; safe to call from several threads.

    Args:
        find: Returns the folder of the tokenizer's files.
    """

    def __init__(self, find: Callable[[], Path]) -> None:
        self._find, self._lock = find, threading.Lock()
        self._tokenizer: Any = None

    def __call__(self, text: str) -> np.ndarray:
        """Return (2, ``TOKENS``) int64: ids and mask, cut at ``TOKENS`` and padded to it as in training.

        Raises:
            InputError: the tokenizer is missing, damaged, or not roberta-base's.
        """
        with self._lock:  # the tokenizer behind it refuses a second thread while it sets its padding
            if self._tokenizer is None:
                self._tokenizer = _load_tokenizer(self._find())
            found = self._tokenizer(text, padding="max_length", truncation=True, max_length=TOKENS)
        return np.array([found["input_ids"], found["attention_mask"]], np.int64)


def _load_tokenizer(folder: Path) -> Any:
    try:
        from transformers import RobertaTokenizer
    except ImportError:
        raise MissingExtraError("transformers", "hf-clap", "CLAP's text tower") from None
    with reading(folder, "put roberta-base's files there", InputError, "its tokenizer cannot be read"):
        tokenizer = RobertaTokenizer.from_pretrained(str(folder), local_files_only=True)
    # Without its files, transformers 5 builds a tokenizer of the five special tokens alone, and says nothing.
    ids = dict(zip(_SPECIAL, tokenizer.convert_tokens_to_ids(list(_SPECIAL)), strict=True))
    if len(tokenizer) != VOCABULARY or ids != _SPECIAL:
        raise InputError(
            f"{folder}: a tokenizer of {len(tokenizer)} tokens, not roberta-base's {VOCABULARY}; put its files there"
        )
    return tokenizer
