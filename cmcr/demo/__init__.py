"""What ``cmcr demo`` does."""

from cmcr.demo.run import PAIRS, SIZES, Pair, commands, name_of, write_page, write_world

__all__ = ["PAIRS", "SIZES", "Pair", "commands", "name_of", "write_page", "write_world"]
