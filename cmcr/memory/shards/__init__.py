"""Shards as they lie on disk."""
