"""CLIP and its kin through open_clip: its models, its preprocessing, its tokenizers."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.decode.images import LONGEST, read_image
from cmcr.decode.transform import split_transform
from cmcr.devices import Precision, inference
from cmcr.encoders.base import text_of
from cmcr.encoders.hub import patient_hub
from cmcr.encoders.weights import SUFFIXES, find_weights, fingerprint, look_for, weights_folder
from cmcr.errors import ArtifactError, CmcrError, InputError, MissingExtraError, nearest
from cmcr.items import Item
from cmcr.modality import Modality

PREPROCESSING = "open_clip 1"
SCHEMAS = ("hf-hub:", "local-dir:")


@dataclass(frozen=True)
class _Source:
    """What open_clip is asked to make: its model name, its ``pretrained``, and how pictures are prepared."""

    name: str
    model: str
    pretrained: str | None
    preprocess: dict[str, Any]


class OpenClipEncoder:
    """A model of open_clip as an ``Encoder`` of images and texts.

    Preprocessing and tokenizer are open_clip's own: of the pretrained tag also when ``weights`` brings the file. Texts
    longer than the context are cut. The fingerprint covers the weights, the activation, the preprocessing and the
    context length, so that a copy with another preprocessing is not taken for the same encoder.

    Args:
        model: ``MODEL/PRETRAINED``, where PRETRAINED is one of open_clip's tags or a weights file; ``hf-hub:ORG/NAME``;
            ``local-dir:FOLDER``.
        device: A torch device.
        precision: Of the matrix products.
        weights: Where the file is looked for; for a tag also ``MODEL-TAG.safetensors`` and so on. What is not found is
            fetched by open_clip.

    Raises:
        InputError: unknown model or tag, no weights named, or a model whose activation is not the weights' own.
        ArtifactError: the weights cannot be read, do not fit the model, or are a program.
        MissingExtraError: open_clip is not installed.
    """

    modalities = (Modality.IMAGE, Modality.TEXT)

    def __init__(
        self, model: str, *, device: str = "cpu", precision: Precision = "fp32", weights: Sequence[Path] = ()
    ) -> None:
        self._library = _open_clip()
        source = self._source(model, weights)
        self.name, self._device, self._precision = f"open_clip:{source.name}", device, precision
        self._model, transform, self._tokens = self._create(source)
        self._picture, self._scale = split_transform(transform)
        self._longest = _longest(self._model.visual.preprocess_cfg)
        self._placed: set[Modality] = set()
        settings = {
            "preprocess": self._model.visual.preprocess_cfg,
            "context": self._tokens.context_length,
            "quick_gelu": any(type(part).__name__ == "QuickGELU" for part in self._model.modules()),
        }
        about = f"{PREPROCESSING} {json.dumps(settings, sort_keys=True, default=str)}"
        self.fingerprint = fingerprint(self._model.state_dict(), about)
        self.dim = int(self._vectors(Modality.TEXT, self._tokens(["a"])).shape[1])

    def prepare(self, item: Item, data: bytes) -> Any:
        """Decode a picture into pixels, or a text into tokens; see ``Encoder.prepare``."""
        if item.modality is Modality.IMAGE:
            return self._picture(read_image(data, longest=self._longest))
        return self._tokens([text_of(data)])[0]

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned; see ``Encoder.encode``."""
        import torch

        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        if modality not in self._placed:
            self._place(modality)
        batch = torch.stack(list(prepared)).to(self._device)
        vectors: np.ndarray = self._vectors(modality, self._scale(batch) if batch.ndim == 4 else batch).cpu().numpy()
        return vectors

    def _vectors(self, modality: Modality, batch: Any) -> Any:
        from torch.nn import functional

        encode = self._model.encode_image if modality is Modality.IMAGE else self._model.encode_text
        with inference(batch.device.type, self._precision):
            return functional.normalize(encode(batch).float(), dim=1)

    def _place(self, modality: Modality) -> None:
        """Move the tower of one modality to the device; the other one stays where it is."""
        from torch import nn

        model = self._model
        for name, part in model.named_children():
            if (name == "visual") == (modality is Modality.IMAGE):
                part.to(self._device)
        if modality is Modality.TEXT:  # a text tower may lie open in the model: its embeddings are the model's own
            for name, parameter in list(model.named_parameters(recurse=False)):
                setattr(model, name, nn.Parameter(parameter.to(self._device), requires_grad=False))
            for name, buffer in list(model.named_buffers(recurse=False)):
                setattr(model, name, buffer.to(self._device))
        self._placed.add(modality)

    def _source(self, model: str, weights: Sequence[Path]) -> _Source:
        for schema in SCHEMAS:
            if model.startswith(schema):
                where = model.removeprefix(schema)
                if schema == "hf-hub:":
                    return _Source(model, model, None, {})
                folder = find_weights(where, weights, "the folder")
                return _Source(f"{schema}{folder.name}", f"{schema}{folder}", None, {})
        architecture, _, pretrained = model.partition("/")
        known = self._library.list_models()
        if architecture not in known:
            raise InputError(f"unknown open_clip model {architecture!r}{nearest(architecture, known)}; see open_clip")
        tags = self._library.list_pretrained_tags_by_model(architecture)
        if Path(pretrained).suffix in SUFFIXES:
            file = find_weights(pretrained, weights)
            return _Source(f"{architecture}/{file.name}", architecture, str(file), self._usual(architecture, tags))
        if pretrained not in tags:
            raise InputError(
                f"open_clip:{model} names no weights; expected open_clip:{architecture}/TAG with one of "
                f"{', '.join(tags) or 'no tag'}, or a file ending in {' '.join(SUFFIXES)}{nearest(pretrained, tags)}"
            )
        return self._tagged(architecture, pretrained, weights)

    def _tagged(self, architecture: str, tag: str, weights: Sequence[Path]) -> _Source:
        config = self._library.get_pretrained_cfg(architecture, tag)
        trained, built = (
            each.get("quick_gelu", False) for each in (config, self._library.get_model_config(architecture))
        )
        if trained != built:
            raise _mismatch(f"{architecture}/{tag}", architecture, trained, tag)
        names = [f"{architecture}-{tag}{suffix}" for suffix in SUFFIXES]
        if url := config.get("url"):
            names.append(Path(url).name)
        file = next((found for name in names if (found := look_for(name, weights))), None)
        if file is None:
            return _Source(f"{architecture}/{tag}", architecture, tag, {})
        return _Source(f"{architecture}/{tag}", architecture, str(file), _preprocess(config))

    def _usual(self, architecture: str, tags: Sequence[str]) -> dict[str, Any]:
        """Return the preprocessing that all published weights of an architecture share, else open_clip's default."""
        each = [_preprocess(self._library.get_pretrained_cfg(architecture, tag)) for tag in tags]
        return each[0] if each and all(one == each[0] for one in each) else {}

    def _create(self, source: _Source) -> tuple[Any, Any, Any]:
        """Return the model in evaluation mode, its picture transform and its tokenizer."""
        arguments = {f"image_{key}": value for key, value in source.preprocess.items()}
        logging.disable(logging.CRITICAL)  # open_clip logs what it then raises
        try:
            if source.pretrained and self._is_openai_program(Path(source.pretrained), source.model):
                model, transform = self._from_program(source)
            else:
                with patient_hub():
                    model, _, transform = self._library.create_model_and_transforms(
                        source.model, pretrained=source.pretrained, require_pretrained=True, **arguments
                    )
            with patient_hub():
                return model.eval(), transform, self._library.get_tokenizer(source.model)
        except CmcrError:
            raise
        except Exception as error:  # open_clip and the hub raise whatever they like, assertions too
            raise _cannot(source, error) from error
        finally:
            logging.disable(logging.NOTSET)

    def _from_program(self, source: _Source) -> tuple[Any, Any]:
        from open_clip.factory import set_model_preprocess_cfg
        from open_clip.transform import PreprocessCfg, image_transform_v2

        model = self._library.load_openai_model(source.pretrained, precision="fp32", device="cpu")
        config = PreprocessCfg(**source.preprocess, size=model.visual.image_size)
        set_model_preprocess_cfg(model, asdict(config))
        return model, image_transform_v2(config, is_train=False)

    def _is_openai_program(self, file: Path, architecture: str) -> bool:
        """Tell whether a file is OpenAI's own TorchScript archive; refuse any other program, for it is code.

        The published archive's sha256 stands in its address.
        """
        if not zipfile.is_zipfile(file):
            return False
        with zipfile.ZipFile(file) as archive:
            if not any("/code/" in name for name in archive.namelist()):
                return False
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest not in (self._library.get_pretrained_url(architecture, "openai") or "").split("/"):
            raise ArtifactError(
                f"{file}: a TorchScript program (sha256 {digest[:12]}), and not the one that OpenAI published for "
                f"{architecture}; programs are not run: give its state dict as .safetensors or .pt"
            )
        if not self._library.get_model_config(architecture).get("quick_gelu"):
            raise _mismatch(f"{architecture}/{file.name}", architecture, True, file.name)
        return True


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", "this encoder") from error
    return open_clip


