"""Encoders of texts alone: the base that other encoders are mapped into by texts."""
