"""Random CLAP checkpoints in the layouts of their publishers, and a tokenizer as large as roberta-base's.

The names and shapes are written down here and not taken from a model, so that a loader is tested against the layout
and not against itself; where laion-clap is installed a test loads them into the library's own model. The values are
random, but large enough that different inputs get clearly different vectors.
"""

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch

SIZES = {"HTSAT-tiny": (96, (2, 2, 6, 2)), "HTSAT-base": (128, (2, 2, 12, 2))}
SMALL = (32, (2, 2, 2, 2))
"""Width and depths of an HTSAT that exists nowhere, for what does not need laion-clap."""
HEADS = (4, 8, 16, 32)
VOCABULARY = 50_265


def laion_state(
    size=SMALL, *, fusion=False, text_layers=2, text_width=64, position_ids=True, dim=512, seed=0
) -> dict[str, torch.Tensor]:
    """Return the tensors of a LAION checkpoint by their names (without ``module.``).

    ``size`` is a name of ``SIZES`` or (width, depths). The true RoBERTa has ``text_layers=12, text_width=768``.
    """
    width, depths = SIZES.get(size, size) if isinstance(size, str) else size
    rng = torch.Generator().manual_seed(seed)
    state = _htsat(width, depths, fusion, rng)
    state |= _projections("audio", 8 * width, dim, rng)
    state |= _roberta(text_width, text_layers, rng)
    state |= _projections("text", text_width, dim, rng)
    state |= {f"logit_scale_{side}": torch.tensor(float(np.log(1 / 0.07))) for side in "at"}
    if position_ids:
        state["text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    return state


def write_laion(path: Path, size=SMALL, *, module=True, wrapped=True, **settings) -> Path:
    """Write a checkpoint as LAION's trainer does: under ``state_dict``, each name behind ``module.``."""
    state = laion_state(size, **settings)
    if module:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 45, "name": "clap", "optimizer": {}, "state_dict": state} if wrapped else state, path)
    return path


def write_tokenizer(folder: Path) -> Path:
    """Write ``vocab.json`` and ``merges.txt`` of a byte-level BPE with as many tokens as roberta-base has.

    Its merges join any two letters, so that different words get different tokens.
    """
    letters = _byte_letters()
    usual = [letter for letter in letters if letter.isascii() and letter.isalpha()]
    ordered = usual + [letter for letter in letters if letter not in usual and letter != "#"]
    pairs = list(product(ordered, ordered))[: VOCABULARY - len(letters) - 5]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, *(left + right for left, right in pairs), "<mask>"]
    assert len(set(tokens)) == VOCABULARY
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(tokens)}), "utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def write_hub_folder(folder: Path, *, fusion=False, tokenizer=True, weights="model.safetensors", seed=0) -> Path:
    """Write a small CLAP model as the Hub has it: config, preprocessor, weights, tokenizer."""
    from safetensors.torch import save_file
    from transformers import ClapConfig, ClapModel

    width, depths = SMALL
    audio = {"patch_embeds_hidden_size": width, "hidden_size": 8 * width, "depths": list(depths)}
    audio |= {"enable_fusion": True, "fusion_type": "aff_2d"} if fusion else {}
    text = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 256}
    config = ClapConfig(projection_dim=512, text_config=text, audio_config=audio)
    rng = torch.Generator().manual_seed(seed)
    state = {name: _drawn(name, tensor, rng) for name, tensor in ClapModel(config).state_dict().items()}
    write = save_file if weights.endswith("safetensors") else torch.save
    folder.mkdir(parents=True, exist_ok=True)
    write({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / weights)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "ClapFeatureExtractor",
                "feature_size": 64,
                "fft_window_size": 1024,
                "frequency_max": 14000,
                "frequency_min": 50,
                "hop_length": 480,
                "max_length_s": 10,
                "padding": "repeatpad",
                "sampling_rate": 48000,
                "top_db": None,
                "truncation": "fusion" if fusion else "rand_trunc",
            }
        )
    )
    if tokenizer:
        write_tokenizer(folder)
    return folder


def _drawn(name, like, rng):
    """Return random values for a named tensor; tables and counters stay as they are."""
    if name.startswith("logit_scale"):
        return torch.tensor(float(np.log(1 / 0.07)))
    if not like.is_floating_point():
        return like
    return _values(name, tuple(like.shape), rng)


def _values(name, shape, rng):
    normal = torch.randn(shape, generator=rng)
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        return normal * 5 - 40 if shape == (64,) else normal * 0.1  # 64 mel bands in decibels
    if last == "running_var":
        return (400 if shape == (64,) else 1) * (1 + 0.2 * normal.clamp(-2, 2))
    if last == "relative_position_bias_table":
        return normal
    if len(shape) < 2:  # of norms and biases
        return 0.1 * normal + (last == "weight")
    if "embeddings." in name:
        return normal
    return normal * 2 / np.sqrt(np.prod(shape[1:]))


def _add(state, prefix, rng, **shapes):
    for name, shape in shapes.items():
        full = f"{prefix}.{name}"
        state[full] = _values(full, shape, rng)


def _norm(state, prefix, width, rng, batch=False):
    _add(state, prefix, rng, weight=(width,), bias=(width,))
    if batch:
        _add(state, prefix, rng, running_mean=(width,), running_var=(width,))
        state[f"{prefix}.num_batches_tracked"] = torch.tensor(3080)