def _preprocess(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in ("mean", "std", "interpolation", "resize_mode") if config.get(key)}


def _longest(config: dict[str, Any]) -> float:
    """Return how many short edges of a thin picture's long edge a transform looks at, or can scale to anything.

    Scaled by its short edge, only the middle is seen; by both, all; by its long edge, the short one becomes half a
    pixel at last.
    """
    match config.get("resize_mode"):
        case "squash":
            return math.inf
        case "longest":
            size = config.get("size", 224)
            return float(2 * min(size if isinstance(size, tuple | list) else (size,)) - 2)
        case _:
            return LONGEST


def _mismatch(name: str, architecture: str, trained: bool, pretrained: str) -> InputError:
    right = architecture.removesuffix("-quickgelu") + ("-quickgelu" if trained else "")
    return InputError(
        f"open_clip:{name}: QuickGELU mismatch: these weights were trained {'with' if trained else 'without'} it; "
        f"use open_clip:{right}/{pretrained}"
    )


def _cannot(source: _Source, error: Exception) -> ArtifactError:
    reason = " ".join(str(error).split())[:240] or type(error).__name__
    if source.pretrained and Path(source.pretrained).exists():
        return ArtifactError(
            f"{source.pretrained}: cannot be loaded as {source.model} ({reason}); check file and model"
        )
    cure = "download the model elsewhere and give it as open_clip:local-dir:FOLDER"
    if source.pretrained:
        file = f"{source.name.replace('/', '-')}.safetensors"
        cure = f"give --weights FILE, or put it as {file} into {weights_folder()}"
    return ArtifactError(f"open_clip:{source.name}: cannot be made ready ({reason}); without a network {cure}")
