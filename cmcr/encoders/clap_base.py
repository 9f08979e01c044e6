"""CLAP whatever library runs it: the layout of LAION's checkpoints, and one encoder around two towers."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmcr.decode.sounds import read_audio
from cmcr.devices import Precision, inference
from cmcr.encoders import clap_audio, clap_text
from cmcr.encoders.base import text_of
from cmcr.encoders.weights import block_count, fill
from cmcr.errors import ArtifactError
from cmcr.items import Item
from cmcr.modality import Modality

PREPROCESSING = f"{clap_audio.RULES}; {clap_text.RULES}"

_CACHED = 4  # sounds at a time on a processor: with more, HTSAT waits for memory (16: a quarter slower) and fills it
_CONSTANTS = ("position_ids", "token_type_ids", "relative_position_index", "attn_mask")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The architecture that a LAION checkpoint holds, read from its names and shapes.

    Attributes:
        width: Channels of HTSAT's patches: 96 is tiny, 128 base, 256 large.
        depths: Blocks of HTSAT's stages.
        fusion: Whether it was trained with feature fusion.
        dim: Components of a vector.
        text: Sizes of its RoBERTa, as a transformers configuration takes them.
    """

    width: int
    depths: tuple[int, ...]
    fusion: bool
    dim: int
    text: dict[str, Any]


def read_layout(state: Mapping[str, Tensor], source: str) -> Architecture:
    """Return the architecture of a LAION checkpoint.

    Raises:
        ArtifactError: not HTSAT with RoBERTa in LAION's layout; the message says what it looks like.
    """
    patches, words = "audio_branch.patch_embed.proj.weight", "text_branch.embeddings.word_embeddings.weight"
    layer = "text_branch.encoder.layer"
    needed = (patches, words, f"{layer}.0.intermediate.dense.weight", "audio_projection.2.weight")
    if missing := [key for key in needed if key not in state]:
        cure = "expected LAION's HTSAT with RoBERTa"
        if any(key.startswith("audio_model.") for key in state):
            cure = "it looks like a Hugging Face model: use hf_clap:FOLDER, the folder that holds its config.json"
        raise ArtifactError(f"{source}: has no {missing[0]}; {cure}")
    width = state[words].shape[1]
    return Architecture(
        width=state[patches].shape[0],
        depths=tuple(block_count(state, f"audio_branch.layers.{stage}.blocks.") for stage in range(4)),
        fusion=any(key.startswith("audio_branch.patch_embed.fusion_model.") for key in state),
        dim=state["audio_projection.2.weight"].shape[0],
        text={
            "vocab_size": clap_text.VOCABULARY,
            "hidden_size": width,
            "num_attention_heads": max(1, width // 64),
            "num_hidden_layers": block_count(state, f"{layer}."),
            "intermediate_size": state[needed[2]].shape[0],
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
    )


def fill_part(tower: nn.Module, state: Mapping[str, Tensor], begins: tuple[str, ...], source: str) -> nn.Module:
    """Return the tower with the tensors whose names begin so; files of some versions hold its constants, others not.

    Raises:
        ArtifactError: as ``fill``.
    """
    part = {key: value for key, value in state.items() if key.startswith(begins)}
    fill(tower, part, source, optional=[key for key in (*part, *tower.state_dict()) if key.endswith(_CONSTANTS)])
    return tower


def refuse_strange(state: Mapping[str, Tensor], known: tuple[str, ...], source: str) -> None:
    """Raise ArtifactError where a checkpoint holds more than a CLAP model, whose names begin as ``known`` says."""
    if strange := sorted(key for key in state if not key.startswith(known)):
        raise ArtifactError(f"{source}: holds {len(strange)} names unknown to CLAP ({strange[0]} ...); check the file")


class ClapEncoder(abc.ABC):
    """One CLAP model as an ``Encoder``: what does not depend on the library that runs it.

    Args:
        name: How users name it.
        dim: Components of a vector.
        fingerprint: Over weights and preprocessing.
        fusion: Whether it takes fusion channels.
        tokenizer: Returns the folder of its tokenizer; called with the first text.
        device: A torch device.
        precision: Of the matrix products.
    """

    modalities = (Modality.AUDIO, Modality.TEXT)

    def __init__(
        self,
        name: str,
        dim: int,
        fingerprint: str,
        fusion: bool,
        tokenizer: Callable[[], Path],
        device: str,
        precision: Precision,
    ) -> None:
        self.name, self.dim, self.fingerprint, self.fusion = name, dim, fingerprint, fusion
        self._tokens = clap_text.RobertaTokens(tokenizer)
        self._device, self._precision = device, precision
        self._towers: dict[Modality, Any] = {}

    @abc.abstractmethod
    def _features(self, samples: np.ndarray) -> np.ndarray:
        """Return what the audio tower takes of (n,) quantised samples; a fusion model's channels, 1 or 4."""

    @abc.abstractmethod
    def _build(self, modality: Modality) -> nn.Module:
        """Return one tower, filled."""

    @abc.abstractmethod
    def _run_audio(self, tower: Any, features: Tensor, longer: Tensor | None) -> Tensor:
        """Return (N, dim) of (N, ...) features; ``longer`` (N,) says of a fusion model's whose channels differ."""

    @abc.abstractmethod
    def _run_text(self, tower: Any, ids: Tensor, mask: Tensor) -> Tensor:
        """Return (N, dim) of (N, ``TOKENS``) ids and mask."""

    def prepare(self, item: Item, data: bytes) -> np.ndarray:
        """Decode a sound into features, or a text into tokens; see ``Encoder.prepare``.

        Raises:
            ItemError: not a sound; an empty text, or one that is not UTF-8.
            InputError: the tokenizer's files are missing or not roberta-base's.
        """
        if item.modality is Modality.AUDIO:
            return self._features(clap_audio.quantise(read_audio(data, clap_audio.RATE)))
        return self._tokens(text_of(data))

    def encode(self, modality: Modality, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Embed what ``prepare`` returned; see ``Encoder.encode``. The first call for a modality builds its tower."""
        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        tower, step = self._tower(modality), len(prepared)
        if modality is Modality.AUDIO and self._device == "cpu":
            step = _CACHED
        with inference(self._device, self._precision):
            run = self._text_vectors if modality is Modality.TEXT else self._audio_vectors
            parts = [run(tower, prepared[start : start + step]) for start in range(0, len(prepared), step)]
            unit: np.ndarray = nn.functional.normalize(torch.cat(parts).float(), dim=-1).cpu().numpy()
        return unit

    def _text_vectors(self, tower: Any, prepared: Sequence[np.ndarray]) -> Tensor:
        ids, mask = torch.from_numpy(np.stack(prepared)).to(self._device).unbind(1)
        return self._run_text(tower, ids, mask)

    def _audio_vectors(self, tower: Any, prepared: Sequence[np.ndarray]) -> Tensor:
        longer = None
        if self.fusion:
            longer = torch.tensor([len(channels) > 1 for channels in prepared], device=self._device)
            prepared = [np.broadcast_to(channels, (4, *channels.shape[1:])) for channels in prepared]
        return self._run_audio(tower, torch.from_numpy(np.stack(prepared)).to(self._device), longer)

    def _tower(self, modality: Modality) -> Any:
        if modality not in self._towers:
            with torch.random.fork_rng(devices=[]):  # building draws first values from the user's random state
                tower = self._build(modality)
            self._towers[modality] = tower.eval().to(self._device)
        return self._towers[modality]
