"""How much of what labels need is shared by two modalities, in one of them, or in both together only."""
