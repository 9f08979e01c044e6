"""``hf_clap:MODEL``: CLAP as Hugging Face's transformers runs it, with any numpy.

``MODEL`` is a folder as the Hub has it (``config.json``, ``model.safetensors``, the tokenizer), the Hub's own
``org/name``, or one of LAION's checkpoints, whose names are translated. With the same weights the vectors are those of
``laion_clap``. The input is computed by ``clap_audio``: transformers' own extractor cuts long sounds at random, and
where no sound of a batch is long it declares one at random to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from cmcr.devices import Precision
from cmcr.encoders import clap_audio, clap_text
from cmcr.encoders.clap_base import PREPROCESSING as SHARED
from cmcr.encoders.clap_base import ClapEncoder, fill_part, read_layout, refuse_strange
from cmcr.encoders.weights import find_weights, fingerprint, look_for, read_state
from cmcr.errors import ArtifactError, MissingExtraError
from cmcr.modality import Modality
from cmcr.reading import read_json, reading
from cmcr.schema import checked

PREPROCESSING = f"hf_clap, {SHARED}"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_PARTS = {
    Modality.AUDIO: ("audio_model.", "audio_projection."),
    Modality.TEXT: ("text_model.", "text_projection."),
}
_SCALES = ("logit_scale_a", "logit_scale_t")
# What clap_audio computes; frequency_min and frequency_max alone may differ from model to model.
_EXTRACTOR = {
    "sampling_rate": clap_audio.RATE,
    "fft_window_size": clap_audio.N_FFT,
    "hop_length": clap_audio.HOP,
    "feature_size": clap_audio.MELS,
    "max_length_s": clap_audio.WINDOW // clap_audio.RATE,
    "padding": "repeatpad",
    "top_db": None,
}
# LAION's names in transformers' terms, applied in this order.
_RENAMES = (
    (r"^audio_branch\.bn0\.", "audio_branch.batch_norm."),
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^text_branch\.", "text_model."),
    (r"_projection\.0\.", "_projection.linear1."),
    (r"_projection\.2\.", "_projection.linear2."),
    (r"(blocks\.\d+)\.norm1\.", r"\1.layernorm_before."),
    (r"(blocks\.\d+)\.norm2\.", r"\1.layernorm_after."),
    (r"(blocks\.\d+)\.attn\.relative_", r"\1.attention.self.relative_"),
    (r"(blocks\.\d+)\.attn\.proj\.", r"\1.attention.output.dense."),
    (r"(blocks\.\d+)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
)
# What transformers leaves out: the spectrogram, which is ours, the classifier, and the second heads of training.
_UNUSED = re.compile(
    r"audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv|head)\.|(audio|text)_transform\.|.*\.attn_mask$"
)


@dataclass(frozen=True, slots=True)
class _Model:
    """What a model's files hold.

    Attributes:
        source: Where they come from, for messages.
        config: A ``transformers.ClapConfig``.
        state: Names as ``transformers.ClapModel`` has them.
        low: Hertz where the mel bands begin.
        high: Hertz where they end.
        digest: The fingerprint.
    """

    source: str
    config: Any
    state: Mapping[str, Tensor]
    low: float
    high: float
    digest: str


class HfClapEncoder(ClapEncoder):
    """A CLAP model in transformers.

    Args:
        model: A folder, one of LAION's checkpoints (name or path), or ``org/name`` on the Hub, which is looked for in
            the weights folder (as ``name``), then in Hugging Face's cache, and then fetched, unless HF_HUB_OFFLINE is
            set.
        device: A torch device.
        precision: Of the matrix products.
        weights: Files and folders where model and tokenizer are looked for first.

    Raises:
        InputError: the model is nowhere, or cannot be fetched.
        ArtifactError: its files are damaged, or not a CLAP model's.
        MissingExtraError: transformers is not installed.
    """

    def __init__(
        self, model: str, *, device: str = "cpu", precision: Precision = "fp32", weights: Sequence[Path] = ()
    ) -> None:
        _library()
        path, named = _locate(model, weights)
        self._model = _read_folder(path) if path.is_dir() else _read_laion(path)
        config = self._model.config
        super().__init__(
            name=f"hf_clap:{named}",
            dim=config.projection_dim,
            fingerprint=self._model.digest,
            fusion=config.audio_config.enable_fusion,
            tokenizer=lambda: _find_tokenizer(path, weights),
            device=device,
            precision=precision,
        )
        self._filters = clap_audio.mel_filters("htk" if self.fusion else "slaney", self._model.low, self._model.high)

    def _features(self, samples: np.ndarray) -> np.ndarray:
        if self.fusion:
            return clap_audio.fusion_channels(samples, self._filters).numpy()
        return clap_audio.log_mel(clap_audio.fit_window(samples), self._filters)[None].numpy()

    def _build(self, modality: Modality) -> nn.Module:
        library, config = _library(), self._model.config
        if modality is Modality.AUDIO:
            tower: nn.Module = library.ClapAudioModelWithProjection(config.audio_config)
        else:
            tower = library.ClapTextModelWithProjection(config.text_config)
        return fill_part(tower, self._model.state, _PARTS[modality], self._model.source)

    def _run_audio(self, tower: Any, features: Tensor, longer: Tensor | None) -> Tensor:
        projected: Tensor = tower(input_features=features, is_longer=longer).audio_embeds
        return projected

    def _run_text(self, tower: Any, ids: Tensor, mask: Tensor) -> Tensor:
        projected: Tensor = tower(input_ids=ids, attention_mask=mask).text_embeds
        return projected


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a LAION checkpoint's tensors under the names that ``transformers.ClapModel`` has for them."""
    translated = {}
    for key, value in state.items():
        if _UNUSED.match(key):
            continue
        name = key
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                translated[name.replace(".attn.qkv.", f".attention.self.{part}.")] = third
        else:
            translated[name] = value
    return translated


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf-clap", "hf_clap") from None
    return transformers


