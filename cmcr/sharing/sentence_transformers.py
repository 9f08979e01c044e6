"""Write a space as a model folder of the library sentence-transformers, with a router that goes by modality."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from cmcr.errors import InputError, MissingExtraError
from cmcr.files import write_atomic
from cmcr.space import ConnectedSpace

LOADING = "SentenceTransformer({folder!r}, trust_remote_code=True)"
"""How it is loaded: the library wants to be told that code of an installed package other than its own may run."""


def export_sentence_transformer(space: ConnectedSpace, folder: Path) -> list[Path]:
    """Write a folder that ``SentenceTransformer(folder, trust_remote_code=True)`` opens where cmcr is installed.

    The model routes by modality as the library tells it: texts, pictures (PIL or files), sounds (files, or ``{"audio":
    {"array": samples, "sampling_rate": hertz}}``); files of points with ``task="point_cloud"``.

    Args:
        space: Whose encoders run where the model is loaded.
        folder: New, or empty.

    Returns:
        The files written.

    Raises:
        InputError: something is in the folder.
        MissingExtraError: the library is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Router

        from cmcr.sharing.st_module import SpaceModule
    except ImportError:
        raise MissingExtraError("sentence-transformers 6", "sentence-transformers", "this export") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: something is there already; name a new folder")
    module = SpaceModule(space)
    names = module.modalities
    router = Router({name: [module] for name in names}, default_route="text" if "text" in names else names[0])
    staged = folder.with_name(f".{folder.name[:32]}.{secrets.token_hex(8)}.partial")
    try:
        staged.mkdir(parents=True)
        SentenceTransformer(modules=[router], device="cpu").save(str(staged), create_model_card=False)
        _write_card(staged, space)
        if folder.exists():
            folder.rmdir()
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _write_card(folder: Path, space: ConnectedSpace) -> None:
    """Put the space's card in the root, as that of a model of the library."""
    card = next(folder.rglob("space/README.md")).read_text(encoding="utf-8")
    text = card.replace("library_name: cmcr", "library_name: sentence-transformers", 1)
    before, fence, after = text.partition("```python\n")
    _, _, rest = after.partition("```\n")
    use = "from sentence_transformers import SentenceTransformer\n\n"
    use += f"# cmcr is installed beside it: pip install cmcr\nmodel = {LOADING.format(folder='.')}\n"
    use += f"vectors = model.encode([...])  # (N, {space.dim}): texts, pictures or sounds\n"
    write_atomic(folder / "README.md", f"{before}{fence}{use}```\n{rest}".encode())
