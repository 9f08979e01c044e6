"""Take frames and sound out of videos: another name of ``cmcr.decode.videos``."""

from cmcr.decode.videos import duration, evenly, frames_at, samples

__all__ = ["duration", "evenly", "frames_at", "samples"]