def _locate(model: str, weights: Sequence[Path]) -> tuple[Path, str]:
    """Return the model's folder or file, and what its encoder is called: never a path, which others do not have."""
    hub = _HUB_NAME.fullmatch(model) and not Path(model).exists()
    if not hub:
        path = find_weights(model, weights, "CLAP model")
        return path, path.name or path.resolve().name
    found = look_for(model, weights) or clap_text.cached_folder(model)
    if found is None or (found.is_dir() and _weights_of(found) is None):
        found = clap_text.download(model, WEIGHTS)
    return found, model


def _weights_of(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _find_tokenizer(path: Path, weights: Sequence[Path]) -> Path:
    if path.is_dir() and clap_text.has_tokenizer(path):
        return path
    return clap_text.find_tokenizer((*weights, path.parent))


def _read_folder(folder: Path) -> _Model:
    config, extractor = _read_config(folder), _read_json(folder / "preprocessor_config.json")
    fusion = config.audio_config.enable_fusion
    expected = {**_EXTRACTOR, "truncation": "fusion" if fusion else "rand_trunc"}
    for name, value in expected.items():
        if extractor.get(name, value) != value:
            raise ArtifactError(
                f"{folder}/preprocessor_config.json: {name} is {extractor[name]!r}; only {value!r} is supported"
            )
    path = _weights_of(folder)
    if path is None:
        raise ArtifactError(f"{folder}: holds no {' or '.join(WEIGHTS)}; expected a CLAP model as the Hub has it")
    with reading(folder / "preprocessor_config.json", "fetch it anew"):
        low: float = checked(float, extractor.get("frequency_min", clap_audio.LOW), "frequency_min")
        high: float = checked(float, extractor.get("frequency_max", clap_audio.HIGH), "frequency_max")
        if not 0 <= low < high <= clap_audio.RATE / 2:
            raise ValueError(f"frequencies from {low:g} to {high:g} Hz")
    state = read_state(path)
    return _checked(str(path), config, state, state, low, high)


def _read_laion(path: Path) -> _Model:
    found = read_state(path)
    layout = read_layout(found, str(path))
    config = _library().ClapConfig(
        projection_dim=layout.dim,
        text_config=layout.text,
        audio_config={
            "patch_embeds_hidden_size": layout.width,
            "hidden_size": 8 * layout.width,
            "depths": list(layout.depths),
            "enable_fusion": layout.fusion,
            "fusion_type": "aff_2d" if layout.fusion else None,
        },
    )
    return _checked(str(path), config, found, translate(found), clap_audio.LOW, clap_audio.HIGH)


def _checked(
    source: str, config: Any, found: Mapping[str, Tensor], state: Mapping[str, Tensor], low: float, high: float
) -> _Model:
    refuse_strange(state, (*_PARTS[Modality.AUDIO], *_PARTS[Modality.TEXT], *_SCALES), source)
    about = f"{PREPROCESSING}; fusion {config.audio_config.enable_fusion}; {low:g} to {high:g} Hz"
    return _Model(source, config, state, low, high, fingerprint(found, about))


def _read_config(folder: Path) -> Any:
    raw = _read_json(folder / "config.json")
    if raw.get("model_type") != "clap":
        seen = f"model_type {raw['model_type']!r}" if "model_type" in raw else "no config.json with a model_type"
        raise ArtifactError(f"{folder}: has {seen}; expected a CLAP model as the Hub has it (model_type 'clap')")
    with reading(folder / "config.json", "fetch it anew", what="is not a CLAP configuration"):
        return _library().ClapConfig.from_dict(raw)


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if there is no such file."""
    with reading(path, "fetch it anew", what="is no JSON object"):
        found: dict[str, Any] = checked(dict[str, Any], read_json(path) if path.is_file() else {})
        return found
