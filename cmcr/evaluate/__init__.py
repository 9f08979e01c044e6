"""Evaluations, one folder each: what it measures and its page side by side."""
