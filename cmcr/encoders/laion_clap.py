"""``laion_clap:MODEL/FILE``: LAION's official CLAP checkpoints, run by LAION's own HTSAT.

Source: LAION-AI/CLAP (the package laion-clap, CC0): architecture, names in the checkpoints, input of either model. What
is done otherwise than there: nothing is downloaded, the checkpoint is read without running it, sounds are cut at fixed
places (``clap_audio``), and of the two towers only the one that is needed is built.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmcr.devices import Precision
from cmcr.encoders import clap_audio, clap_text
from cmcr.encoders.clap_base import PREPROCESSING as SHARED
from cmcr.encoders.clap_base import Architecture, ClapEncoder, fill_part, read_layout, refuse_strange
from cmcr.encoders.weights import find_weights, fingerprint, read_state
from cmcr.errors import ArtifactError, InputError, MissingExtraError, nearest
from cmcr.modality import Modality

WIDTHS = {"HTSAT-tiny": 96, "HTSAT-base": 128}
"""Channels of the patches, by which the sizes are told apart."""
MODELS = tuple(size + fusion for size in WIDTHS for fusion in ("", "-fusion"))
PREPROCESSING = f"laion_clap, {SHARED}"

_PARTS = {
    Modality.AUDIO: ("audio_branch.", "audio_projection."),
    Modality.TEXT: ("text_branch.", "text_projection."),
}
_UNUSED = ("audio_transform.", "text_transform.", "logit_scale_a", "logit_scale_t")
_IMPORTING = threading.Lock()


class LaionClapEncoder(ClapEncoder):
    """An official LAION-CLAP checkpoint.

    Args:
        model: ``MODEL/FILE``: one of ``MODELS``, and the checkpoint's name or path.
        device: A torch device.
        precision: Of the matrix products; spectrograms and fusion stay float32.
        weights: Files and folders where checkpoint and tokenizer are looked for first.

    Raises:
        InputError: the model is unknown, or its file is nowhere.
        ArtifactError: the file is damaged, or a checkpoint of another model.
        MissingExtraError: laion-clap is not installed.
    """

    def __init__(
        self, model: str, *, device: str = "cpu", precision: Precision = "fp32", weights: Sequence[Path] = ()
    ) -> None:
        kind, _, file = model.partition("/")
        if kind not in MODELS or not file:
            raise InputError(
                f"unknown model {model!r} of laion_clap; expected MODEL/FILE, such as"
                f" HTSAT-tiny-fusion/630k-fusion-best.pt, MODEL one of {', '.join(MODELS)}{nearest(kind, MODELS)}"
            )
        if importlib.util.find_spec("laion_clap") is None:
            raise MissingExtraError("laion-clap", "clap", "laion_clap (hf_clap reads the same files without it)")
        path = find_weights(file, weights)
        self._source, self._state = str(path), read_state(path)
        self._layout = read_layout(self._state, self._source)
        _check(self._state, self._layout, kind, self._source)
        super().__init__(
            name=f"laion_clap:{kind}/{path.name}",
            dim=self._layout.dim,
            fingerprint=fingerprint(self._state, PREPROCESSING),
            fusion=self._layout.fusion,
            tokenizer=lambda: clap_text.find_tokenizer((*weights, path.parent)),
            device=device,
            precision=precision,
        )
        self._filters = clap_audio.mel_filters("htk")

    def _features(self, samples: np.ndarray) -> np.ndarray:
        if self.fusion:
            return clap_audio.fusion_channels(samples, self._filters).numpy()
        return clap_audio.fit_window(samples)  # this model computes its spectrogram itself

    def _build(self, modality: Modality) -> nn.Module:
        build = self._build_audio if modality is Modality.AUDIO else self._build_text
        return fill_part(nn.ModuleDict(build()), self._state, _PARTS[modality], self._source)

    def _build_audio(self) -> dict[str, nn.Module]:
        library = _library()
        size = {width: name for name, width in WIDTHS.items()}[self._layout.width]
        config = library.CLAPAudioCfp(
            model_type="HTSAT",
            model_name=size.removeprefix("HTSAT-"),
            sample_rate=clap_audio.RATE,
            window_size=clap_audio.N_FFT,
            hop_size=clap_audio.HOP,
            fmin=int(clap_audio.LOW),
            fmax=int(clap_audio.HIGH),
            mel_bins=clap_audio.MELS,
            clip_samples=clap_audio.WINDOW,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)  # the library does not name the order
            branch = library.create_htsat_model(config, self.fusion, "aff_2d" if self.fusion else "None")
        # In half precision the spectrogram is noise, and the fusion writes float32 into a half-precision map.
        for part in (branch.spectrogram_extractor, branch.logmel_extractor, branch.patch_embed):
            part.forward = torch.autocast(self._device, enabled=False)(part.forward)
        return {"audio_branch": branch, "audio_projection": _projection(8 * self._layout.width, self.dim)}

    def _build_text(self) -> dict[str, nn.Module]:
        from transformers import RobertaConfig, RobertaModel

        branch = RobertaModel(RobertaConfig(**self._layout.text))
        return {"text_branch": branch, "text_projection": _projection(self._layout.text["hidden_size"], self.dim)}

    def _run_audio(self, tower: Any, features: Tensor, longer: Tensor | None) -> Tensor:
        heard = {"waveform": features} if longer is None else {"mel_fusion": features, "longer": longer}
        projected: Tensor = tower["audio_projection"](tower["audio_branch"](heard, device=self._device)["embedding"])
        return projected

    def _run_text(self, tower: Any, ids: Tensor, mask: Tensor) -> Tensor:
        read = tower["text_branch"](input_ids=ids, attention_mask=mask).pooler_output
        projected: Tensor = tower["text_projection"](read)
        return projected


def _projection(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))


def _check(state: Mapping[str, Tensor], layout: Architecture, kind: str, source: str) -> None:
    """Refuse a checkpoint of another model, and one that holds more than a CLAP model."""
    size = next((name for name, width in WIDTHS.items() if width == layout.width), None)
    seen = f"{size or f'an HTSAT of width {layout.width}'}{'-fusion' if layout.fusion else ''}"
    if seen != kind:
        cure = f"; use laion_clap:{seen}/{Path(source).name}" if size else f", which is none of {', '.join(MODELS)}"
        raise ArtifactError(f"{source}: is not {kind}: it looks like {seen}{cure}")
    refuse_strange(state, (*_PARTS[Modality.AUDIO], *_PARTS[Modality.TEXT], *_UNUSED), source)


def _library() -> ModuleType:
    """Return LAION's model code.

    It is imported by itself, from where the package laion_clap has it: importing laion_clap whole asks the network for
    three tokenizers, for minutes if there is none. Like laion_clap we import it as ``clap_module``, which is how its
    parts know each other; unlike it we leave ``sys.path`` as it was, where it would hide the packages ``training`` and
    ``evaluate`` of others.
    """
    spec = importlib.util.find_spec("laion_clap")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("laion-clap", "clap", "laion_clap")
    folder = spec.submodule_search_locations[0]
    with _IMPORTING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Importing from timm.models.layers", FutureWarning)
        sys.path.append(folder)
        try:
            return importlib.import_module("clap_module.model")
        finally:
            sys.path.remove(folder)
