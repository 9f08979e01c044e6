"""Readers of data-set layouts: items, labels, pairs and boxes, and what is wrong with the rest. No model code."""
