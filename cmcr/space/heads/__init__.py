"""Published heads as connected spaces: those of C-MCR, Ex-MCR, FreeBind, OmniBind and TextME."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.space.heads.read import import_heads

__all__ = ["import_heads"]

__getattr__ = lazily(__name__, {"read": ("import_heads",)})
