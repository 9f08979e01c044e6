"""What ``cmcr demo`` does."""

from cmcr.demo.run import PAIRS, Pair, commands, name_of, write_page, write_world

__all__ = ["PAIRS", "Pair", "commands", "name_of", "write_page", "write_world"]
