"""Sweep: recall against the weight of an encoder, where several see one item."""
