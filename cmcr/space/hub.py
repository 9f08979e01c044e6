"""Spaces on the Hub: fetched by ``org/name``, and pushed. The only file here that knows huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cmcr.decode import memory_bytes
from cmcr.encoders.hub import patient_hub
from cmcr.errors import ArtifactError, InputError, MissingExtraError
from cmcr.reading import plainly, why
from cmcr.space.card import About

FILES = ("config.json", "model.safetensors", "README.md")
"""What a space is made of; nothing else is fetched, whatever else lies there."""
MOST_BYTES = {"config.json": 16 << 20, "README.md": 16 << 20}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Shared:
    """What a space does with folders and the Hub as other libraries' models do."""

    def save(self, path: str | Path, about: About | None = None) -> None:
        """Write the space into a folder."""
        raise NotImplementedError

    def save_pretrained(self, path: str | Path, about: About | None = None) -> None:
        """Write the space into a folder that ``from_pretrained`` opens; ``about`` goes into its card.

        Raises:
            InputError: the folder is a memory.
        """
        self.save(path, about)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        about: About | None = None,
        private: bool = False,
        token: str | None = None,
        revision: str | None = None,
        message: str = "A connected space",
        create_pr: bool = False,
    ) -> str:
        """Put the space on the Hub in one commit, making the repository where there is none.

        Args:
            repo_id: ``org/name``.
            about: What the card tells that the space does not know.
            private: Of a new repository; what is there stays as it is.
            token: Of the Hub; None: the one that ``hf auth login`` stored, or ``HF_TOKEN``.
            revision: The branch; None: ``main``.
            message: Of the commit.
            create_pr: Propose it, instead of changing the branch.

        Returns:
            The address of the commit.

        Raises:
            InputError: no such name can be, or the Hub refuses.
            MissingExtraError: huggingface_hub is not installed.
        """
        check_name(repo_id)
        with TemporaryDirectory() as folder, _told(repo_id, "cannot be pushed") as hub:
            self.save(folder, about)
            api = hub.HfApi(token=token)
            api.create_repo(repo_id, private=private or None, exist_ok=True)
            parts = [hub.CommitOperationAdd(name, str(Path(folder, name))) for name in FILES]
            options = {"revision": revision, "create_pr": create_pr, "commit_message": message}
            return str(api.create_commit(repo_id, parts, **options).commit_url)


def local_folder(path: str | Path, **hub: Any) -> Path:
    """Return the folder of a space: the one named, or one of the cache into which ``org/name`` was fetched.

    A name is looked for on the Hub only where neither it nor its first part is a folder here.
    """
    folder = Path(path)
    if hub or (is_name(str(path)) and not folder.exists() and not folder.parent.is_dir()):
        return fetch(str(path), **hub)
    return folder


def is_name(name: str) -> bool:
    """Tell whether a name is of the form ``org/name``."""
    return _NAME.fullmatch(name) is not None and ".." not in name and "--" not in name


def check_name(name: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        InputError: it is none.
    """
    if not is_name(name):
        raise InputError(f"{name!r}: expected ORG/NAME of letters, digits, '-', '_' and '.'")


def fetch(
    name: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_only: bool = False,
) -> Path:
    """Fetch the files of a space from the Hub into its cache, and return the folder.

    Only ``config.json``, ``model.safetensors`` and ``README.md`` are asked for, and only after their sizes are known.

    Args:
        name: ``org/name``.
        revision: A branch, tag or commit.
        token: Of the Hub, for what is not public.
        cache_dir: Where files are kept; None: where the Hub's library keeps them.
        local_only: Ask nobody; take what the cache has.

    Raises:
        InputError: no such name can be; nobody has it; or a file is too large to be a space's.
        MissingExtraError: huggingface_hub is not installed.
    """
    check_name(name)
    with _told(name, "is no folder here, and cannot be fetched from the Hub") as hub, patient_hub():
        alone = local_only or hub.constants.HF_HUB_OFFLINE
        commit = revision if alone else _checked_commit(hub, name, revision, token)
        kept = {"token": token, "cache_dir": cache_dir, "local_files_only": alone}
        # The card may be missing where nobody can be asked.
        found = [hub.hf_hub_download(name, part, revision=commit, **kept) for part in (FILES[:2] if alone else FILES)]
        if not alone:  # so that the cache knows the commit by the name of the branch, too
            hub.hf_hub_download(name, FILES[0], revision=revision, **kept)
        return Path(found[0]).parent


def _checked_commit(hub: Any, name: str, revision: str | None, token: str | None) -> str:
    """Return the commit of a revision, whose files are a space's and of sizes that a space has."""
    found = hub.HfApi(token=token).model_info(name, revision=revision, files_metadata=True)
    sizes = {each.rfilename: each.size for each in found.siblings or ()}
    for part in FILES:
        if part not in sizes:
            raise InputError(f"{name} holds no {part}; it is no connected space")
        most = MOST_BYTES.get(part, memory_bytes() // 2)
        if sizes[part] is None or sizes[part] > most:
            raise InputError(f"{name}: {part} has {sizes[part]} bytes, expected at most {most}; it was not fetched")
    return str(found.sha)


@contextmanager
def _told(name: str, what: str) -> Iterator[Any]:
    """Give the Hub's library, and tell in one line of ours what it raises."""
    try:
        import huggingface_hub.constants
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"{name} is no folder here; the Hub") from None
    try:
        with plainly():
            yield huggingface_hub
    except (ValueError, OSError) as error:
        raise _complaint(error, f"{name} {what}") from error


def _complaint(error: Exception, what: str) -> ArtifactError:
    code = getattr(getattr(error, "response", None), "status_code", None)
    cure = {401: "check the name, and log in with: hf auth login", 403: "your token may not do that"}
    cure[404] = "check the name"
    missing = type(error).__name__ == "LocalEntryNotFoundError"
    reason = code or ("it cannot be reached, and its cache has no such space" if missing else why(error))
    return ArtifactError(f"{what} ({reason}); {cure.get(code or 0, 'check the path or the connection')}")