def _linear(state, prefix, inputs, outputs, rng, *kernel):
    _add(state, prefix, rng, weight=(outputs, inputs, *kernel), bias=(outputs,))


def _projections(side, width, dim, rng):
    state = {}
    _linear(state, f"{side}_projection.0", width, dim, rng)
    _linear(state, f"{side}_projection.2", dim, dim, rng)
    for number in (0, 3):
        _linear(state, f"{side}_transform.sequential.{number}", dim, dim, rng)
    return state


def _roberta(width, layers, rng):
    state, base = {}, "text_branch"
    for name, rows in (("word", VOCABULARY), ("position", 514), ("token_type", 1)):
        _add(state, f"{base}.embeddings.{name}_embeddings", rng, weight=(rows, width))
    _norm(state, f"{base}.embeddings.LayerNorm", width, rng)
    for number in range(layers):
        layer = f"{base}.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            _linear(state, f"{layer}.attention.self.{part}", width, width, rng)
        _linear(state, f"{layer}.attention.output.dense", width, width, rng)
        _norm(state, f"{layer}.attention.output.LayerNorm", width, rng)
        _linear(state, f"{layer}.intermediate.dense", width, 4 * width, rng)
        _linear(state, f"{layer}.output.dense", 4 * width, width, rng)
        _norm(state, f"{layer}.output.LayerNorm", width, rng)
    _linear(state, f"{base}.pooler.dense", width, width, rng)
    return state


def _htsat(width, depths, fusion, rng):
    state, base = {}, "audio_branch"
    state |= _spectrogram(f"{base}")
    _norm(state, f"{base}.bn0", 64, rng, batch=True)
    embed = f"{base}.patch_embed"
    _linear(state, f"{embed}.proj", 1, width, rng, 4, 4)
    _norm(state, f"{embed}.norm", width, rng)
    if fusion:
        _linear(state, f"{embed}.mel_conv2d", 1, width, rng, 4, 12)
        for branch, first in (("local_att", 0), ("global_att", 1)):
            model, inner = f"{embed}.fusion_model.{branch}", width // 4
            _linear(state, f"{model}.{first}", width, inner, rng, 1, 1)
            _norm(state, f"{model}.{first + 1}", inner, rng, batch=True)
            _linear(state, f"{model}.{first + 3}", inner, width, rng, 1, 1)
            _norm(state, f"{model}.{first + 4}", width, rng, batch=True)
    for stage, (depth, heads) in enumerate(zip(depths, HEADS, strict=True)):
        channels, side = width * 2**stage, 64 // 2**stage
        for number in range(depth):
            block = f"{base}.layers.{stage}.blocks.{number}"
            _norm(state, f"{block}.norm1", channels, rng)
            _add(state, f"{block}.attn", rng, relative_position_bias_table=(15 * 15, heads))
            state[f"{block}.attn.relative_position_index"] = _relative_positions(8)
            _linear(state, f"{block}.attn.qkv", channels, 3 * channels, rng)
            _linear(state, f"{block}.attn.proj", channels, channels, rng)
            _norm(state, f"{block}.norm2", channels, rng)
            _linear(state, f"{block}.mlp.fc1", channels, 4 * channels, rng)
            _linear(state, f"{block}.mlp.fc2", 4 * channels, channels, rng)
            if number % 2 and side > 8:
                state[f"{block}.attn_mask"] = _shift_mask(side, 8, 4)
        if stage < 3:
            _norm(state, f"{base}.layers.{stage}.downsample.norm", 4 * channels, rng)
            _add(state, f"{base}.layers.{stage}.downsample.reduction", rng, weight=(2 * channels, 4 * channels))
    _norm(state, f"{base}.norm", 8 * width, rng)
    _linear(state, f"{base}.tscam_conv", 8 * width, 527, rng, 2, 3)
    _linear(state, f"{base}.head", 527, 527, rng)
    return state


def _spectrogram(base):
    """The Fourier transform as two convolutions, and the mel filters: LAION's files hold them as weights."""
    from cmcr.encoders.clap_audio import mel_filters

    times, bins = np.arange(1024), np.arange(513)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * times / 1024)
    waves = np.exp(-2j * np.pi * np.outer(bins, times) / 1024) * hann
    stft = f"{base}.spectrogram_extractor.stft"
    return {
        f"{stft}.conv_real.weight": torch.from_numpy(waves.real.astype(np.float32))[:, None],
        f"{stft}.conv_imag.weight": torch.from_numpy(waves.imag.astype(np.float32))[:, None],
        f"{base}.logmel_extractor.melW": mel_filters("slaney"),
    }


def _relative_positions(side):
    """Return (side^2, side^2): for two places of a window, the row of the bias table for the way between them."""
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    return (y[:, None] - y + side - 1) * (2 * side - 1) + x[:, None] - x + side - 1


def _shift_mask(side, window, shift):
    """Return (windows, window^2, window^2): -100 between places that the shift brought together from apart."""
    place = torch.arange(side)
    region = (place >= side - window).int() + (place >= side - shift).int()
    grid = (3 * region[:, None] + region).view(side // window, window, side // window, window)
    grid = grid.transpose(1, 2).reshape(-1, window * window)
    return (grid[:, :, None] != grid[:, None]).float() * -100


def _byte_letters():
    """Return the 256 letters that stand for bytes in a byte-level BPE: printable ones for themselves, then others."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in kept] + [chr(256 + number) for number in range(256 - len(kept))]
