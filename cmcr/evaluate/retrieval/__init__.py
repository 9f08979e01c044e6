"""Recall between true pairs."""
